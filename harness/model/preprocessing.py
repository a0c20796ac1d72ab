"""How images are prepared for a model: resizing, centre crop and normalisation, as its weights expect them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from harness.config import RunConfig
from harness.errors import ConfigError, WeightsError
from harness.model.architectures import ARCHITECTURES, entry_of
from harness.model.description import Description, description_of
from harness.model.pretrained import published
from harness.model.timm_catalog import is_timm
from harness.model.timm_model import check_model_name, weights_entry
from harness.model.weights_file import check_file, read_metadata
from harness.runs.rules import finite_number
from harness.settings.data import INTERPOLATIONS, channels

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


def preprocessing_of(config: RunConfig) -> Preprocessing:
    """How a run of these settings prepares its images. Of a weights file only the header is read."""
    model = config.model
    check_model_name(model)
    entry = entry_of(model)
    patch_size = entry.patch_size
    if not entry.image_size and config.image_size is None:
        raise ConfigError(
            f"The images of {model} are not square: give --image-size, a multiple of {patch_size}, for squares."
        )
    defaults = _preprocessing_of_weights(model, config.weights)
    crop_size = config.image_size or defaults.crop_size
    if crop_size % patch_size:
        below = crop_size // patch_size * patch_size
        nearest = f"{below} or {below + patch_size}" if below else str(patch_size)
        raise ConfigError(
            f"--image-size {crop_size} is not a multiple of {model}'s patch size, {patch_size}; take {nearest}."
        )
    share = config.crop_pct or defaults.crop_size / defaults.resize_size
    return Preprocessing(
        resize_size=round(crop_size / share),
        crop_size=crop_size,
        interpolation=config.interpolation or defaults.interpolation,
        mean=channels(config.mean) if config.mean else defaults.mean,
        std=channels(config.std) if config.std else defaults.std,
    )


def _preprocessing_of_weights(model: str, weights: str) -> Preprocessing:
    """What torchvision publishes, the file records or the files beside it say; else ImageNet's mean and deviation."""
    size = entry_of(model).image_size
    entry = published(model, weights)
    if entry is not None:
        preset = entry.transforms()
        crop_size, resize_size = preset.crop_size[0], preset.resize_size[0]
        return Preprocessing(resize_size, crop_size, preset.interpolation.value, _rgb(preset.mean), _rgb(preset.std))
    if weights == "demo":
        return Preprocessing(size, size, "bilinear", HALF, HALF)
    default = Preprocessing(round(size / DEFAULT_CROP_PCT), size, "bilinear", IMAGENET_MEAN, IMAGENET_STD)
    if is_timm(model):
        default = _by_timm(model)
    if weights in ("none", "pretrained"):
        return default
    path = check_file(weights)
    metadata = read_metadata(path)
    if "preprocessing" in metadata:
        try:
            return checked_preprocessing(json.loads(metadata["preprocessing"]))
        except (ValueError, RecursionError) as error:
            raise WeightsError(f"{path}: 'preprocessing' in its metadata cannot be used ({error}).") from error
    if path.suffix.lower() == ".npz" and not is_timm(model):  # Google trained on values from -1 to 1
        return replace(default, mean=HALF, std=HALF)
    description = description_for(model, path)
    return _described(path, description, default) if description.source else default


def timm_assumptions(model: str) -> tuple[str, ...]:
    """Sentences: where images are prepared otherwise than timm's entry of the name says."""
    entry = weights_entry(model)
    sentences = []
    if entry["crop_mode"] == "squash":
        sentences.append(
            "timm squashes the images of these weights to a square; here the short side is resized and the centre is "
            "cropped."
        )
    if entry["interpolation"] not in INTERPOLATIONS:
        sentences.append(
            f"The interpolation of these weights, {entry['interpolation']}, is not available: bicubic is used."
        )
    return tuple(sentences)


def assumptions(config: RunConfig, path: Path) -> tuple[str, ...]:
    """Sentences: what the files beside a weights file said, and what was assumed because nothing says it."""
    model = config.model
    if path.suffix.lower() == ".npz" or "preprocessing" in read_metadata(path):
        return ()
    description = description_for(model, path)
    of_timm = is_timm(model)
    sentences = []
    if description.mean and description.std:
        sentences.append(f"Its images are prepared as {description.source} beside it says.")
    elif not (config.mean and config.std):
        assumed = f"as timm prepares those of {model}, is" if of_timm else "ImageNet's mean and deviation are"
        sentences.append(
            f"It does not say how its images were prepared: {assumed} assumed. Others are given with --mean and --std."
        )
    if description.squashes:
        sentences.append(
            "Its own preparation squashes images to a square; here the short side is resized and the centre is cropped."
        )
    interpolation = description.interpolation
    if interpolation and interpolation not in INTERPOLATIONS and not config.interpolation:
        sentences.append(f"Its interpolation, {interpolation}, is not available: bicubic is used.")
    if description.num_heads is None and not of_timm:
        heads = ARCHITECTURES[model].num_heads
        sentences.append(
            f"It does not say its number of attention heads or its pooling: {heads} heads and the class token, as in "
            f"{model}, are assumed."
        )
    return tuple(sentences)


def description_for(model: str, path: Path) -> Description:
    """What the files beside a weights file say; WeightsError if they describe another pooling than the model's."""
    return description_of(path, entry_of(model).pool)


def _by_timm(model: str) -> Preprocessing:
    """What timm's entry of the name says; bicubic for an interpolation that is not available here."""
    entry = weights_entry(model)
    size = entry["input_size"][-1]
    interpolation = entry["interpolation"] if entry["interpolation"] in INTERPOLATIONS else "bicubic"
    return Preprocessing(
        math.floor(size / entry["crop_pct"]), size, interpolation, _rgb(entry["mean"]), _rgb(entry["std"])
    )


def _described(path: Path, description: Description, default: Preprocessing) -> Preprocessing:
    """The preprocessing that the files beside a weights file describe; defaults for what they do not say."""
    crop_size = description.crop_size or default.crop_size
    interpolation = description.interpolation or default.interpolation
    try:
        if type(crop_size) is not int or not 0 < (description.crop_pct or 1) <= 1:
            raise ValueError(f"its crop size is {crop_size!r}, its crop_pct {description.crop_pct!r}")
        if description.crop_pct:
            resize_size = math.floor(crop_size / description.crop_pct)
        else:
            resize_size = round(crop_size * default.resize_size / default.crop_size)
        return checked_preprocessing(
            {
                "resize_size": description.resize_size or resize_size,
                "crop_size": crop_size,
                "interpolation": interpolation if interpolation in INTERPOLATIONS else "bicubic",
                "mean": description.mean or default.mean,
                "std": description.std or default.std,
            }
        )
    except (ValueError, TypeError, OverflowError) as error:
        raise WeightsError(f"{description.source} beside {path} cannot be used: {error}.") from error


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
    if interpolation not in INTERPOLATIONS:
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
