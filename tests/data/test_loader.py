"""Batches are the same at any number of processes, workers and restarts."""

from __future__ import annotations

import dataclasses
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from harness.data import augment, mixup
from harness.data.augment import Augment
from harness.data.gpu_augment import ImagesOnDevice
from harness.data.loader import Batch, TrainBatches, share_of
from harness.data.prefetch import LoaderProcess, Normalise
from tests.data.test_prefetch import our_threads
from tests.helpers.pixel_caches import cache_of, cropped, split_of

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PICTURES, CLASSES, SIZE = 17, 4, 16
LABELS = np.arange(PICTURES) % CLASSES
CPU = torch.device("cpu")
DROP_PATH = np.array([0.0, 0.0, 0.25, 0.5])

EVERYTHING = {
    "none": Augment("none"),
    "standard": Augment("standard", color_jitter=0.4, random_erasing=0.5),
    "randaugment": Augment("randaugment"),
    "trivialaugment": Augment("trivialaugment", random_erasing=0.5),
    "augmix": Augment("augmix"),
    "autoaugment": Augment("autoaugment"),
    "mixed": Augment("standard", color_jitter=0.0, mixup=0.8, cutmix=1.0),
}


def some_pictures(count: int) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    shapes = [(20, 20 + int(extra)) for extra in random.integers(0, 9, count)]
    return [cv2.resize(random.uniform(0, 255, (4, 4, 3)), shape[::-1]).astype(np.uint8) for shape in shapes]


CACHE = cache_of(some_pictures(PICTURES + 3))
INDICES = np.arange(PICTURES)[::-1] + 3  # where sample 0, 1, ... lies in the cache


def batches(
    settings: Augment = EVERYTHING["standard"],
    *,
    labels: np.ndarray = LABELS,
    on_device: ImagesOnDevice | None = None,
    crop_size: int = SIZE,
    device: torch.device = CPU,
    rank: int = 0,
    world: int = 1,
    workers: int = 1,
    **changes: object,
) -> TrainBatches:
    arguments: dict[str, object] = {
        "num_classes": CLASSES,
        "batch_size": 5,
        "augment": settings,
        "label_smoothing": 0.1,
        "drop_path": DROP_PATH,
    }
    return TrainBatches(
        split_of(CACHE, INDICES, labels, on_device),
        cropped(crop_size, MEAN, STD),
        LoaderProcess(device, rank, world, workers),
        **{**arguments, **changes},  # type: ignore[arg-type]
    )


def drawn(loader: TrainBatches, epoch: int = 0, start_step: int = 0) -> list[Batch]:
    """All batches of an epoch, copied: a batch is valid until the next one is drawn."""
    copies = []
    for batch in loader.epoch(epoch, start_step):
        scale = None if batch.drop_path_scale is None else batch.drop_path_scale.clone()
        copies.append(
            dataclasses.replace(
                batch,
                images=batch.images.clone(),
                targets=batch.targets.clone(),
                weight=batch.weight.clone(),
                drop_path_scale=scale,
            )
        )
    return copies


def same(first: Batch, second: Batch) -> bool:
    assert first.drop_path_scale is not None
    assert second.drop_path_scale is not None
    return (
        torch.equal(first.images, second.images)
        and torch.equal(first.targets, second.targets)
        and np.array_equal(first.samples, second.samples)
        and torch.equal(first.weight, second.weight)
        and (first.total, first.mass) == (second.total, second.mass)
        and torch.equal(first.drop_path_scale, second.drop_path_scale)
    )


def joined(shares: list[Batch]) -> Batch:
    """The global batch from the shares of all processes, stand-ins left out."""
    real = [share for share in shares if share.weight.all()]
    return Batch(
        torch.cat([share.images for share in real]),
        torch.cat([share.targets for share in real]),
        np.concatenate([share.samples for share in real]),
        torch.cat([share.weight for share in real]),
        shares[0].total,
        torch.cat([share.drop_path_scale for share in real if share.drop_path_scale is not None]),
        shares[0].mass,
    )


@pytest.mark.parametrize("name", EVERYTHING)
@pytest.mark.parametrize("world", [2, 3])
def test_processes_together_see_the_batches_of_one(name: str, world: int) -> None:
    alone = drawn(batches(EVERYTHING[name]), epoch=2)
    assert [batch.total for batch in alone] == [5, 5, 5, 2]
    together = [drawn(batches(EVERYTHING[name], rank=rank, world=world, workers=2), epoch=2) for rank in range(world)]
    for step, batch in enumerate(alone):
        assert same(joined([shares[step] for shares in together]), batch)
        assert batch.images.shape == (batch.total, 3, SIZE, SIZE)
        assert batch.images.is_contiguous()


@pytest.mark.parametrize("name", EVERYTHING)
def test_the_number_of_workers_does_not_change_the_batches(name: str) -> None:
    one, three = drawn(batches(EVERYTHING[name])), drawn(batches(EVERYTHING[name], workers=3))
    assert len(one) == 4
    assert all(same(a, b) for a, b in zip(one, three, strict=True))


@pytest.mark.parametrize("name", ["standard", "mixed"])
@pytest.mark.parametrize("start", [0, 1, 3, 4])
def test_an_epoch_continued_in_the_middle_is_the_same(name: str, start: int) -> None:
    loader = batches(EVERYTHING[name])
    whole, rest = drawn(loader, 1), drawn(loader, 1, start)
    assert len(rest) == 4 - start
    assert all(same(a, b) for a, b in zip(whole[start:], rest, strict=True))


def test_every_epoch_visits_every_image_once_in_its_own_order() -> None:
    loader = batches()
    orders = [np.concatenate([batch.samples for batch in drawn(loader, epoch)]) for epoch in range(3)]
    for order in orders:
        assert order.dtype == np.int64
        assert np.array_equal(np.sort(order), np.arange(PICTURES))
    assert not np.array_equal(orders[0], orders[1])
    assert not np.array_equal(orders[1], orders[2])
    other_seed = np.concatenate([batch.samples for batch in drawn(batches(Augment("standard", seed=1)))])
    assert not np.array_equal(orders[0], other_seed)
    assert loader.steps_per_epoch == 4
    assert batches(batch_size=17).steps_per_epoch == 1


def test_a_process_without_a_share_gets_a_stand_in_of_no_weight() -> None:
    # The last batch has two images for four processes.
    last = [drawn(batches(rank=rank, world=4))[3] for rank in range(4)]
    assert [batch.weight.tolist() for batch in last] == [[1.0], [1.0], [0.0], [0.0]]
    assert all(batch.total == 2 and len(batch.images) == len(batch.targets) == 1 for batch in last)
    assert last[2].samples[0] == last[0].samples[0]


@pytest.mark.parametrize(("total", "world"), [(5, 1), (5, 2), (5, 3), (2, 4), (64, 8), (0, 2)])
def test_shares_are_contiguous_and_differ_by_one_at_most(total: int, world: int) -> None:
    bounds = [share_of(total, rank, world) for rank in range(world)]
    assert [i for start, stop in bounds for i in range(start, stop)] == list(range(total))
    sizes = [stop - start for start, stop in bounds]
    assert max(sizes) - min(sizes) <= 1


def test_images_and_targets_belong_to_their_samples() -> None:
    normalise = Normalise(MEAN, STD)
    settings = EVERYTHING["standard"]
    erased = 0
    for batch in drawn(batches(settings), epoch=3):
        for image, target, sample in zip(batch.images, batch.targets, batch.samples, strict=True):
            picture = CACHE.image(int(INDICES[sample]))
            height, width = picture.shape[:2]
            recipe = augment.draw(settings, sample=int(sample), epoch=3, height=height, width=width, size=SIZE)
            expected = np.empty((3, SIZE, SIZE), np.float32)
            normalise.image(augment.apply(picture, recipe, SIZE), expected)
            if recipe.erase:
                erased += 1
                top, left, h, w = recipe.erase
                expected[:, top : top + h, left : left + w] = 0
            assert np.array_equal(image.numpy(), expected)
            assert target.argmax() == LABELS[sample]
            assert target.sum().item() == pytest.approx(1)
            assert target.max().item() == pytest.approx(0.925)
    assert 3 < erased < 14


def test_a_mixed_batch_is_the_plain_one_mixed() -> None:
    settings = EVERYTHING["mixed"]
    plain = drawn(batches(Augment("standard", color_jitter=0.0)))
    kinds = set()
    for step, (batch, original) in enumerate(zip(drawn(batches(settings)), plain, strict=True)):
        mix = mixup.draw(settings, epoch=0, step=step, size=SIZE)
        assert mix is not None
        kinds.add(mix.box is None)
        mixup.mix_pairs(original.images, original.targets, mix)
        assert torch.equal(batch.images, original.images)
        assert torch.equal(batch.targets, original.targets)
    assert kinds == {True, False}


def test_drop_path_keeps_the_mean_and_follows_the_sample() -> None:
    assert all(batch.drop_path_scale is None for batch in drawn(batches(drop_path=None)))
    seen: dict[int, list[torch.Tensor]] = {}
    for epoch in range(60):
        for batch in drawn(batches(crop_size=1), epoch):
            assert batch.drop_path_scale is not None
            assert batch.drop_path_scale.shape == (len(batch.samples), 4)
            for sample, keep in zip(batch.samples, batch.drop_path_scale, strict=True):
                seen.setdefault(int(sample), []).append(keep)
    values = torch.stack([keep for keeps in seen.values() for keep in keeps])  # (1020, 4)
    for branch, rate in enumerate(DROP_PATH):
        allowed = torch.tensor([0.0, 1 / (1 - rate)], dtype=torch.float32)
        assert torch.isin(values[:, branch], allowed).all()
        assert (values[:, branch] == 0).float().mean().item() == pytest.approx(rate, abs=0.05)
    assert len({tuple(keep.tolist()) for keep in seen[0]}) > 1


@pytest.mark.parametrize("name", ["none", "standard", "mixed", "randaugment", "augmix"])
def test_images_on_the_device_give_the_same_batches(name: str) -> None:
    on_device = ImagesOnDevice(CACHE, CPU)
    settings = EVERYTHING[name]
    for a, b in zip(drawn(batches(settings)), drawn(batches(settings, on_device=on_device, workers=2)), strict=True):
        assert torch.equal(a.targets, b.targets)
        assert np.array_equal(a.samples, b.samples)
        assert b.images.is_contiguous()
        levels = (a.images - b.images).abs() * torch.tensor(STD)[:, None, None] * 255
        assert levels.max() < 1e-3 if name in ("none", "randaugment") else (levels > 2.01).float().mean() < 0.03


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("resides", [False, True])
@pytest.mark.parametrize("name", EVERYTHING)
def test_a_gpu_gives_the_batches_of_the_cpu(name: str, resides: bool) -> None:
    gpu = torch.device("cuda")
    on_device = ImagesOnDevice(CACHE, gpu) if resides else None
    ours = drawn(batches(EVERYTHING[name], device=gpu, on_device=on_device, workers=2))
    for a, b in zip(drawn(batches(EVERYTHING[name])), ours, strict=True):
        assert all(
            value.device.type == "cuda"
            for value in (b.images, b.targets, b.weight, b.drop_path_scale)
            if value is not None
        )
        assert torch.equal(a.targets, b.targets.cpu())
        levels = (a.images - b.images.cpu()).abs() * torch.tensor(STD)[:, None, None] * 255
        exact = not resides or name in ("none", "randaugment", "trivialaugment")
        assert levels.max() < 1e-3 if exact else (levels > 2.01).float().mean() < 0.03


def test_leaving_an_epoch_early_ends_the_threads() -> None:
    before = our_threads()  # of earlier tests; they may end meanwhile
    epoch = batches(workers=3).epoch(0)
    next(epoch)
    assert our_threads() > 0
    epoch.close()  # type: ignore[attr-defined]
    assert our_threads() <= before


def test_an_error_in_a_thread_reaches_the_caller() -> None:
    with pytest.raises(AssertionError, match="A crop of 21 pixels does not fit into an image of 20 x"):
        drawn(batches(EVERYTHING["none"], crop_size=21, workers=2))


BALANCED: dict[str, Any] = {"order": "balanced", "labels": np.array([0] * 12 + [1] * 3 + [2, 3]), "batch_size": 6}


@pytest.mark.parametrize("world", [2, 3])
def test_balanced_batches_are_the_same_on_any_number_of_processes(world: int) -> None:
    settings, changes = EVERYTHING["mixed"], BALANCED | {"class_weights": np.array([0.5, 1.0, 2.0, 4.0], np.float32)}
    alone = drawn(batches(settings, **changes), epoch=1)
    assert [batch.total for batch in alone] == [6, 6, 5]
    together = [drawn(batches(settings, **changes, rank=rank, world=world), epoch=1) for rank in range(world)]
    for step, batch in enumerate(alone):
        assert same(joined([shares[step] for shares in together]), batch)
        assert {shares[step].mass for shares in together} == {batch.mass}
    # Seventeen images of four classes, and from place 17 on it is the turn of class 1.
    labels = BALANCED["labels"][np.concatenate([batch.samples for batch in alone])]
    assert np.bincount(labels).tolist() == [4, 5, 4, 4]
    assert sum(batch.mass for batch in alone) == 4 * 0.5 + 5 * 1.0 + 4 * 2.0 + 4 * 4.0


def test_a_balanced_epoch_continued_in_the_middle_is_the_same() -> None:
    loader = batches(EVERYTHING["mixed"], **BALANCED)
    whole, rest = drawn(loader, 2), drawn(loader, 2, 1)
    assert len(rest) == 2
    assert all(same(a, b) for a, b in zip(whole[1:], rest, strict=True))


def test_a_repeated_image_is_augmented_in_another_way() -> None:
    [batch] = drawn(batches(EVERYTHING["standard"], **BALANCED | {"batch_size": 17}))
    repeats = np.flatnonzero(batch.samples == 15)  # the only image of class 2
    assert len(repeats) == 4
    images, scale = batch.images[repeats], batch.drop_path_scale
    assert scale is not None
    assert len({image.numpy().tobytes() for image in images}) == 4
    assert len({tuple(row.tolist()) for row in scale[repeats]}) > 1


def test_without_class_weights_the_mass_of_a_batch_is_its_number_of_images() -> None:
    assert [batch.mass for batch in drawn(batches())] == [5.0, 5.0, 5.0, 2.0]
