"""Images of the cache read from disk shortly before they are needed, in the order in which they lie there.

A memory map reads an image when it is touched: one at a time, at random places, while the model waits. Here a thread
reads whole windows of an epoch in sequence. The system keeps what was read in its page cache, where the memory map
finds it; if memory is short, it drops what was used before, or the map reads again. So reading ahead changes when bytes
are read and never which.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from harness.data.cache import PixelCache
from harness.data.sampler import WINDOW

_CHUNK = 1 << 20  # bytes of a read
_THREADS = 4  # reads at a time: most disks, and all on a network, need several to be busy


def stored_order(cache: PixelCache, images: np.ndarray) -> np.ndarray:
    """int64 (N,): `images`, indices in the cache, in the order in which a cache that was built at once holds them.

    That is the order of the digests of their files: the same on every machine, however its cache came about, and
    unrelated to class, folder and name.
    """
    return np.argsort(np.array([cache.digests[image] for image in images.tolist()], "S32"), kind="stable")


class ReadAhead:
    """Reads the images of batches, window after window of the epoch's order."""

    def __init__(self, cache: PixelCache, batches: Sequence[np.ndarray], begins: Sequence[int]) -> None:
        """`batches`: the images of each batch, indices in the cache; `begins`: their places in the epoch's order."""
        places = [begin + np.arange(len(batch)) for begin, batch in zip(begins, batches, strict=True)]
        window = np.concatenate([np.empty(0, np.int64), *places]) // WINDOW
        splits = np.flatnonzero(np.diff(window)) + 1
        self._windows = np.split(np.concatenate([np.empty(0, np.int64), *batches]), splits)
        last_images = np.cumsum([len(batch) for batch in batches]) - 1
        self._window_of = np.searchsorted(splits, last_images, side="right")  # of each batch's last image
        self._cache, self._next = cache, 0
        self._closing = threading.Event()
        self._threads = ThreadPoolExecutor(_THREADS, "read-ahead")

    def reach(self, batch: int) -> None:
        """Have the window of this batch and the next one read, unless they are."""
        while self._next < min(self._window_of[batch] + 2, len(self._windows)):
            images = on_disk(self._cache, self._windows[self._next])
            for part in np.array_split(images, _THREADS):
                self._threads.submit(self._read, part)
            self._next += 1

    def close(self) -> None:
        self._closing.set()
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _read(self, images: np.ndarray) -> None:
        # Not posix_fadvise or madvise: of a long range, Linux then reads no more than a first part.
        buffer = memoryview(bytearray(_CHUNK))
        for shard, start, stop in ranges(self._cache, images):
            file = os.open(self._cache.files[shard], os.O_RDONLY)
            try:
                for place in range(start, stop, _CHUNK):
                    if self._closing.is_set():
                        return
                    os.preadv(file, [buffer[: stop - place]], place)
            finally:
                os.close(file)


def on_disk(cache: PixelCache, images: np.ndarray) -> np.ndarray:
    """The same images in the order in which they lie in the shards."""
    return images[np.lexsort((cache.offsets[images], cache.shard[images]))]


def ranges(cache: PixelCache, images: np.ndarray) -> Iterator[tuple[int, int, int]]:
    """Shard, start and stop of the bytes of images that are in the order of the disk; neighbours are one range."""
    shard, start = cache.shard[images], cache.offsets[images]
    stop = start + 3 * cache.heights[images].astype(np.int64) * cache.widths[images]
    first = np.flatnonzero(np.r_[True, (shard[1:] != shard[:-1]) | (start[1:] != stop[:-1])][: len(images)])
    last = np.append(first[1:], len(images))[: len(first)] - 1
    return zip(shard[first].tolist(), start[first].tolist(), stop[last].tolist(), strict=True)
