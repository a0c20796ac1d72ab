"""The batches of one run: its three splits, as its settings and its processes ask for them."""

from __future__ import annotations

import dataclasses
from typing import Any

from harness.architecture import ARCHITECTURES
from harness.config import RunConfig
from harness.data import resident
from harness.data.augment import Augment
from harness.data.dataset import Dataset, Pictures
from harness.data.every_core import usable_cores
from harness.data.loader import EvalBatches, TrainBatches
from harness.model import Preprocessing, drop_path_rates
from harness.processes import Processes

# Enough to hide augmentation behind a GPU; a CPU that also trains has no cores to spare.
MOST_WORKERS = 16


@dataclasses.dataclass(frozen=True)
class Batches:
    train: TrainBatches
    val: EvalBatches
    test: EvalBatches


def open_batches(data: Dataset, preprocessing: Preprocessing, config: RunConfig, processes: Processes) -> Batches:
    device = processes.device
    on_gpu = device.type == "cuda"
    workers = config.workers or (max(1, min(MOST_WORKERS, usable_cores() // processes.local_world)) if on_gpu else 1)
    common: dict[str, Any] = {
        "cache": data.pixels,
        "crop_size": preprocessing.crop_size,
        "mean": preprocessing.mean,
        "std": preprocessing.std,
        "device": device,
        "rank": processes.rank,
        "world": processes.world,
        "workers": workers,
    }
    keep_on_device = config.augment in ("none", "standard") and resident.fits(data.pixels.pixels.size, device)
    train = TrainBatches(
        **common,
        indices=data.train.positions,
        labels=data.train.labels,
        num_classes=len(data.classes),
        batch_size=config.batch_size,
        augment=Augment(
            policy=config.augment,
            color_jitter=config.color_jitter,
            random_erasing=config.random_erasing,
            mixup=config.mixup,
            cutmix=config.cutmix,
            seed=config.seed,
        ),
        label_smoothing=config.label_smoothing,
        drop_path=(
            drop_path_rates(ARCHITECTURES[config.model].num_layers, config.drop_path).numpy()
            if config.drop_path
            else None
        ),
        on_device=resident.upload(data.pixels, device) if keep_on_device else None,
    )

    def whole(pictures: Pictures) -> EvalBatches:
        # Without gradients a pass takes little memory; the size changes speed alone.
        size = config.micro_batch or max(1, min(config.batch_size, 64) if not on_gpu else 128)
        return EvalBatches(**common, indices=pictures.positions, labels=pictures.labels, batch_size=size)

    return Batches(train, whole(data.val), whole(data.test))
