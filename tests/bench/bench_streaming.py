"""Images that do not fit into memory: training images per second in each order, against images in memory.

    python -m tests.bench.bench_streaming [--images 27000] [--part 4] [--folder DIR]

A cache of made-up images is written to disk, and no model computes. Memory for it is limited to a part of it: a thread
drops the longest-kept pages of the cache while more than that are in the page cache (mincore(2), posix_fadvise(2)).
Neither a container nor a right to make control groups is needed; under a real limit (`systemd-run --user --scope -p
MemoryMax=...`), give `--part 1`. The full order starts with its part of the images in memory, as in the middle of a
run; blocks start with none.
"""

from __future__ import annotations

import argparse
import ctypes
import itertools
import mmap
import os
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import torch

from harness.data.augment import Augment
from harness.data.cache import PixelCache, open_cache, store_folder
from harness.data.cache_build import SHARD_BYTES
from harness.data.loader import TrainBatches
from harness.data.prefetch import LoaderProcess
from harness.data.read_ahead import on_disk, ranges
from harness.data.resize import Resize
from harness.data.store import ShardWriter
from tests.bench.table import show, spread
from tests.helpers.pixel_caches import cropped, split_of

SIZE = 224
WRITERS = 2  # threads that decoded the images, each into its own shards
HELD_OUT = 10  # one image of so many is of another split
PIECE = 1 << 21  # bytes that are dropped together; no folio of the page cache is larger
EVERY = 0.02  # seconds between two looks at the page cache
IN_MEMORY = 6_000  # images that are read where all are in memory; blocks are read for a whole epoch
FULL_ORDER = 2_000  # and in the full order, of which all images cost alike


def write_cache(caches: Path, images: int) -> PixelCache:
    """Square images of noise, in the order of their digests."""
    folder = store_folder(Resize(SIZE), caches)
    folder.mkdir(parents=True)
    digests = [f"{number:032x}" for number in range(images)]
    noise = np.random.default_rng(0).integers(0, 256, (64, SIZE, SIZE, 3), dtype=np.uint8)
    writers: dict[int, ShardWriter] = {}
    for number, digest in enumerate(digests):
        slot = number % WRITERS
        writers.setdefault(slot, ShardWriter(folder)).add(digest, noise[number % len(noise)] + np.uint8(number % 251))
        if writers[slot].size >= SHARD_BYTES:
            writers.pop(slot).finish()
    for writer in writers.values():
        writer.finish()
    return open_cache("images", digests, resize=Resize(SIZE), digests=digests, cache_dir=caches, progress=False)


class PageCacheLimit:
    """Keeps at most so many bytes of the shards in the page cache, while a block of `with` runs."""

    def __init__(self, cache: PixelCache, limit: int) -> None:
        self._limit = limit
        self._files = [os.open(file, os.O_RDONLY) for file in cache.files]
        self._mapped = [shard.base._mmap for shard in cache.shards]
        self._sizes = [len(shard) for shard in cache.shards]
        # Maps of their own for mincore, which are never read.
        self._looks = [mmap.mmap(file, 0, mmap.MAP_SHARED, mmap.PROT_READ) for file in self._files]
        self._addresses = [np.frombuffer(look, np.uint8).ctypes.data for look in self._looks]
        self._since = [np.zeros(-(-size // PIECE)) for size in self._sizes]  # 0: not in memory
        self._mincore = ctypes.CDLL(None, use_errno=True).mincore
        self._done = threading.Event()
        self.cpu_seconds = 0.0  # of the thread

    def __enter__(self) -> PageCacheLimit:
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._done.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._done.wait(EVERY):
            self.enforce()
            self.cpu_seconds = time.thread_time()

    def enforce(self) -> None:
        """Drop what came first until the rest is within the limit."""
        held = []
        for shard in range(len(self._files)):
            resident, since = self.resident(shard), self._since[shard]
            since[(resident > 0) & (since == 0)] = time.time()
            since[resident == 0] = 0
            held += [(since[piece], shard, piece, resident[piece]) for piece in resident.nonzero()[0].tolist()]
        excess = sum(size for *_, size in held) - self._limit
        for _, shard, piece, size in sorted(held):
            if excess <= 0:
                return
            self.drop(shard, piece)
            excess -= size

    def resident(self, shard: int) -> np.ndarray:
        """Bytes of each piece of a shard that are in the page cache."""
        pages = np.zeros(-(-self._sizes[shard] // mmap.PAGESIZE), np.uint8)
        address, size = ctypes.c_void_p(self._addresses[shard]), ctypes.c_size_t(self._sizes[shard])
        if self._mincore(address, size, ctypes.c_void_p(pages.ctypes.data)):
            raise OSError(ctypes.get_errno(), "mincore")
        starts = np.arange(0, len(pages), PIECE // mmap.PAGESIZE)
        return np.add.reduceat((pages & 1).astype(np.int64), starts) * mmap.PAGESIZE

    def drop(self, shard: int, piece: int) -> None:
        start = piece * PIECE
        length = min(PIECE, self._sizes[shard] - start)
        self._mapped[shard].madvise(mmap.MADV_DONTNEED, start, length)  # mapped pages stay in the page cache
        os.posix_fadvise(self._files[shard], start, length, os.POSIX_FADV_DONTNEED)

    def drop_all(self) -> None:
        for shard, pieces in enumerate(self._since):
            for piece in range(len(pieces)):
                self.drop(shard, piece)

    @property
    def bytes(self) -> int:
        return int(sum(self.resident(shard).sum() for shard in range(len(self._files))))


def load(cache: PixelCache, images: np.ndarray) -> None:
    """Read images into the page cache."""
    for shard, start, stop in ranges(cache, on_disk(cache, images)):
        file = os.open(cache.files[shard], os.O_RDONLY)
        os.pread(file, stop - start, start)
        os.close(file)


def epoch_speed(
    cache: PixelCache,
    train: np.ndarray,
    shuffle: str,
    workers: int,
    epoch: int,
    most: int,
    limit: PageCacheLimit | None = None,
) -> list[float]:
    """Images per second, and per CPU second without the limit's, of an epoch or of its first `most` images."""
    batches = TrainBatches(
        split_of(cache, train, train % 100),
        cropped(SIZE),
        LoaderProcess(workers=workers),
        num_classes=100,
        batch_size=64,
        augment=Augment("none"),
        shuffle=shuffle,
    )
    start, cpu = time.perf_counter(), time.process_time()
    steps = itertools.islice(batches.epoch(epoch), -(-most // 64))
    images = sum(len(batch.images) for batch in steps)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    return [images / seconds, images / (cpu - (limit.cpu_seconds if limit else 0))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=27_000, help="of 151 kB each")
    parser.add_argument("--part", type=int, default=4, help="memory is one of so many parts of the images")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, nargs="+", default=[4], help="threads that prepare images")
    parser.add_argument("--folder", type=Path, help="on the disk to measure [default: that of temporary files]")
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    speeds: dict[tuple[str, str, int], list[list[float]]] = {}
    with tempfile.TemporaryDirectory(dir=arguments.folder) as scratch:
        cache = write_cache(Path(scratch), arguments.images)
        train = np.flatnonzero(np.arange(arguments.images) % HELD_OUT)
        random = np.random.default_rng(0)
        for number in range(arguments.rounds):
            for shuffle, workers in itertools.product(("full", "blocks"), arguments.workers):
                load(cache, train)
                result = epoch_speed(cache, train, shuffle, workers, number, IN_MEMORY)
                speeds.setdefault((shuffle, "in memory", workers), []).append(result)
            for shuffle, workers in itertools.product(("full", "blocks"), arguments.workers):
                limit = PageCacheLimit(cache, cache.nbytes // arguments.part)
                limit.drop_all()
                if shuffle == "full":
                    load(cache, random.permutation(train)[: len(train) // arguments.part])
                with limit:
                    most = FULL_ORDER if shuffle == "full" else len(train)
                    result = epoch_speed(cache, train, shuffle, workers, number, most, limit)
                speeds.setdefault((shuffle, f"1/{arguments.part} in memory", workers), []).append(result)
                held = limit.bytes / cache.nbytes
                print(
                    f"{shuffle}, {workers} workers: {result[0]:.0f} images/s, {held:.0%} held at the end",
                    flush=True,
                )
    base = {workers: speeds["full", "in memory", workers] for workers in arguments.workers}
    rows = []
    for (shuffle, where, workers), results in speeds.items():
        wall, cpu = zip(*results, strict=True)
        ratios = [mine / other[0] for mine, other in zip(wall, base[workers], strict=True)]
        megabytes = float(np.median(wall)) * 3 * SIZE**2 / 1e6
        speed = [spread(wall, 0), spread(cpu, 0), f"{megabytes:.0f}", spread(ratios)]
        rows.append([f"{where}, {shuffle}", str(workers), *speed])
    show(
        f"{arguments.images:,} images, {cache.nbytes / 1e9:.1f} GB, median (min..max) of {arguments.rounds} rounds",
        ["images, --shuffle", "--workers", "images/s", "images/CPU s", "MB/s", "to in memory, full"],
        rows,
    )


if __name__ == "__main__":
    main()
