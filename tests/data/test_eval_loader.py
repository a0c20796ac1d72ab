"""Evaluation sees every image once, at any number of processes and workers, with torchvision's pixels."""

from __future__ import annotations

import dataclasses
import io

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from harness.data.dataset import CachedImages
from harness.data.eval_loader import EvalBatches
from harness.data.gpu_augment import ImagesOnDevice
from harness.data.prefetch import CPU, LoaderProcess
from tests.data.test_loader import CACHE, INDICES, LABELS, MEAN, PICTURES, SIZE, STD, some_pictures
from tests.helpers.pixel_caches import cache_of, cropped, split_of

SPLIT = split_of(CACHE, INDICES, LABELS)


def evaluated(
    images: CachedImages = SPLIT, size: int = SIZE, **process: int
) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    loader = EvalBatches(images, cropped(size, MEAN, STD), LoaderProcess(**process), batch_size=4)
    seen = [(images.clone(), labels, positions) for images, labels, positions in loader]
    assert len(seen) == len(loader)
    return seen


@pytest.mark.parametrize("world", [1, 2, 3, 20])
@pytest.mark.parametrize("workers", [1, 3])
def test_every_image_is_scored_once(world: int, workers: int) -> None:
    reference = {
        int(p): image for images, _, positions in evaluated() for image, p in zip(images, positions, strict=True)
    }
    seen: list[int] = []
    for rank in range(world):
        for images, labels, positions in evaluated(rank=rank, world=world, workers=workers):
            assert images.dtype == torch.float32
            assert labels.dtype == positions.dtype == torch.int64
            assert len(images) == len(labels) == len(positions) <= 4
            assert labels.tolist() == LABELS[positions.numpy()].tolist()
            assert all(torch.equal(image, reference[int(p)]) for image, p in zip(images, positions, strict=True))
            seen += positions.tolist()
    assert sorted(seen) == list(range(PICTURES))


def test_a_process_without_images_yields_nothing() -> None:
    assert evaluated(rank=17, world=20) == []


def test_evaluation_pixels_are_those_of_torchvision() -> None:
    pictures = []
    for picture in some_pictures(6):
        file = io.BytesIO()
        Image.fromarray(cv2.resize(picture, (70, 61))).save(file, "JPEG")
        pictures.append(Image.open(file).convert("RGB"))
    cache = cache_of([np.asarray(v2.functional.resize(picture, 40)) for picture in pictures])
    pipeline = v2.Compose(
        [v2.Resize(40), v2.CenterCrop(33), v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
    )
    batches = evaluated(split_of(cache, np.arange(6), np.zeros(6, np.int64)), 33)
    assert [positions.tolist() for _, _, positions in batches] == [[0, 1, 2, 3], [4, 5]]
    for image, picture in zip(torch.cat([images for images, _, _ in batches]), pictures, strict=True):
        assert (image - pipeline(picture)).abs().max() < 1e-6


@pytest.mark.parametrize("rank", [0, 1, 19])
def test_images_on_the_device_are_scored_as_the_same_bits(rank: int) -> None:
    on_device = ImagesOnDevice(CACHE, CPU)
    expected = evaluated(rank=rank, world=20 if rank == 19 else 2)
    for _ in range(2):  # as they are, and without memory for them
        batches = evaluated(dataclasses.replace(SPLIT, on_device=on_device), rank=rank, world=20 if rank == 19 else 2)
        for batch, other in zip(batches, expected, strict=True):
            assert all(torch.equal(one, another) for one, another in zip(batch, other, strict=True))
        on_device.drop()


def test_too_little_memory_takes_the_images_from_the_device_once_batches_are_small() -> None:
    on_device = ImagesOnDevice(CACHE, CPU)
    images = dataclasses.replace(SPLIT, on_device=on_device)
    loader = EvalBatches(images, cropped(SIZE, MEAN, STD), LoaderProcess(), batch_size=24)
    batches = [(len(loader), on_device.resident)]
    while loader.use_less_memory():
        batches.append((len(loader), on_device.resident))
    assert batches == [(1, True), (2, True), (2, False), (3, False), (6, False), (9, False), (17, False)]
