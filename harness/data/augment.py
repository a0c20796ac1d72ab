"""Augmentation of one image: first its parameters are drawn at random, then they are applied to uint8 pixels.

Crops and colours follow torchvision's definitions; OpenCV does the work, on all channels at once and without the GIL.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import torch

from harness.data import auto_augment, rng, seeded_transform
from harness.data.policies import POLICIES
from harness.data.seeded_transform import SeededTransform

CROP_AREA, CROP_RATIO = 0.08, (3 / 4, 4 / 3)  # Szegedy et al. 2015, torchvision's RandomResizedCrop
ERASE_AREA, ERASE_RATIO = (0.02, 0.33), (0.3, 3.3)  # Zhong et al. 2017, torchvision's RandomErasing

BRIGHTNESS, CONTRAST, SATURATION = range(3)
_JITTER_ORDERS = tuple(itertools.permutations((BRIGHTNESS, CONTRAST, SATURATION)))
LUMA = (0.2989, 0.587, 0.114)  # ITU-R 601-2, as torchvision rounds it
# OpenCV rounds to the nearest level where torchvision drops the fraction; the rest keeps whole numbers whole.
_TRUNCATE = -0.5 + 1e-3

# Each image has one block of uniform numbers, and each use a fixed place in it: no option shifts the draws of another.
_CROP, _FLIP, _FACTORS, _JITTER_ORDER = slice(0, 22), 22, slice(23, 26), 26
_OPERATIONS, _ERASE, _ERASE_BOX, _TRANSFORM_SEED = slice(27, 33), 33, slice(34, 56), 56
_BLOCK = 57


class Box(NamedTuple):
    """A rectangle of whole pixels."""

    top: int
    left: int
    height: int
    width: int


@dataclass(frozen=True)
class Augment:
    """Augmentation settings; an alpha or probability of 0 disables that augmentation."""

    policy: str = "none"  # a name in policies.py
    color_jitter: float = 0.4
    crop_area: float = CROP_AREA  # of the smallest crop, as a fraction of the image; the largest is the whole image
    random_erasing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    seed: int = 0


class AugmentParams(NamedTuple):
    """Parameters drawn for one image in one epoch, in order of use."""

    box: Box
    flip: bool
    jitter: tuple[tuple[int, float], ...]  # (BRIGHTNESS | CONTRAST | SATURATION, factor)
    operations: tuple[tuple[str, float], ...]  # (name, magnitude), see auto_augment.py
    transform: SeededTransform | None
    erase: Box | None  # in the finished image, filled with 0 after normalising


def draw(augment: Augment, *, sample: int, epoch: int, height: int, width: int, size: int) -> AugmentParams:
    """Draw the parameters of image `sample`, which has `height` x `width` pixels and becomes `size` x `size`."""
    numbers = rng.generator(augment.seed, rng.IMAGE, epoch=epoch, index=sample).random(_BLOCK).tolist()
    erase = erase_box(numbers[_ERASE_BOX], size) if numbers[_ERASE] < augment.random_erasing else None
    policy = POLICIES[augment.policy]
    if policy.crop_and_flip:
        box, flip = crop_box(numbers[_CROP], height, width, augment.crop_area), numbers[_FLIP] < 0.5
    else:
        box, flip = centre_box(height, width, size), False
    jitter: tuple[tuple[int, float], ...] = ()
    if policy.color_jitter and augment.color_jitter > 0:
        jitter = jitter_steps(numbers[_FACTORS], numbers[_JITTER_ORDER], augment.color_jitter)
    operations: tuple[tuple[str, float], ...] = ()
    if policy.operations:
        operations = auto_augment.operations(policy.operations, numbers[_OPERATIONS], size)
    transform = None
    if policy.transform:
        transform = SeededTransform(augment.policy, int(numbers[_TRANSFORM_SEED] * 2**53))
    return AugmentParams(box, flip, jitter, operations, transform, erase)


def centre_box(height: int, width: int, size: int) -> Box:
    """torchvision's CenterCrop: Python rounds a half pixel to the even side."""
    assert size <= min(height, width), f"A crop of {size} pixels does not fit into an image of {height} x {width}."
    return Box(round((height - size) / 2), round((width - size) / 2), size, size)


def centre_crop(image: np.ndarray, size: int) -> np.ndarray:
    """The central square (size, size, 3) of an image (H, W, 3), as a view."""
    top, left, height, width = centre_box(image.shape[0], image.shape[1], size)
    return image[top : top + height, left : left + width]


def crop_box(numbers: Sequence[float], height: int, width: int, smallest: float = CROP_AREA) -> Box:
    """torchvision's RandomResizedCrop from 22 uniform numbers: ten tries of area and ratio, then top and left."""
    low, high = math.log(CROP_RATIO[0]), math.log(CROP_RATIO[1])
    for area_number, ratio_number in zip(numbers[0:20:2], numbers[1:20:2], strict=True):
        area = height * width * (smallest + (1 - smallest) * area_number)
        ratio = math.exp(low + (high - low) * ratio_number)
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            return Box(int(numbers[20] * (height - h + 1)), int(numbers[21] * (width - w + 1)), h, w)
    w, h = width, height  # the widest centre crop of an allowed ratio
    if width / height < CROP_RATIO[0]:
        h = round(w / CROP_RATIO[0])
    elif width / height > CROP_RATIO[1]:
        w = round(h * CROP_RATIO[1])
    return Box((height - h) // 2, (width - w) // 2, h, w)


def erase_box(numbers: Sequence[float], size: int) -> Box | None:
    """torchvision's RandomErasing from 22 uniform numbers; None when no try fits, as happens in small images."""
    low, high = math.log(ERASE_RATIO[0]), math.log(ERASE_RATIO[1])
    for area_number, ratio_number in zip(numbers[0:20:2], numbers[1:20:2], strict=True):
        area = size * size * (ERASE_AREA[0] + (ERASE_AREA[1] - ERASE_AREA[0]) * area_number)
        ratio = math.exp(low + (high - low) * ratio_number)
        h, w = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if h < size and w < size:
            return Box(int(numbers[20] * (size - h + 1)), int(numbers[21] * (size - w + 1)), h, w)
    return None


def jitter_steps(factors: Sequence[float], order: float, strength: float) -> tuple[tuple[int, float], ...]:
    """torchvision's ColorJitter without hue, from uniform numbers: factors in [1 - s, 1 + s], any order."""
    low, high = max(0.0, 1 - strength), 1 + strength
    scaled = [low + (high - low) * number for number in factors]
    return tuple((operation, scaled[operation]) for operation in _JITTER_ORDERS[int(order * len(_JITTER_ORDERS))])


def apply(image: np.ndarray, params: AugmentParams, size: int) -> np.ndarray:
    """Uint8 (size, size, 3) from the pixels of one image, uint8 (H, W, 3); everything except the erasing."""
    box = params.box
    result = resize(image[box.top : box.top + box.height, box.left : box.left + box.width], size)
    if params.flip:
        result = cv2.flip(result, 1)
    if params.jitter:
        result = jitter(result, params.jitter)
    if params.operations:
        result = auto_augment.apply(result, params.operations)
    if params.transform:
        result = seeded_transform.apply(result, params.transform)
    return result


def resize(crop: np.ndarray, size: int) -> np.ndarray:
    """Bilinear with antialiasing, within one level of torchvision; a crop of the right size is returned as it is."""
    height, width = crop.shape[:2]
    if height == width == size:
        return crop
    if height <= size and width <= size:
        return cv2.resize(crop, (size, size), interpolation=cv2.INTER_LINEAR)
    # OpenCV has no antialiased bilinear filter for shrinking. PyTorch has one, at a third of the speed; it needs
    # writable, contiguous pixels, and therefore a copy.
    tensor = torch.from_numpy(crop.copy()).permute(2, 0, 1)[None]
    shrunk = torch.nn.functional.interpolate(tensor, (size, size), mode="bilinear", antialias=True)
    return np.ascontiguousarray(shrunk[0].permute(1, 2, 0).numpy())


def jitter(image: np.ndarray, steps: Sequence[tuple[int, float]]) -> np.ndarray:
    """Brightness, contrast and saturation of uint8 (S, S, 3), each step one affine map of (R, G, B), then clamped.

    torchvision blends x * f + (1 - f) * d, where d is 0, the mean grey, or the pixel's grey. It drops the fraction of
    a grey; taking half a level off is that on average, and keeps every step within one level of torchvision's.
    """
    affine = np.zeros((3, 4))
    for operation, factor in steps:
        affine[:, :3] = np.eye(3) * factor
        affine[:, 3] = _TRUNCATE
        if operation == CONTRAST:
            affine[:, 3] += (1 - factor) * (np.dot(LUMA, cv2.mean(image)[:3]) - 0.5)
        elif operation == SATURATION:
            affine[:, :3] += (1 - factor) * np.array(LUMA)
            affine[:, 3] -= (1 - factor) * 0.5
        image = cv2.transform(image, affine)
    return image
