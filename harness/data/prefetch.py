"""From uint8 images to normalised floats on the device: threads that work ahead, and the buffers they fill."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch

# Batches that are prepared while one is in use. The ring has one buffer more, for the batch in use.
AHEAD = 2

CPU = torch.device("cpu")


@dataclass(frozen=True)
class LoaderProcess:
    """A process that loads: where its batches go, its place among the processes of the run, its threads."""

    device: torch.device = CPU
    rank: int = 0
    world: int = 1
    workers: int = 1

    def parts(self, count: int) -> list[np.ndarray]:
        """The rows of a batch that each thread prepares."""
        return np.array_split(np.arange(count), min(self.workers, count))


class Normalise:
    """(x / 255 - mean) / std in float32, as ToTensor and Normalize: by table for uint8 images, computed for tensors."""

    def __init__(
        self, mean: tuple[float, float, float], std: tuple[float, float, float], device: torch.device = CPU
    ) -> None:
        """`device`: where tensors to normalise are."""
        self._mean, self._std = (torch.tensor(values)[:, None, None] for values in (mean, std))
        levels = torch.arange(256, dtype=torch.float32).expand(3, 1, 256)
        self._tables = self.tensor(levels).reshape(3, 256).contiguous().numpy()
        self._mean, self._std = self._mean.to(device), self._std.to(device)

    def tensor(self, images: torch.Tensor) -> torch.Tensor:
        """Normalise levels 0..255 of any dtype (..., 3, H, W); float32, contiguous."""
        # One new contiguous tensor, changed in place: the device reads the levels once.
        floats = torch.empty(images.shape, dtype=torch.float32, device=images.device).copy_(images)
        return floats.div_(255).sub_(self._mean).div_(self._std)

    def image(self, image: np.ndarray, out: np.ndarray) -> None:
        """Normalise uint8 (S, S, 3) into `out`, float32 (3, S, S)."""
        for plane, table, out_plane in zip(cv2.split(image), self._tables, out, strict=True):
            cv2.LUT(plane, table, out_plane)


class Staging:
    """A ring of host buffers for batches of (S, S) images. Allocating new ones costs three times the normalising.

    On a CPU a buffer holds the finished floats, so a batch is valid until the next one is drawn. For a GPU it holds
    pinned uint8, a quarter of the bytes to copy; the GPU normalises them into new memory.
    """

    def __init__(self, rows: int, size: int, normalise: Normalise, device: torch.device) -> None:
        self._normalise, self._device = normalise, device
        self._on_gpu = device.type == "cuda"
        shape, dtype = ((rows, size, size, 3), torch.uint8) if self._on_gpu else ((rows, 3, size, size), torch.float32)
        self._buffers = [torch.empty(shape, dtype=dtype, pin_memory=self._on_gpu) for _ in range(AHEAD + 1)]
        self._arrays = [buffer.numpy() for buffer in self._buffers]
        self._copied: list[Any] = [torch.cuda.Event() if self._on_gpu else None for _ in self._buffers]

    def reserve(self, number: int) -> None:
        """Wait until the buffer of batch `number` may be overwritten."""
        if self._on_gpu:
            self._copied[number % len(self._buffers)].synchronize()

    def put(self, number: int, row: int, image: np.ndarray) -> None:
        """Store uint8 (S, S, 3) as image `row` of batch `number`. Called by threads."""
        target = self._arrays[number % len(self._buffers)][row]
        if self._on_gpu:
            np.copyto(target, image)
        else:
            self._normalise.image(image, target)

    def take(self, number: int, rows: int) -> torch.Tensor:
        """Batch `number` as normalised float32 (rows, 3, S, S) on the device."""
        slot = number % len(self._buffers)
        batch = self._buffers[slot][:rows]
        if not self._on_gpu:
            return batch
        images = batch.to(self._device, non_blocking=True)
        self._copied[slot].record(torch.cuda.current_stream(self._device))
        return self._normalise.tensor(images.permute(0, 3, 1, 2))


def work_ahead(batches: Iterable[list[Callable[[], Any]]], workers: int) -> Generator[list[Any], None, None]:
    """Yields the results of each list of calls, in order, while threads work on the next AHEAD lists.

    A list is taken from `batches` only when its buffer is free: the batch AHEAD + 1 before it is no longer in use. An
    error in a call is raised where its result would be yielded. Closing the iterator ends the threads.
    """
    torch.get_num_threads()  # fixes the number for the calling thread, before a worker sets its own
    # One thread of torch's per worker. More would compete for the cores, and the rounding of a sum over an image would
    # depend on their number.
    pool = ThreadPoolExecutor(workers, "images", initializer=torch.set_num_threads, initargs=(1,))
    pending: deque[list[Future[Any]]] = deque()
    remaining = iter(batches)

    def submit() -> None:
        calls = next(remaining, None)
        if calls is not None:
            pending.append([pool.submit(call) for call in calls])

    try:
        for _ in range(AHEAD):
            submit()
        while pending:
            results = [future.result() for future in pending.popleft()]
            submit()
            yield results
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
