"""Batches cut and coloured on the device against the per-picture path."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from harness.data import augment, gpu_augment
from harness.data.augment import Augment, AugmentParams, Box
from harness.data.cache import PixelCache
from harness.data.gpu_augment import ImagesOnDevice
from tests.helpers.pixel_caches import cache_of
from tests.model.test_packed_attention import CountedOperations

CPU = torch.device("cpu")


def smooth_images(shapes: list[tuple[int, int]]) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    pictures = []
    for height, width in shapes:
        smooth = cv2.resize(random.uniform(0, 255, (5, 7, 3)), (width, height), interpolation=cv2.INTER_CUBIC)
        cv2.circle(smooth, (width // 3, height // 2), height // 4, random.uniform(0, 255, 3).tolist(), -1)
        pictures.append(np.clip(smooth + random.normal(0, 8, smooth.shape), 0, 255).astype(np.uint8))
    return pictures


IMAGES = smooth_images([(96, 128), (96, 96), (140, 96), (96, 200), (97, 131)])
CACHE = cache_of(IMAGES)
ON_DEVICE = ImagesOnDevice(CACHE, CPU)
UPLOADED = gpu_augment.upload(CACHE, np.arange(len(IMAGES)), CPU)


@pytest.mark.parametrize("at_once", [1, 15_000, 1 << 24])
def test_images_of_several_shards_are_copied_to_the_device(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    # Image i of the list: the last first, from two shards, with an image that could not be decoded in between.
    order = [4, 2, 0, 3, 1]
    halves = cache_of(IMAGES[:2]), cache_of(IMAGES[2:])
    cache = PixelCache(
        shards=tuple(half.shards[0] for half in halves),
        shard=np.array([0 if i < 2 else 1 for i in order] + [0], dtype=np.int32),
        offsets=np.array([np.concatenate([half.offsets for half in halves])[i] for i in order] + [0]),
        heights=np.array([len(IMAGES[i]) for i in order] + [0], dtype=np.int32),
        widths=np.array([IMAGES[i].shape[1] for i in order] + [0], dtype=np.int32),
        digests=("",) * 6,
        bad={5: "truncated"},
    )
    monkeypatch.setattr(gpu_augment, "_UPLOAD", at_once)
    resident = gpu_augment.upload(cache, np.arange(6), CPU)
    assert cache.nbytes == resident.pixels.numel() == sum(image.size for image in IMAGES)
    for number, i in enumerate(order):
        np.testing.assert_array_equal(cache.image(number), IMAGES[i])
        start, rows = int(resident.starts[number]), IMAGES[i].shape[0] * IMAGES[i].shape[1]
        np.testing.assert_array_equal(resident.pixels[start : start + rows].numpy(), IMAGES[i].reshape(-1, 3))
    two = gpu_augment.upload(cache, np.array([3, 0]), CPU)
    np.testing.assert_array_equal(two.pixels.numpy(), np.concatenate([IMAGES[i].reshape(-1, 3) for i in (3, 4)]))
    assert two.starts.tolist() == [0, 96 * 200]
    assert two.widths.tolist() == [200, 131]


def both_paths(settings: Augment, size: int, count: int = 40) -> tuple[np.ndarray, np.ndarray, list[AugmentParams]]:
    """The same recipes on the per-picture path and in one batch: uint8 levels (b, S, S, 3) of each."""
    pictures = np.arange(count, dtype=np.int64) % len(IMAGES)
    recipes = []
    for sample, picture in enumerate(pictures):
        height, width = IMAGES[picture].shape[:2]
        recipes.append(augment.draw(settings, sample=sample, epoch=0, height=height, width=width, size=size))
    single = np.stack(
        [augment.apply(CACHE.image(int(p)), recipe, size) for p, recipe in zip(pictures, recipes, strict=True)]
    )
    levels = gpu_augment.batch(ON_DEVICE, pictures, recipes, size)
    assert levels.shape == (count, 3, size, size)
    assert levels.dtype == (torch.uint8 if settings.policy == "none" else torch.float32)
    assert torch.equal(levels, levels.round())
    assert levels.min() >= 0
    assert levels.max() <= 255
    return single, levels.permute(0, 2, 3, 1).numpy(), recipes


def test_centre_crops_are_the_same_bits() -> None:
    single, batch, _ = both_paths(Augment("none"), 96)
    assert np.array_equal(single, batch)


def test_a_box_of_the_right_size_is_read_once_and_a_smaller_one_four_times() -> None:
    numbers, flips = np.array([0, 3]), [False, True]
    boxes = [Box(0, 3, 90, 90), Box(6, 20, 90, 90)]
    with CountedOperations() as counted:
        exact = gpu_augment.crop_and_resize(UPLOADED, numbers, boxes, flips, 90)
    assert counted.calls["index"] == 3  # where each image begins, its width, the pixels
    assert counted.calls.total() <= 15
    cut = [IMAGES[i][box.top : box.top + 90, box.left : box.left + 90] for i, box in zip(numbers, boxes, strict=True)]
    assert np.array_equal(exact.permute(0, 2, 3, 1), np.stack([cut[0], cut[1][:, ::-1]]))
    with CountedOperations() as counted:
        gpu_augment.crop_and_resize(UPLOADED, numbers, [boxes[0], Box(6, 20, 80, 90)], flips, 90)
    assert counted.calls["index"] == 6


@pytest.mark.parametrize("size", [64, 96, 160])
def test_cut_and_mirrored_images_are_within_two_levels(size: int) -> None:
    single, batch, recipes = both_paths(Augment("standard", color_jitter=0.0), size)
    difference = np.abs(single.astype(int) - batch.astype(int))
    assert difference.max() <= 2
    assert difference.mean() < 0.3
    assert {recipe.flip for recipe in recipes} == {False, True}
    shrinks = [max(recipe.box.height, recipe.box.width) > size for recipe in recipes]
    assert any(shrinks) == (size < 160)


def test_each_image_has_its_own_jitter() -> None:
    single, batch, recipes = both_paths(Augment("standard", color_jitter=0.4), 96)
    difference = np.abs(single.astype(int) - batch.astype(int))
    assert len({recipe.jitter[0][0] for recipe in recipes}) == 3
    assert difference.max() <= 5  # a level lost to rounding grows by the factors that follow
    assert np.mean(difference > 2) < 0.01


def test_shrinking_is_antialiased_however_far() -> None:
    boxes = [Box(0, 0, 96, 128), Box(3, 4, 90, 17)]
    batch = gpu_augment.crop_and_resize(UPLOADED, np.array([0, 0]), boxes, [False, True], 20)
    for row, (top, left, height, width) in enumerate(boxes):
        cut = torch.from_numpy(IMAGES[0][top : top + height, left : left + width]).permute(2, 0, 1)[None].float()
        expected = torch.nn.functional.interpolate(cut, (20, 20), mode="bilinear", antialias=True)[0]
        expected = expected.flip(2) if row == 1 else expected
        assert (batch[row] - expected).abs().max() <= 0.501  # rounding to whole levels


def test_a_large_batch_is_done_in_parts_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    _, whole, _ = both_paths(Augment("standard"), 32, count=11)
    monkeypatch.setattr(gpu_augment, "_CHUNK", 4)
    _, parts, _ = both_paths(Augment("standard"), 32, count=11)
    assert np.array_equal(whole, parts)


def test_images_stay_on_a_gpu_only_if_they_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not gpu_augment.fits(10, CPU)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000, 2000))
    for share, most in ((1.0, 399), (0.25, 99)):
        monkeypatch.setattr(torch.cuda, "get_per_process_memory_fraction", lambda device, share=share: share)
        assert gpu_augment.fits(most, torch.device("cuda:0"))
        assert not gpu_augment.fits(most + 1, torch.device("cuda:0"))


@pytest.mark.parametrize("policy", ["none", "standard"])
def test_without_the_images_on_the_device_a_batch_is_the_same_bits(
    policy: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    settings = Augment(policy)
    dropped = ImagesOnDevice(CACHE, CPU)
    with caplog.at_level("INFO", "harness"):
        assert dropped.drop()
        assert not dropped.drop()
    assert caplog.messages == [
        "Out of memory: images no longer stay on the device; each batch copies its images there."
    ]
    _, expected, _ = both_paths(settings, 64, count=11)
    monkeypatch.setattr("tests.data.test_gpu_augment.ON_DEVICE", dropped)
    _, batch, _ = both_paths(settings, 64, count=11)
    assert np.array_equal(batch, expected)
