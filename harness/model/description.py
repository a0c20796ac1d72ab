"""What the files beside a weights file say about it: timm's config.json, Hugging Face's preprocessor_config.json."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import WeightsError
from harness.model.norm_eps import checked_norm_eps
from harness.model.shards import INDEX, read_small_object
from harness.model.weights_file import FOLDER_NAMES, read_metadata
from harness.runs.reading import kind_of, parse_json

MAX_BYTES = 10_000_000  # of a description; real ones have a few thousand
# PIL's numbers, as Hugging Face writes them.
RESAMPLING = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}


@dataclass(frozen=True)
class Description:
    """How images were prepared for weights, and what their shapes do not tell; None for what is not said."""

    source: str = ""  # names of the files
    mean: list[float] | None = None
    std: list[float] | None = None
    interpolation: str | None = None
    crop_size: int | None = None  # pixels, of a square
    resize_size: int | None = None  # pixels, of the short side before the crop; else the crop size by crop_pct
    crop_pct: float | None = None  # as timm takes it: the short side has floor(crop_size / crop_pct) pixels
    squashes: bool = False  # images are resized to a square, whatever their shape
    num_heads: int | None = None
    norm_eps: float | None = None  # what layer norms add to the variance


def description_of(weights: Path, pool: str) -> Description:
    """The description of a weights file for a model of this pooling. Raises WeightsError if it cannot be used.

    Only files with the names that timm and Hugging Face give to the weights of a folder have one: beside any other
    file, a config.json may belong to something else.
    """
    if weights.name.removesuffix(INDEX) not in FOLDER_NAMES:
        return Description()
    config, processor = (_read(weights.with_name(name)) for name in ("config.json", "preprocessor_config.json"))
    sources = [name for name, content in (("config.json", config), ("preprocessor_config.json", processor)) if content]
    try:
        _refuse_other_computation(config, pool)
        timm = _object(config, "pretrained_cfg")
        prepared = _by_timm(timm) if timm else _by_hugging_face(processor)
        return Description(" and ".join(sources), num_heads=_heads(config), norm_eps=_norm_eps(config), **prepared)
    except (TypeError, ValueError, OverflowError) as error:
        raise WeightsError(f"{' and '.join(sources)} beside {weights} cannot be used: {error}.") from error


def stated_norm_eps(weights: Path, pool: str) -> float | None:
    """What layer norms add to the variance, if a weights file or the files beside it say so. Raises WeightsError."""
    own = read_metadata(weights).get("norm_eps")  # a run's checkpoint
    try:
        return checked_norm_eps(parse_json(own)) if own else description_of(weights, pool).norm_eps
    except ValueError as error:
        raise WeightsError(f"{weights}: 'norm_eps' in its metadata cannot be used ({error}).") from error


def _read(path: Path) -> Mapping[str, Any]:
    """The JSON object in a file; an empty one if the file does not exist."""
    if not path.is_file():
        return {}
    try:
        return read_small_object(path, MAX_BYTES)
    except ValueError as error:
        raise WeightsError(
            f"{path} cannot be used: {error}. Correct it, or move it away to load without it."
        ) from error


def _refuse_other_computation(config: Mapping[str, Any], expected: str) -> None:
    """Raise ValueError for models that have the weights of ours but compute something else."""
    pool = config.get("global_pool", _object(config, "model_args").get("global_pool", "token"))
    if expected != "token" and pool != expected and "global_pool" in {**config, **_object(config, "model_args")}:
        raise ValueError(f"global_pool is {pool!r}: that of the model is {expected!r}")
    if expected == "token" and pool not in ("token", ""):
        raise ValueError(f"global_pool is {pool!r}: the model pools its patches, torchvision's reads the class token")
    if (activation := config.get("hidden_act", "gelu")) != "gelu":
        raise ValueError(f"hidden_act is {activation!r}: torchvision's VisionTransformer has gelu")


def _object(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """An object inside the config; empty if it is not there."""
    value = config.get(name) or {}
    if not isinstance(value, Mapping):
        raise ValueError(f"{name} is {kind_of(value)} instead of an object")
    return value


def _heads(config: Mapping[str, Any]) -> int | None:
    heads = config.get("num_attention_heads", _object(config, "model_args").get("num_heads"))
    if heads is not None and (type(heads) is not int or heads < 1):
        raise ValueError(f"the number of attention heads is {heads!r}, not a whole number of at least 1")
    return heads


def _norm_eps(config: Mapping[str, Any]) -> float | None:
    # transformers' ViTConfig has 1e-12 where a file does not say it.
    eps = config.get("layer_norm_eps", 1e-12 if config.get("model_type") == "vit" else None)
    return None if eps is None else checked_norm_eps(eps)


def _by_timm(entry: Mapping[str, Any]) -> dict[str, Any]:
    size = entry.get("input_size")
    if size and not isinstance(size, list):
        raise ValueError(f"input_size is {kind_of(size)} instead of a list")
    return {
        "mean": entry.get("mean"),
        "std": entry.get("std"),
        "interpolation": entry.get("interpolation"),
        "crop_size": size[-1] if size else None,
        "crop_pct": entry.get("crop_pct"),
        "squashes": entry.get("crop_mode") == "squash",
    }


def _by_hugging_face(processor: Mapping[str, Any]) -> dict[str, Any]:
    """A processor resizes to a square, or resizes the short side and then crops the centre."""
    if not processor:
        return {}
    _refuse_other_pixels(processor)
    normalises = processor.get("do_normalize", True)
    size = processor.get("size")
    short_side = size.get("shortest_edge") if isinstance(size, Mapping) else None
    crop = _side(processor.get("crop_size")) if processor.get("do_center_crop") else None
    resized = short_side or _side(size)
    return {
        "mean": processor.get("image_mean") if normalises else [0.0] * 3,
        "std": processor.get("image_std") if normalises else [1.0] * 3,
        "interpolation": RESAMPLING.get(processor.get("resample", 2)),
        "crop_size": crop or resized,
        "resize_size": resized if crop else None,
        "crop_pct": 1.0,
        "squashes": short_side is None,
    }


def _refuse_other_pixels(processor: Mapping[str, Any]) -> None:
    """Raise ValueError if pixels are not divided by 255, which is what null means, too."""
    factor = processor.get("rescale_factor")
    if processor.get("do_rescale") not in (None, True):
        what = "leaves pixels as they are (do_rescale is false)"
    elif factor is not None and not math.isclose(factor, 1 / 255, rel_tol=1e-6):
        what = f"multiplies pixels by {factor!r}"
    else:
        return
    raise ValueError(
        f"preprocessor_config.json {what}, but here pixels are divided by 255. Move it away, and give the --mean and "
        "--std of pixels from 0 to 1"
    )


def _side(size: Any) -> int | None:
    """The side of a square: a number, or an object with `height` and `width`."""
    if isinstance(size, Mapping):
        if size.get("height") != size.get("width"):
            raise ValueError(f"the image size {dict(size)} is not a square")
        size = size.get("height")
    return size
