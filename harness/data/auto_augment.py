"""RandAugment (Cubuk et al. 2020) and TrivialAugment (Müller & Hutter 2021) with torchvision's tables and kernels."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from harness.data.policies import RandomOperations

BINS = 31

OPERATIONS = (
    "Identity",
    "ShearX",
    "ShearY",
    "TranslateX",
    "TranslateY",
    "Rotate",
    "Brightness",
    "Color",
    "Contrast",
    "Sharpness",
    "Posterize",
    "Solarize",
    "AutoContrast",
    "Equalize",
)
_WITHOUT_MAGNITUDE = ("Identity", "AutoContrast", "Equalize")
_UNSIGNED = ("Posterize", "Solarize")


def operations(settings: RandomOperations, numbers: Sequence[float], size: int) -> tuple[tuple[str, float], ...]:
    """(operation, magnitude) of each operation on an image of `size` pixels.

    `numbers`: six uniform numbers, of which two choose operations, two magnitudes and two signs.
    """
    drawn = []
    for choice, strength, sign in zip(numbers[: settings.count], numbers[2:4], numbers[4:], strict=False):
        operation = OPERATIONS[int(choice * len(OPERATIONS))]
        bin = int(strength * BINS) if settings.bin is None else settings.bin
        drawn.append((operation, magnitude(operation, bin, size, wide=settings.wide, negative=sign < 0.5)))
    return tuple(drawn)


@functools.cache
def magnitude(operation: str, bin: int, size: int, *, wide: bool, negative: bool) -> float:
    """Entry `bin` of an operation's 31 magnitudes; `negative` changes its sign if the operation has two directions."""
    if operation in _WITHOUT_MAGNITUDE:
        return 0.0
    if operation == "Posterize":  # bits kept of 8
        return float(8 - round(bin / ((BINS - 1) / (6 if wide else 4))))
    low, high = 0.0, 0.99 if wide else 0.9
    if operation in ("ShearX", "ShearY"):
        high = 0.99 if wide else 0.3
    elif operation in ("TranslateX", "TranslateY"):  # pixels
        high = 32.0 if wide else 150.0 / 331.0 * size
    elif operation == "Rotate":  # degrees
        high = 135.0 if wide else 30.0
    elif operation == "Solarize":  # share of the largest level
        low, high = 1.0, 0.0
    # torch's own float32 steps: a translation is cut to whole pixels, where the last bit can matter.
    value = float(torch.linspace(low, high, BINS)[bin])
    return -value if negative and operation not in _UNSIGNED else value


def apply(image: np.ndarray, operations: Sequence[tuple[str, float]]) -> np.ndarray:
    """Apply (operation, magnitude)s to uint8 (S, S, 3) with torchvision's kernels for PIL images."""
    from PIL import Image

    pil_image: Any = Image.fromarray(image)
    for operation, magnitude in operations:
        pil_image = _apply_one(pil_image, operation, magnitude)
    return np.asarray(pil_image)


def _apply_one(image: Any, operation: str, magnitude: float) -> Any:
    from torchvision.transforms.v2 import functional as F

    match operation:
        case "ShearX":
            degrees = math.degrees(math.atan(magnitude))
            return F.affine(image, angle=0.0, translate=[0, 0], scale=1.0, shear=[degrees, 0.0], center=[0, 0])
        case "ShearY":
            degrees = math.degrees(math.atan(magnitude))
            return F.affine(image, angle=0.0, translate=[0, 0], scale=1.0, shear=[0.0, degrees], center=[0, 0])
        case "TranslateX":
            return F.affine(image, angle=0.0, translate=[int(magnitude), 0], scale=1.0, shear=[0.0, 0.0])
        case "TranslateY":
            return F.affine(image, angle=0.0, translate=[0, int(magnitude)], scale=1.0, shear=[0.0, 0.0])
        case "Rotate":
            return F.rotate(image, angle=magnitude)
        case "Brightness":
            return F.adjust_brightness(image, 1 + magnitude)
        case "Color":
            return F.adjust_saturation(image, 1 + magnitude)
        case "Contrast":
            return F.adjust_contrast(image, 1 + magnitude)
        case "Sharpness":
            return F.adjust_sharpness(image, 1 + magnitude)
        case "Posterize":
            return F.posterize(image, int(magnitude))
        case "Solarize":
            return F.solarize(image, 255 * magnitude)
        case "AutoContrast":
            return F.autocontrast(image)
        case "Equalize":
            return F.equalize(image)
    return image
