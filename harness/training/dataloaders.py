"""The dataloaders of one run: training, validation, test and attention."""

from __future__ import annotations

import dataclasses

import numpy as np

from harness.config import RunConfig
from harness.data import gpu_augment
from harness.data.augment import Augment
from harness.data.dataset import CachedImages, Dataset
from harness.data.eval_loader import EvalBatches
from harness.data.loader import TrainBatches
from harness.data.policies import POLICIES
from harness.data.prefetch import LoaderProcess
from harness.errors import SurroundingsError
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


def check_same_images(data: Dataset, processes: Processes) -> None:
    """Raises SurroundingsError if a node has other images: ranks would train on different data, or wait for ever."""
    own = data.fingerprint, sorted(data.skipped)
    if processes.any(own != processes.from_main(own)):
        raise SurroundingsError(
            f"{data.root} does not hold the same readable images on every node of this run. Copy the folder to the "
            "nodes again, or use one on a disk that they share."
        )


def keep_on_device(data: Dataset, config: RunConfig, processes: Processes) -> Dataset:
    """The data with their images in device memory, if they fit there on every rank and --augment works there."""
    fits = gpu_augment.fits(data.pixels.nbytes, processes.device) and POLICIES[config.augment].works_on_device
    if processes.any(not fits):
        return data
    images = gpu_augment.ImagesOnDevice(data.pixels, processes.device)
    train, val, test = (dataclasses.replace(split, on_device=images) for split in (data.train, data.val, data.test))
    return dataclasses.replace(data, train=train, val=val, test=test)


def open_batches(
    data: Dataset,
    preprocessing: Preprocessing,
    config: RunConfig,
    processes: Processes,
    class_weights: np.ndarray | None = None,
) -> Batches:
    train = TrainBatches(
        data.train,
        preprocessing,
        _process(config, processes),
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
    )
    val, test = (scoring_batches(split, preprocessing, config, processes) for split in (data.val, data.test))
    return Batches(train, val, test)


def scoring_batches(
    images: CachedImages,
    preprocessing: Preprocessing,
    config: RunConfig,
    processes: Processes,
    batch_size: int | None = None,
) -> EvalBatches:
    """Images, each once over all processes; without gradients the batch size affects speed only."""
    if batch_size is None:
        batch_size = config.micro_batch or (GPU_SCORING_BATCH if _on_gpu(processes) else CPU_SCORING_BATCH)
    process, read_ahead = _process(config, processes), config.shuffle == "blocks"
    return EvalBatches(images, preprocessing, process, batch_size=batch_size, read_ahead=read_ahead)


def explaining_batches(
    images: CachedImages, preprocessing: Preprocessing, config: RunConfig, processes: Processes
) -> EvalBatches:
    """Images in smaller batches: gradients of attention take as much memory as a training step."""
    size = GPU_EXPLAINING_BATCH if _on_gpu(processes) else CPU_EXPLAINING_BATCH
    return scoring_batches(images, preprocessing, config, processes, min(size, config.micro_batch or size))


def _on_gpu(processes: Processes) -> bool:
    return processes.device.type == "cuda"


def _process(config: RunConfig, processes: Processes) -> LoaderProcess:
    cores = max(1, usable_cores() // processes.local_world)
    workers = config.workers or (min(MAX_WORKERS, cores) if _on_gpu(processes) else 1)
    return LoaderProcess(processes.device, processes.rank, processes.world, workers)
