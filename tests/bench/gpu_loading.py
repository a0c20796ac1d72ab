"""Batches alone, with nothing done to them: images that lie on the device against images from the host."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch

from harness.data.augment import Augment
from harness.data.dataset import CachedImages
from harness.data.eval_loader import EvalBatch, EvalBatches
from harness.data.gpu_augment import ImagesOnDevice
from harness.data.loader import Batch, TrainBatches
from harness.data.prefetch import LoaderProcess
from harness.launch.cores import usable_cores
from tests.bench.gpu_steps import CLASSES, Row, Setup
from tests.bench.real_run import lap
from tests.helpers.pixel_caches import cache_of, cropped, split_of

BATCHES = 8
EPOCHS = 3

Draw = Callable[[], Iterator[Batch] | Iterator[EvalBatch]]


def loading_rows(setup: Setup, device: torch.device) -> Iterator[Row]:
    """Images per second, the best of three epochs, and whether images from both places have the same bits."""
    count, side = BATCHES * setup.batch_sizes[-1], setup.image_size * 8 // 7
    random = np.random.default_rng(0)
    cache = cache_of([random.integers(0, 256, (side, side, 3), dtype=np.uint8) for _ in range(count)])
    host = split_of(cache, np.arange(count), np.arange(count) % CLASSES)
    on_device, dropped = ImagesOnDevice(cache, device), ImagesOnDevice(cache, device)
    dropped.drop()
    places = {
        "host": host,
        "device": dataclasses.replace(host, on_device=on_device),
        "device, out of memory": dataclasses.replace(host, on_device=dropped),
    }
    bits: dict[tuple[str, str], str] = {}
    for place, images in places.items():
        for name, draw in loaders(setup, images, device).items():
            bits[name, place] = checksum(draw)
            seconds = min(lap(partial(exhaust, draw)).wall for _ in range(EPOCHS))
            yield [f"{name}: {place}", f"{count / seconds:.0f} images/s"]
    # Augmentation on the device agrees with that on the host within two levels; all else is the same.
    equal = [("training, none", "host"), ("scoring", "host"), ("training, standard", "device, out of memory")]
    for name, place in equal:
        same = bits[name, place] == bits[name, "device"]
        yield [f"{name}: {place} and device", "same bits" if same else "other bits"]


def loaders(setup: Setup, images: CachedImages, device: torch.device) -> dict[str, Draw]:
    rule, size = cropped(setup.image_size), setup.batch_sizes[-1]
    process = LoaderProcess(device, workers=min(16, usable_cores()))

    def training(policy: str) -> Draw:
        augment = Augment(policy)
        batches = TrainBatches(images, rule, process, num_classes=CLASSES, batch_size=size, augment=augment)
        return partial(batches.epoch, 0)

    scoring = EvalBatches(images, rule, process, batch_size=size)
    return {
        "training, none": training("none"),
        "training, standard": training("standard"),
        "scoring": scoring.__iter__,
    }


def exhaust(draw: Draw) -> None:
    for _ in draw():
        pass


def checksum(draw: Draw) -> str:
    total = hashlib.blake2b()
    for batch in draw():
        total.update(batch.images.cpu().numpy())
    return total.hexdigest()
