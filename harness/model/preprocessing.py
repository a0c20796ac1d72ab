"""How images are prepared for a model: resizing, centre crop and normalisation, as its weights expect them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from harness.errors import ConfigError, WeightsError
from harness.model.architectures import ARCHITECTURES
from harness.model.pretrained import check_word, published
from harness.model.weights import read_metadata
from harness.runs.rules import finite_number

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5)
MAX_SIZE = 65536  # pixels of a side
DEFAULT_CROP_PCT = 0.875  # 224 of 256 pixels, as torchvision evaluates


@dataclass(frozen=True)
class Preprocessing:
    """From an image to the model's input: resize the short side, crop the centre (pixels), normalise 0..1."""

    resize_size: int
    crop_size: int
    interpolation: str  # "bilinear" or "bicubic"
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


def preprocessing_for(
    model: str, weights: str, image_size: int | None = None, crop_pct: float | None = None
) -> Preprocessing:
    """How images are prepared for these weights. Of a weights file only the header is read."""
    check_word(model, weights)
    defaults = _preprocessing_of_weights(model, weights)
    crop_size = image_size or defaults.crop_size
    patch_size = ARCHITECTURES[model].patch_size
    if crop_size % patch_size:
        below = crop_size // patch_size * patch_size
        nearest = f"{below} or {below + patch_size}" if below else str(patch_size)
        raise ConfigError(
            f"--image-size {crop_size} is not a multiple of {model}'s patch size, {patch_size}; take {nearest}."
        )
    share = crop_pct or defaults.crop_size / defaults.resize_size
    return replace(defaults, crop_size=crop_size, resize_size=round(crop_size / share))


def _preprocessing_of_weights(model: str, weights: str) -> Preprocessing:
    """What torchvision publishes or the file records; else ImageNet's mean and std, and 7/8 of the short side."""
    size = ARCHITECTURES[model].image_size
    entry = published(model, weights)
    if entry is not None:
        preset = entry.transforms()
        crop_size, resize_size = preset.crop_size[0], preset.resize_size[0]
        return Preprocessing(resize_size, crop_size, preset.interpolation.value, _rgb(preset.mean), _rgb(preset.std))
    if weights == "demo":
        return Preprocessing(size, size, "bilinear", HALF, HALF)
    default = Preprocessing(round(size / DEFAULT_CROP_PCT), size, "bilinear", IMAGENET_MEAN, IMAGENET_STD)
    if weights == "none":
        return default
    metadata = read_metadata(weights)
    if "preprocessing" in metadata:
        return _parse_preprocessing(weights, metadata["preprocessing"])
    if Path(weights).suffix.lower() == ".npz":  # Google trained on values from -1 to 1
        return replace(default, mean=HALF, std=HALF)
    return default


def _parse_preprocessing(path: str, text: str) -> Preprocessing:
    """Preprocessing from the metadata of a weights file."""
    try:
        return checked_preprocessing(json.loads(text))
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path}: 'preprocessing' in its metadata cannot be used ({error}).") from error


def checked_preprocessing(fields: object) -> Preprocessing:
    """Preprocessing from the JSON object of a checkpoint's metadata. Raises ValueError, which names a wrong entry."""
    if not isinstance(fields, Mapping):
        raise ValueError("preprocessing is not an object")
    resize_size, crop_size, interpolation = (fields.get(name) for name in ("resize_size", "crop_size", "interpolation"))
    if type(crop_size) is not int or type(resize_size) is not int or not 8 <= crop_size <= resize_size <= MAX_SIZE:
        raise ValueError(
            f"crop_size is {crop_size!r} and resize_size {resize_size!r}: they must be whole numbers from 8 to "
            f"{MAX_SIZE}, crop_size the smaller one"
        )
    if interpolation not in ("bilinear", "bicubic"):
        raise ValueError(f"interpolation is {interpolation!r} instead of bilinear or bicubic")
    mean, std = (_channels(name, fields.get(name)) for name in ("mean", "std"))
    if min(std) <= 0:
        raise ValueError(f"std is {list(std)}: it must be above 0")
    return Preprocessing(resize_size, crop_size, interpolation, mean, std)


def _channels(name: str, values: object) -> tuple[float, float, float]:
    numbers = [finite_number(value) for value in values] if isinstance(values, list | tuple) else []
    red, green, blue = numbers if len(numbers) == 3 else (None, None, None)
    if red is None or green is None or blue is None or max(abs(red), abs(green), abs(blue)) >= 256:
        raise ValueError(f"{name} is not a list of three numbers below 256")
    return red, green, blue


def _rgb(values: Iterable[float]) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in values)
    return red, green, blue
