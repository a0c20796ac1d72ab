"""Batches for training: which images each process takes, prepared by threads ahead of the model."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch

from harness.data import augment as augmentation
from harness.data import gpu_augment, mixup, rng
from harness.data.augment import Augment, AugmentParams
from harness.data.dataset import CachedImages
from harness.data.gpu_augment import ImagesOnDevice
from harness.data.policies import POLICIES
from harness.data.prefetch import LoaderProcess, Normalise, Staging, work_ahead
from harness.data.read_ahead import ReadAhead, stored_order
from harness.data.sampler import ORDERS, Order, in_blocks
from harness.model.preprocessing import Preprocessing


@dataclass(frozen=True)
class Batch:
    """One process's share of a global batch, on the device. On a CPU the next batch overwrites its images."""

    images: torch.Tensor  # float32 (b, 3, S, S), normalised
    targets: torch.Tensor  # float32 (b, C): smoothed and mixed
    samples: np.ndarray  # int64 (b,): indices of the images in the train split
    weight: torch.Tensor  # float32 (b,): 1; 0 for the placeholder of a process whose share is empty
    total: int  # images in the global batch
    drop_path_scale: torch.Tensor | None  # float32 (b, 2L): 0 for a dropped residual branch, else 1 / (1 - rate)
    mass: float | torch.Tensor  # sum of the class weights of the global batch's images; without weights their number
    on_device: ImagesOnDevice | None = None  # the images that it was taken from, if they are in device memory


@dataclass(frozen=True)
class _Share:
    """What one process loads of one global batch."""

    step: int
    first: int  # where the loaded images begin in the global batch
    samples: np.ndarray  # int64: images to load, including partners that other processes own
    draws: np.ndarray  # int64: index of each one's random numbers
    skip: int  # loaded images before the process's own: 0, or 1 for a partner
    count: int  # the process's own images, at least 1
    total: int  # images in the global batch
    mass: float  # sum of their class weights
    is_real: bool  # False for the placeholder of an empty share


def share_of(total: int, rank: int, world: int) -> tuple[int, int]:
    """Start and stop of a process's slice of `total` images. Slices are contiguous; sizes differ by at most 1."""
    base, extra = divmod(total, world)
    start = rank * base + min(rank, extra)
    return start, start + base + (rank < extra)


class TrainBatches:
    """The training split in batches. Their contents do not depend on the number of processes and workers."""

    def __init__(
        self,
        images: CachedImages,
        preprocessing: Preprocessing,
        process: LoaderProcess,
        *,
        num_classes: int,
        batch_size: int,
        augment: Augment,
        label_smoothing: float = 0.0,
        drop_path: np.ndarray | None = None,
        order: str = "shuffle",
        shuffle: str = "full",
        class_weights: np.ndarray | None = None,
    ) -> None:
        """`batch_size` is global; `drop_path` (2L,) is the rate of every residual branch.

        `order` is one of ORDERS; with `shuffle` "blocks" it is `in_blocks`, and images are read from disk ahead of the
        model. `class_weights` (C,) are those of the loss.
        """
        self._cache, self._indices, self._process = images.cache, images.positions, process
        self._labels = torch.from_numpy(images.labels)
        self._order: Callable[..., Order] = functools.partial(ORDERS[order], self._labels.numpy())
        if shuffle == "blocks":
            self._order = functools.partial(in_blocks, stored_order(self._cache, self._indices))
        self._masses = np.ones(len(self._labels)) if class_weights is None else class_weights[self._labels.numpy()]
        self._num_classes, self._batch_size, self._size = num_classes, batch_size, preprocessing.crop_size
        self._augment, self._label_smoothing, self._drop_path = augment, label_smoothing, drop_path
        self._normalise = Normalise(preprocessing.mean, preprocessing.std, process.device)
        self._on_device = images.on_device if POLICIES[augment.policy].works_on_device else None
        self._reads_ahead = shuffle == "blocks" and self._on_device is None
        self._mixes = augment.mixup > 0 or augment.cutmix > 0
        self.steps_per_epoch = math.ceil(len(self._indices) / batch_size)

    @functools.cached_property
    def _staging(self) -> Staging | None:
        """Host buffers, reused in every epoch; None if the images are on the device."""
        if self._on_device:
            return None
        most = math.ceil(min(self._batch_size, len(self._indices)) / self._process.world) + 2 * self._mixes
        return Staging(most, self._size, self._normalise, self._process.device)

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        """This process's share of every global batch of an epoch, from `start_step`. One epoch at a time."""
        order = self._order(seed=self._augment.seed, epoch=epoch)
        shares = [self._share(order, step) for step in range(start_step, self.steps_per_epoch)]
        # Our threads work on one image each; OpenCV's threads would compete with them for the cores.
        cv2.setNumThreads(0)

        reader = self._reader(shares) if self._reads_ahead else None

        def calls(share: _Share) -> list[Callable[[], Any]]:
            if reader:
                reader.reach(share.step - start_step)
            if self._staging:
                self._staging.reserve(share.step)
            parts = self._process.parts(len(share.samples))
            images = [functools.partial(self._prepare, share, part, epoch) for part in parts]
            return [functools.partial(self._drop_path_scale, share, epoch), *images]

        prepared = work_ahead(map(calls, shares), self._process.workers)
        try:
            for share, (scale, *parts) in zip(shares, prepared, strict=True):
                drawn = [params for part in parts for params in part]
                yield self._finish(share, drawn, scale, epoch)
        finally:
            prepared.close()
            if reader:
                reader.close()

    def _reader(self, shares: list[_Share]) -> ReadAhead:
        return ReadAhead(
            self._cache,
            [self._indices[share.samples] for share in shares],
            [share.step * self._batch_size + share.first for share in shares],
        )

    def _share(self, order: Order, step: int) -> _Share:
        """This process's part of a global batch. If two processes share a mixed pair, both load both images."""
        samples, draws = (part[step * self._batch_size :][: self._batch_size] for part in order)
        start, stop = share_of(len(samples), self._process.rank, self._process.world)
        is_real = start < stop
        if not is_real:
            start, stop = 0, 1
        first, last = (start // 2 * 2, (stop + 1) // 2 * 2) if self._mixes else (start, stop)
        own, skip, count = slice(first, last), start - first, stop - start
        # Mixing leaves the sum as it is: a pair exchanges parts of its two labels.
        mass = float(self._masses[samples].sum(dtype=np.float64))
        return _Share(step, first, samples[own], draws[own], skip, count, len(samples), mass, is_real)

    def _prepare(self, share: _Share, rows: np.ndarray, epoch: int) -> list[AugmentParams]:
        """Draw the parameters of these rows and, on the per-image path, write their pixels. Called by a thread."""
        drawn = []
        for row in rows:
            sample = int(share.samples[row])
            image = self._cache.image(int(self._indices[sample]))
            height, width = image.shape[:2]
            params = augmentation.draw(
                self._augment, sample=int(share.draws[row]), epoch=epoch, height=height, width=width, size=self._size
            )
            if self._staging:
                self._staging.put(share.step, row, augmentation.apply(image, params, self._size))
            drawn.append(params)
        return drawn

    def _finish(self, share: _Share, drawn: list[AugmentParams], scale: torch.Tensor | None, epoch: int) -> Batch:
        """The finished batch on the device, from the pixels that threads wrote or from images in device memory."""
        if self._staging:
            images = self._staging.take(share.step, len(drawn))
        else:
            assert self._on_device
            levels = gpu_augment.batch(self._on_device, self._indices[share.samples], drawn, self._size)
            images = self._normalise.tensor(levels)
        for row, params in enumerate(drawn):
            if params.erase:
                top, left, height, width = params.erase
                images[row, :, top : top + height, left : left + width] = 0

        # Only labels are copied to the device: copying (b, C) floats would wait until the GPU is idle.
        labels = self._labels[torch.from_numpy(share.samples)].to(self._process.device, non_blocking=True)
        targets = mixup.soft_targets(labels, self._num_classes, self._label_smoothing)
        mix = mixup.draw(self._augment, epoch=epoch, step=share.step, size=self._size)
        if mix:
            mixup.mix_pairs(images, targets, mix)

        own = slice(share.skip, share.skip + share.count)
        weight = torch.full((share.count,), float(share.is_real), device=self._process.device)
        if scale is not None:
            scale = scale.to(self._process.device, non_blocking=True)
        return Batch(
            images[own], targets[own], share.samples[own], weight, share.total, scale, share.mass, self._on_device
        )

    def _drop_path_scale(self, share: _Share, epoch: int) -> torch.Tensor | None:
        """Stochastic depth (Huang et al. 2016): drop each branch with its rate, else scale it to keep the mean.

        (b, 2L), in memory of the host. Called by a thread.
        """
        if self._drop_path is None:
            return None
        branches, draws = len(self._drop_path), share.draws[share.skip : share.skip + share.count]
        numbers = [
            rng.generator(self._augment.seed, rng.DROP_PATH, epoch=epoch, index=int(draw)).random(branches)
            for draw in draws
        ]
        scale = (np.stack(numbers) >= self._drop_path) / (1 - self._drop_path)
        return torch.from_numpy(scale.astype(np.float32))
