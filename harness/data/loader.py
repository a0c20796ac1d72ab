"""Batches for training and evaluation: which images a process takes, prepared ahead of the model by threads."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch

from harness.data import augment as augmentation
from harness.data import gpu_augment, mixup, rng
from harness.data.augment import Augment, AugmentParams
from harness.data.cache import PixelCache
from harness.data.gpu_augment import ResidentPixels
from harness.data.prefetch import Normalise, Staging, work_ahead
from harness.data.sampler import ORDERS, Order


@dataclass(frozen=True)
class Batch:
    """One process's share of a global batch, on the device; on a CPU its images are valid until the next is drawn."""

    images: torch.Tensor  # float32 (b, 3, S, S), normalised
    targets: torch.Tensor  # float32 (b, C): smoothed and mixed
    samples: np.ndarray  # int64 (b,): images of the train split
    weight: torch.Tensor  # float32 (b,): 1, or 0 for the stand-in of a process whose share is empty
    total: int  # images in the global batch
    keep: torch.Tensor | None  # float32 (b, 2L): 0 where drop path drops a residual branch, else 1 / (1 - rate)
    mass: float  # sum of the class weights of the global batch's images; their number without class weights


class EvalBatch(NamedTuple):
    """Images to score, on the device; on a CPU they are valid until the next batch is drawn."""

    images: torch.Tensor  # float32 (b, 3, S, S), normalised
    labels: torch.Tensor  # int64 (b,)
    positions: torch.Tensor  # int64 (b,): places in the split


@dataclass(frozen=True)
class _Share:
    """A process's part of one global batch."""

    step: int
    samples: np.ndarray  # int64: images to load, partners of mixed pairs included
    draws: np.ndarray  # int64: index of each one's random numbers
    skip: int  # loaded images in front of the process's own: 0, or 1 for a partner
    count: int  # the process's own images, at least 1
    total: int  # images in the global batch
    mass: float  # sum of their class weights
    real: bool  # False for the stand-in of an empty share


def share_of(total: int, rank: int, world: int) -> tuple[int, int]:
    """Start and stop of a process's slice of `total` images: contiguous, sizes differ by at most one."""
    base, extra = divmod(total, world)
    start = rank * base + min(rank, extra)
    return start, start + base + (rank < extra)


class TrainBatches:
    """The training split in batches: the same images, pixels and targets at any number of processes and workers."""

    def __init__(
        self,
        *,
        cache: PixelCache,
        indices: np.ndarray,
        labels: np.ndarray,
        num_classes: int,
        batch_size: int,
        crop_size: int,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
        augment: Augment,
        label_smoothing: float = 0.0,
        drop_path: np.ndarray | None = None,
        order: str = "shuffle",
        class_weights: np.ndarray | None = None,
        device: torch.device | str = "cpu",
        rank: int = 0,
        world: int = 1,
        workers: int = 1,
        on_device: ResidentPixels | None = None,
    ) -> None:
        """`indices`, `labels` (N,): image in the cache and class of each sample; `batch_size` is global.

        `drop_path` (2L,) holds the rate of every residual branch; `on_device` the cache's copy there, if there is one.
        `order` is one of ORDERS, `class_weights` (C,) are those of the loss.
        """
        self._cache, self._indices = cache, np.asarray(indices, dtype=np.int64)
        self._labels = torch.from_numpy(np.asarray(labels, dtype=np.int64))
        self._order = ORDERS[order]
        self._masses = np.ones(len(self._labels)) if class_weights is None else class_weights[self._labels.numpy()]
        self._num_classes, self._batch_size, self._size = num_classes, batch_size, crop_size
        self._augment, self._label_smoothing, self._drop_path = augment, label_smoothing, drop_path
        self._device, self._rank, self._world, self._workers = torch.device(device), rank, world, workers
        self._normalise = Normalise(mean, std)
        # torchvision's policies work on one image at a time, on the CPU.
        self._on_device = on_device if augment.policy in ("none", "standard") else None
        self._mixes = augment.mixup > 0 or augment.cutmix > 0
        self.steps_per_epoch = math.ceil(len(self._indices) / batch_size)

    @functools.cached_property
    def _staging(self) -> Staging | None:
        """Host buffers, kept from epoch to epoch; none where the images are on the device."""
        if self._on_device:
            return None
        most = math.ceil(min(self._batch_size, len(self._indices)) / self._world) + 2 * self._mixes
        return Staging(most, self._size, self._normalise, self._device)

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        """This process's share of every global batch of an epoch, from `start_step` on; one epoch at a time."""
        order = self._order(self._labels.numpy(), seed=self._augment.seed, epoch=epoch)
        shares = [self._share(order, step) for step in range(start_step, self.steps_per_epoch)]
        # Work is done by our own threads, one image each; OpenCV's would only stand in their way.
        cv2.setNumThreads(0)

        def calls(share: _Share) -> list[Callable[[], Any]]:
            if self._staging:
                self._staging.reserve(share.step)
            parts = np.array_split(np.arange(len(share.samples)), min(self._workers, len(share.samples)))
            return [functools.partial(self._prepare, share, part, epoch) for part in parts]

        prepared = work_ahead(map(calls, shares), self._workers)
        try:
            for share, parts in zip(shares, prepared, strict=True):
                recipes = [recipe for part in parts for recipe in part]
                yield self._finish(share, recipes, epoch)
        finally:
            prepared.close()

    def _share(self, order: Order, step: int) -> _Share:
        """Cut this process's part out of a global batch, with the partner of a pair that two processes share."""
        samples, draws = (part[step * self._batch_size :][: self._batch_size] for part in order)
        start, stop = share_of(len(samples), self._rank, self._world)
        real = start < stop
        if not real:
            start, stop = 0, 1
        first, last = (start // 2 * 2, (stop + 1) // 2 * 2) if self._mixes else (start, stop)
        own, skip, count = slice(first, last), start - first, stop - start
        # Mixing leaves the sum as it is: a pair shares out its two labels.
        mass = float(self._masses[samples].sum(dtype=np.float64))
        return _Share(step, samples[own], draws[own], skip, count, len(samples), mass, real)

    def _prepare(self, share: _Share, rows: np.ndarray, epoch: int) -> list[AugmentParams]:
        """Draw for some images of a share and, on the per-image path, fill in their pixels; run by a thread."""
        recipes = []
        for row in rows:
            sample = int(share.samples[row])
            image = self._cache.image(int(self._indices[sample]))
            height, width = image.shape[:2]
            recipe = augmentation.recipe(
                self._augment, sample=int(share.draws[row]), epoch=epoch, height=height, width=width, size=self._size
            )
            if self._staging:
                self._staging.put(share.step, row, augmentation.apply(image, recipe, self._size))
            recipes.append(recipe)
        return recipes

    def _finish(self, share: _Share, recipes: list[AugmentParams], epoch: int) -> Batch:
        """From pixels or recipes to the finished batch on the device."""
        if self._staging:
            images = self._staging.take(share.step, len(recipes))
        else:
            assert self._on_device
            levels = gpu_augment.batch(self._on_device, self._indices[share.samples], recipes, self._size)
            images = self._normalise.tensor(levels)
        for row, recipe in enumerate(recipes):
            if recipe.erase:
                top, left, height, width = recipe.erase
                images[row, :, top : top + height, left : left + width] = 0

        # Only labels travel: the copy of a (b, C) float tensor would wait for the GPU's work so far.
        labels = self._labels[torch.from_numpy(share.samples)].to(self._device, non_blocking=True)
        targets = mixup.soft_targets(labels, self._num_classes, self._label_smoothing)
        mix = mixup.draw(self._augment, epoch=epoch, step=share.step, size=self._size)
        if mix:
            mixup.mix_pairs(images, targets, mix)

        own = slice(share.skip, share.skip + share.count)
        weight = torch.full((share.count,), float(share.real), device=self._device)
        keep = self._keep(share.draws[own], epoch)
        return Batch(images[own], targets[own], share.samples[own], weight, share.total, keep, share.mass)

    def _keep(self, draws: np.ndarray, epoch: int) -> torch.Tensor | None:
        """Stochastic depth (Huang et al. 2016): each branch dropped with its rate, else scaled to keep the mean."""
        if self._drop_path is None:
            return None
        branches = len(self._drop_path)
        numbers = [
            rng.generator(self._augment.seed, rng.DROP_PATH, epoch=epoch, index=int(draw)).random(branches)
            for draw in draws
        ]
        keep = (np.stack(numbers) >= self._drop_path) / (1 - self._drop_path)
        return torch.from_numpy(keep.astype(np.float32)).to(self._device, non_blocking=True)


class EvalBatches:
    """A split to be scored, centre-cropped: every image exactly once over all processes, in batches per process."""

    def __init__(
        self,
        *,
        cache: PixelCache,
        indices: np.ndarray,
        labels: np.ndarray,
        batch_size: int,
        crop_size: int,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
        device: torch.device | str = "cpu",
        rank: int = 0,
        world: int = 1,
        workers: int = 1,
    ) -> None:
        """`indices`, `labels` (N,): image in the cache and class of each place; `batch_size` is per process."""
        self._cache, self._indices = cache, np.asarray(indices, dtype=np.int64)
        self._labels = torch.from_numpy(np.asarray(labels, dtype=np.int64))
        self._batch_size, self._size, self._workers = batch_size, crop_size, workers
        self._device, self._normalise = torch.device(device), Normalise(mean, std)
        self._positions = np.arange(rank, len(self._indices), world)

    def halve(self) -> bool:
        """Halve the batch size; False when it is 1 already."""
        if self._batch_size == 1:
            return False
        self._batch_size = (self._batch_size + 1) // 2
        return True

    def __len__(self) -> int:
        """Batches of this process."""
        return math.ceil(len(self._positions) / self._batch_size)

    def __iter__(self) -> Iterator[EvalBatch]:
        batches = [self._positions[number * self._batch_size :][: self._batch_size] for number in range(len(self))]
        cv2.setNumThreads(0)
        staging = Staging(min(self._batch_size, len(self._positions)), self._size, self._normalise, self._device)

        def calls(number: int) -> list[Callable[[], Any]]:
            staging.reserve(number)
            parts = np.array_split(np.arange(len(batches[number])), min(self._workers, len(batches[number])))
            return [functools.partial(self._crop, number, batches[number], part, staging) for part in parts]

        prepared = work_ahead(map(calls, range(len(batches))), self._workers)
        try:
            for number, _ in enumerate(prepared):
                positions = torch.from_numpy(batches[number])
                images = staging.take(number, len(positions))
                yield EvalBatch(images, self._labels[positions].to(self._device), positions.to(self._device))
        finally:
            prepared.close()

    def _crop(self, number: int, positions: np.ndarray, rows: np.ndarray, staging: Staging) -> None:
        for row in rows:
            image = self._cache.image(int(self._indices[positions[row]]))
            top, left, height, width = augmentation.centre_box(image.shape[0], image.shape[1], self._size)
            staging.put(number, row, image[top : top + height, left : left + width])
