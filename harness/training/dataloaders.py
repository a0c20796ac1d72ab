"""The dataloaders of one run: training, validation, test and attention."""

from __future__ import annotations

import dataclasses

import numpy as np

from harness.config import RunConfig
from harness.data import gpu_augment
from harness.data.augment import Augment
from harness.data.cache import PixelCache
from harness.data.dataset import CachedImages, Dataset
from harness.data.eval_loader import EvalBatches
from harness.data.loader import TrainBatches
from harness.data.policies import POLICIES
from harness.launch.cores import usable_cores
from harness.model.architectures import entry_of
from harness.model.drop_path import drop_path_rates
from harness.model.preprocessing import Preprocessing
from harness.training.distributed import Processes

# Enough to keep a GPU busy. Training on a CPU needs all cores itself and gets one worker.
MAX_WORKERS = 16

GPU_SCORING_BATCH = 128
CPU_SCORING_BATCH = 32

GPU_EXPLAINING_BATCH = 32
CPU_EXPLAINING_BATCH = 8


@dataclasses.dataclass(frozen=True)
class Batches:
    train: TrainBatches
    val: EvalBatches
    test: EvalBatches


def open_batches(
    data: Dataset,
    preprocessing: Preprocessing,
    config: RunConfig,
    processes: Processes,
    class_weights: np.ndarray | None = None,
) -> Batches:
    fits = gpu_augment.fits(data.pixels.nbytes, processes.device)
    keep_on_device = fits and POLICIES[config.augment].works_on_device
    train = TrainBatches(
        cache=data.pixels,
        indices=data.train.positions,
        labels=data.train.labels,
        crop_size=preprocessing.crop_size,
        mean=preprocessing.mean,
        std=preprocessing.std,
        device=processes.device,
        rank=processes.rank,
        world=processes.world,
        workers=_workers(config, processes),
        num_classes=len(data.classes),
        batch_size=config.batch_size,
        augment=Augment(
            policy=config.augment,
            color_jitter=config.color_jitter,
            crop_area=config.crop_area,
            random_erasing=config.random_erasing,
            mixup=config.mixup,
            cutmix=config.cutmix,
            seed=config.seed,
        ),
        label_smoothing=config.label_smoothing,
        order=config.sampler,
        shuffle=config.shuffle,
        class_weights=class_weights,
        drop_path=(
            drop_path_rates(entry_of(config.model).blocks, config.drop_path).numpy() if config.drop_path else None
        ),
        on_device=gpu_augment.upload(data.pixels, processes.device) if keep_on_device else None,
    )
    val, test = (
        scoring_batches(data.pixels, split, preprocessing, config, processes) for split in (data.val, data.test)
    )
    return Batches(train, val, test)


def scoring_batches(
    pixels: PixelCache, split: CachedImages, preprocessing: Preprocessing, config: RunConfig, processes: Processes
) -> EvalBatches:
    """A split, each image once over all processes; without gradients the batch size affects speed only."""
    size = config.micro_batch or (GPU_SCORING_BATCH if processes.device.type == "cuda" else CPU_SCORING_BATCH)
    return _eval_batches(pixels, split, preprocessing, config, processes, size)


def explaining_batches(
    pixels: PixelCache, split: CachedImages, preprocessing: Preprocessing, config: RunConfig, processes: Processes
) -> EvalBatches:
    """A split in smaller batches: gradients of attention take as much memory as a training step."""
    size = GPU_EXPLAINING_BATCH if processes.device.type == "cuda" else CPU_EXPLAINING_BATCH
    size = min(size, config.micro_batch or size)
    return _eval_batches(pixels, split, preprocessing, config, processes, size)


def _eval_batches(
    pixels: PixelCache,
    split: CachedImages,
    preprocessing: Preprocessing,
    config: RunConfig,
    processes: Processes,
    batch_size: int,
) -> EvalBatches:
    return EvalBatches(
        cache=pixels,
        indices=split.positions,
        labels=split.labels,
        batch_size=batch_size,
        crop_size=preprocessing.crop_size,
        mean=preprocessing.mean,
        std=preprocessing.std,
        device=processes.device,
        rank=processes.rank,
        world=processes.world,
        workers=_workers(config, processes),
        read_ahead=config.shuffle == "blocks",
    )


def _workers(config: RunConfig, processes: Processes) -> int:
    """Threads per process that prepare batches."""
    if config.workers:
        return config.workers
    cores_per_process = max(1, usable_cores() // processes.local_world)
    return min(MAX_WORKERS, cores_per_process) if processes.device.type == "cuda" else 1
