"""Order in blocks of the cache: the same everywhere, read in the order of the disk, ahead of the batches."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from harness.data import loader, read_ahead
from harness.data.augment import Augment
from harness.data.cache import PixelCache, open_cache, store_folder
from harness.data.eval_loader import EvalBatches
from harness.data.loader import TrainBatches
from harness.data.prefetch import LoaderProcess
from harness.data.read_ahead import ReadAhead, on_disk, ranges, stored_order
from harness.data.resize import Resize
from harness.data.sampler import in_blocks
from harness.data.store import ShardWriter
from tests.helpers.pixel_caches import cropped, split_of

IMAGES, SIDE, BATCH = 37, 8, 5
DIGESTS = [f"{(number * 11) % IMAGES:032x}" for number in range(IMAGES)]
TRAIN = np.delete(np.arange(IMAGES), [11, 15])  # the other two are of another split


def cache_of_shards(caches: Path, order: np.ndarray, shards: int) -> PixelCache:
    """Image i is (8, 8 + i mod 3) pixels of level i; written in this order, by turns into so many shards."""
    folder = store_folder(Resize(SIDE), caches)
    folder.mkdir(parents=True)
    writers = [ShardWriter(folder) for _ in range(shards)]
    for turn, number in enumerate(order.tolist()):
        writers[turn % shards].add(DIGESTS[number], np.full((SIDE, SIDE + number % 3, 3), number, np.uint8))
    for writer in writers:
        writer.finish()
    return open_cache("images", [str(n) for n in range(IMAGES)], resize=Resize(SIDE), digests=DIGESTS, cache_dir=caches)


@pytest.fixture
def cache(tmp_path: Path) -> PixelCache:
    return cache_of_shards(tmp_path, np.argsort(DIGESTS), 2)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader, "in_blocks", functools.partial(in_blocks, block=3, window=9))
    monkeypatch.setattr(read_ahead, "WINDOW", 9)


def batches(cache: PixelCache, *, rank: int = 0, world: int = 1, workers: int = 1, **changes: object) -> TrainBatches:
    arguments: dict[str, object] = {
        "num_classes": 4,
        "batch_size": BATCH,
        "augment": Augment("standard", seed=1),
        "shuffle": "blocks",
    }
    return TrainBatches(
        split_of(cache, TRAIN, TRAIN % 4),
        cropped(SIDE),
        LoaderProcess(rank=rank, world=world, workers=workers),
        **{**arguments, **changes},  # type: ignore[arg-type]
    )


def drawn(cache: PixelCache, start_step: int = 0, **changes: object) -> list[tuple[list[int], np.ndarray]]:
    """Samples and pixels of the batches of an epoch."""
    return [
        (batch.samples.tolist(), batch.images.numpy().copy())
        for batch in batches(cache, **changes).epoch(2, start_step)
    ]


def assert_same(first: list[tuple[list[int], np.ndarray]], second: list[tuple[list[int], np.ndarray]]) -> None:
    assert [samples for samples, _ in first] == [samples for samples, _ in second]
    for (_, pixels), (_, others) in zip(first, second, strict=True):
        np.testing.assert_array_equal(pixels, others)


def test_an_epoch_is_in_blocks_of_the_order_of_digests(cache: PixelCache) -> None:
    samples = [sample for batch, _ in drawn(cache) for sample in batch]
    stored = np.argsort([DIGESTS[image] for image in TRAIN])
    assert samples == in_blocks(stored, seed=1, epoch=2, block=3, window=9).samples.tolist()
    assert sorted(samples) == list(range(len(TRAIN)))


def test_the_order_in_blocks_does_not_depend_on_how_the_cache_was_built(cache: PixelCache, tmp_path: Path) -> None:
    other = cache_of_shards(tmp_path / "other", np.arange(IMAGES)[::-1], 3)
    assert_same(drawn(other), drawn(cache))


@pytest.mark.parametrize("start", range(7))
def test_it_resumes_at_any_step(cache: PixelCache, start: int) -> None:
    assert_same(drawn(cache, start), drawn(cache)[start:])


@pytest.mark.parametrize("world", [2, 3])
@pytest.mark.parametrize("mixup", [0.0, 0.4])
def test_processes_together_see_the_batches_of_one(cache: PixelCache, world: int, mixup: float) -> None:
    settings = {"augment": Augment("standard", mixup=mixup, seed=1)}
    alone = drawn(cache, **settings)
    shares = [drawn(cache, rank=rank, world=world, workers=2, **settings) for rank in range(world)]
    together = [
        ([sample for samples, _ in parts for sample in samples], np.concatenate([pixels for _, pixels in parts]))
        for parts in zip(*shares, strict=True)
    ]
    assert_same(together, alone)


def test_images_that_touch_are_one_range(cache: PixelCache) -> None:
    images = on_disk(cache, TRAIN)
    parts = list(ranges(cache, images))
    assert len(parts) == 4  # two shards, each with the image of another split inside
    assert [shard for shard, _, _ in parts] == [0, 0, 1, 1]
    covered = {(shard, byte) for shard, start, stop in parts for byte in range(start, stop)}
    sizes = 3 * cache.heights[TRAIN] * cache.widths[TRAIN]
    assert len(covered) == sizes.sum() == sum(stop - start for _, start, stop in parts)
    for image, size in zip(TRAIN, sizes, strict=True):
        assert (cache.shard[image], cache.offsets[image]) in covered
        assert (cache.shard[image], cache.offsets[image] + size - 1) in covered
    assert list(ranges(cache, TRAIN[:0])) == []


class AtOnce:
    """A pool of threads that does each call when it is submitted."""

    def submit(self, call: Callable[[np.ndarray], None], part: np.ndarray) -> None:
        call(part)

    def shutdown(self, **how: object) -> None:
        pass


def test_the_window_of_a_batch_and_the_next_one_are_read(cache: PixelCache, monkeypatch: pytest.MonkeyPatch) -> None:
    shard_of = {file.stat().st_ino: shard for shard, file in enumerate(cache.files)}
    read: list[tuple[int, int]] = []
    preadv = os.preadv

    def record(file: int, buffers: list[memoryview], place: int) -> int:
        count = preadv(file, buffers, place)
        read.extend((shard_of[os.fstat(file).st_ino], byte) for byte in range(place, place + count))
        return count

    monkeypatch.setattr(os, "preadv", record)
    monkeypatch.setattr(read_ahead, "_CHUNK", 100)  # less than an image
    monkeypatch.setattr(read_ahead, "ThreadPoolExecutor", lambda *about: AtOnce())
    order = TRAIN[stored_order(cache, TRAIN)]
    begins = list(range(0, len(order), BATCH))
    reader = ReadAhead(cache, [order[begin : begin + BATCH] for begin in begins], begins)
    # Batch 1 ends with the first image of window 1, batch 6 with the last one of all.
    for batch, images in {0: 18, 1: 27, 2: 27, 3: 35, 6: 35}.items():
        reader.reach(batch)
        expected = {
            (int(cache.shard[image]), int(cache.offsets[image]) + byte)
            for image in order[:images]
            for byte in range(cache.image(image).size)
        }
        assert len(read) == len(expected)  # each byte once
        assert set(read) == expected
    reader.close()


def test_what_is_not_read_when_an_epoch_ends_early_is_left(cache: PixelCache, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    monkeypatch.setattr(os, "preadv", lambda file, buffers, place: read.append(place))
    reader = ReadAhead(cache, [TRAIN], [0])
    reader._closing.set()
    reader.reach(0)
    reader.close()
    assert read == []


@pytest.mark.parametrize("rank", [0, 1])
def test_images_to_score_are_read_ahead_in_windows_and_stay_in_their_order(
    cache: PixelCache, monkeypatch: pytest.MonkeyPatch, rank: int
) -> None:
    reached: list[int] = []
    reach = ReadAhead.reach

    def record(reader: ReadAhead, batch: int) -> None:
        reach(reader, batch)
        reached.append(reader._next)

    monkeypatch.setattr(ReadAhead, "reach", record)
    split, process = split_of(cache, TRAIN, TRAIN % 4), LoaderProcess(rank=rank, world=2)
    plain, ahead = (
        [
            (batch.positions.tolist(), batch.images.clone())
            for batch in EvalBatches(split, cropped(SIDE), process, batch_size=4, read_ahead=read_ahead)
        ]
        for read_ahead in (False, True)
    )
    assert [positions for positions, _ in ahead] == [positions for positions, _ in plain]
    assert all(torch.equal(one, other) for (_, one), (_, other) in zip(ahead, plain, strict=True))
    assert reached == [2] * 5  # 18 or 17 images of this process are two windows
