"""Batches for evaluation: every image exactly once over all processes, prepared by threads ahead of the model."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Generator, Iterator
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch

from harness.data import gpu_augment
from harness.data.augment import AugmentParams, centre_box, centre_crop
from harness.data.dataset import CachedImages
from harness.data.prefetch import LoaderProcess, Normalise, Staging, work_ahead
from harness.data.read_ahead import ReadAhead
from harness.model.preprocessing import Preprocessing

# With fewer images in a batch, a GPU scores slower than images are copied to it.
SMALL_BATCH = 16


class EvalBatch(NamedTuple):
    """Images to score, on the device. On a CPU the next batch overwrites them."""

    images: torch.Tensor  # float32 (b, 3, S, S), normalised
    labels: torch.Tensor  # int64 (b,)
    positions: torch.Tensor  # int64 (b,): indices in the split


class EvalBatches:
    """The centre crops of a split, in batches: every image exactly once over all processes."""

    def __init__(
        self,
        images: CachedImages,
        preprocessing: Preprocessing,
        process: LoaderProcess,
        *,
        batch_size: int,
        read_ahead: bool = False,
    ) -> None:
        """`batch_size` is per process.

        `read_ahead`: read images from disk before they are needed, because they may not be in memory.
        """
        self._cache, self._indices, self._process = images.cache, images.positions, process
        self._labels = torch.from_numpy(images.labels)
        self._batch_size, self._size = batch_size, preprocessing.crop_size
        self._normalise = Normalise(preprocessing.mean, preprocessing.std, process.device)
        self._on_device = images.on_device
        self._positions = np.arange(process.rank, len(images), process.world)
        self._reads_ahead = read_ahead

    def use_less_memory(self) -> bool:
        """Halve the batch size, or free the device memory that images take; False if neither is left."""
        # Large batches are halved first: that costs little, while images that have left slow training as well.
        if self._batch_size <= SMALL_BATCH and self._on_device and self._on_device.drop():
            return True
        if self._batch_size == 1:
            return False
        self._batch_size = (self._batch_size + 1) // 2
        return True

    def __len__(self) -> int:
        """Batches of this process."""
        return math.ceil(len(self._positions) / self._batch_size)

    def __iter__(self) -> Iterator[EvalBatch]:
        batches = [self._positions[number * self._batch_size :][: self._batch_size] for number in range(len(self))]
        # Copied to the device once, and not in each batch. non_blocking: the host would wait until the GPU is idle.
        labels = self._labels[self._positions].to(self._process.device, non_blocking=True).split(self._batch_size)
        positions = torch.from_numpy(self._positions).to(self._process.device, non_blocking=True)
        resident = self._on_device is not None and self._on_device.resident
        prepared = self._from_device(batches) if resident else self._from_host(batches)
        with contextlib.closing(prepared):
            # A process without images has no batches, but one empty part of the labels.
            yield from map(EvalBatch, prepared, labels, positions.split(self._batch_size))

    def _from_device(self, batches: list[np.ndarray]) -> Generator[torch.Tensor, None, None]:
        assert self._on_device
        for positions in batches:
            indices = self._indices[positions]
            sizes = zip(self._cache.heights[indices].tolist(), self._cache.widths[indices].tolist(), strict=True)
            crops = [AugmentParams(centre_box(*size, self._size), False, (), (), None, None) for size in sizes]
            yield self._normalise.tensor(gpu_augment.batch(self._on_device, indices, crops, self._size))

    def _from_host(self, batches: list[np.ndarray]) -> Generator[torch.Tensor, None, None]:
        cv2.setNumThreads(0)
        rows = min(self._batch_size, len(self._positions))
        staging = Staging(rows, self._size, self._normalise, self._process.device)
        reader = None
        if self._reads_ahead:
            begins = range(0, len(self._positions), self._batch_size)
            reader = ReadAhead(self._cache, [self._indices[batch] for batch in batches], begins)

        def calls(number: int) -> list[Callable[[], Any]]:
            if reader:
                reader.reach(number)
            staging.reserve(number)
            positions = batches[number]
            parts = self._process.parts(len(positions))
            return [functools.partial(self._crop, number, positions, part, staging) for part in parts]

        prepared = work_ahead(map(calls, range(len(batches))), self._process.workers)
        try:
            for number, _ in enumerate(prepared):
                yield staging.take(number, len(batches[number]))
        finally:
            prepared.close()
            if reader:
                reader.close()

    def _crop(self, number: int, positions: np.ndarray, rows: np.ndarray, staging: Staging) -> None:
        """Write the pixels of these rows of batch `number`. Called by a thread."""
        for row in rows:
            image = self._cache.image(int(self._indices[positions[row]]))
            staging.put(number, row, centre_crop(image, self._size))
