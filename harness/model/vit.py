"""Vision Transformers by name: architecture, how images are prepared for them, and the model ready to train."""

from __future__ import annotations

import json
import re
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torchvision.models import VisionTransformer

from harness.config import NAMED_WEIGHTS, RunConfig
from harness.errors import ConfigError, WeightsError
from harness.model.architectures import ARCHITECTURES, Architecture, check_architecture
from harness.model.pretrained import check_word, published, sha256, weights_path
from harness.model.state_dict_keys import to_torchvision
from harness.model.weights import load_into, read_metadata, read_weights
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


@dataclass(frozen=True)
class Loaded:
    """A model ready to train, and where it comes from."""

    model: VisionTransformer
    preprocessing: Preprocessing
    report: tuple[str, ...]  # sentences: what was loaded, left out, resized, assumed
    source: str
    weights_digest: str | None  # SHA-256 of the weights file


def preprocessing_for(
    model: str, weights: str, image_size: int | None = None, crop_pct: float | None = None
) -> Preprocessing:
    """How images are prepared for these weights; reads no more of a weights file than its header."""
    check_word(model, weights)
    own = _own_preprocessing(model, weights)
    crop_size = image_size or own.crop_size
    patch_size = ARCHITECTURES[model].patch_size
    if crop_size % patch_size:
        below = crop_size // patch_size * patch_size
        nearest = f"{below} or {below + patch_size}" if below else str(patch_size)
        raise ConfigError(
            f"--image-size {crop_size} is not a multiple of {model}'s patch size, {patch_size}; take {nearest}."
        )
    share = crop_pct or own.crop_size / own.resize_size
    return replace(own, crop_size=crop_size, resize_size=round(crop_size / share))


def _own_preprocessing(model: str, weights: str) -> Preprocessing:
    size = ARCHITECTURES[model].image_size
    entry = published(model, weights)
    if entry is not None:
        preset = entry.transforms()
        crop_size, resize_size = preset.crop_size[0], preset.resize_size[0]
        return Preprocessing(
            resize_size, crop_size, preset.interpolation.value, _three(preset.mean), _three(preset.std)
        )
    if weights == "demo":
        return Preprocessing(size, size, "bilinear", HALF, HALF)
    default = Preprocessing(round(size / DEFAULT_CROP_PCT), size, "bilinear", IMAGENET_MEAN, IMAGENET_STD)
    if weights == "none":
        return default
    metadata = read_metadata(weights)
    if "preprocessing" in metadata:
        return _parse_preprocessing(weights, metadata["preprocessing"])
    if Path(weights).suffix.lower() == ".npz":  # Google's ViTs see values of -1..1
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


def _three(values: Iterable[float]) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in values)
    return red, green, blue


def build_model(
    name: str,
    *,
    num_classes: int,
    weights: str,
    image_size: int | None = None,
    crop_pct: float | None = None,
    drop_path: float = 0.0,
    freeze: str = "none",
    head_init: str = "zero",
    seed: int = 0,
    grad_checkpointing: bool = False,
) -> Loaded:
    """The named model for `num_classes`, on the CPU in float32, with its weights loaded and its head in place."""
    preprocessing = preprocessing_for(name, weights, image_size, crop_pct)
    path = weights_path(name, weights)
    model = _new_model(ARCHITECTURES[name], preprocessing.crop_size, num_classes, head_init, seed)
    if path is None:
        report: tuple[str, ...] = (f"No pretrained weights: {name} starts from new ones, seed {seed}.",)
    else:
        report = _load_file(model, name, path)
        if (
            weights not in NAMED_WEIGHTS
            and path.suffix.lower() != ".npz"
            and "preprocessing" not in read_metadata(path)
        ):
            report += ("It does not say how its images were prepared: ImageNet's mean and deviation are assumed.",)
    if freeze == "backbone":
        for parameter_name, parameter in model.named_parameters():
            parameter.requires_grad = parameter_name.startswith("heads.")
    if drop_path > 0:
        add_drop_path(model)
    if grad_checkpointing:
        enable_grad_checkpointing(model)
    source = f"{weights} ({path.name})" if path is not None and weights in NAMED_WEIGHTS else weights
    return Loaded(model, preprocessing, report, source, None if path is None else sha256(path))


def model_for(config: RunConfig, num_classes: int) -> Loaded:
    """The model that a run of these settings trains."""
    return build_model(
        config.model,
        num_classes=num_classes,
        weights=config.weights,
        image_size=config.image_size,
        crop_pct=config.crop_pct,
        drop_path=config.drop_path,
        freeze=config.freeze,
        head_init=config.head_init,
        seed=config.seed,
        grad_checkpointing=config.grad_checkpointing,
    )


def _new_model(
    architecture: Architecture, image_size: int, num_classes: int, head_init: str, seed: int
) -> VisionTransformer:
    """New weights that depend on the seed alone and leave the global random state as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would reach the GPUs' generators too
        model = VisionTransformer(
            image_size=image_size,
            patch_size=architecture.patch_size,
            num_layers=architecture.num_layers,
            num_heads=architecture.num_heads,
            hidden_dim=architecture.hidden_dim,
            mlp_dim=architecture.mlp_dim,
            num_classes=num_classes,
        )
        if head_init == "default":  # torchvision's own is zero, as in the paper
            model.heads.head = nn.Linear(architecture.hidden_dim, num_classes)
    return model


def _load_file(model: VisionTransformer, name: str, path: Path) -> tuple[str, ...]:
    """Loads a weights file of any known naming; an error names the file, and the --model that it is for."""
    state, _ = read_weights(path)
    try:
        state, renamed = to_torchvision(state)
        check_architecture(state, name)
        return (f"{name} takes its weights from {path}.", *renamed, *load_into(model, state))
    except WeightsError as error:
        raise WeightsError(f"{path}: {problem}" for problem in error.problems) from error


class DropPath(nn.Module):
    """Scales each sample's residual branch (B, N, D) by a factor from outside: stochastic depth, Huang et al. 2016."""

    def __init__(self) -> None:
        super().__init__()
        self.keep: Tensor | None = None  # (B,)

    def forward(self, branch: Tensor) -> Tensor:
        if self.keep is None or not self.training:
            return branch
        return branch * self.keep[:, None, None]


def add_drop_path(model: VisionTransformer) -> None:
    """Puts a DropPath at the end of both residual branches of every block; names of weights stay as they are."""
    for block in model.encoder.layers:
        block.dropout = nn.Sequential(block.dropout, DropPath())
        block.mlp.append(DropPath())


def set_drop_path(model: nn.Module, keep: Tensor | None) -> None:
    """Sets the factors, 0 or 1 / (1 - rate), of every sample and branch (B, 2 L); None keeps every branch.

    With gradient checkpointing they must stay until the backward pass is over.
    """
    drops = [module for module in model.modules() if isinstance(module, DropPath)]
    columns = [None] * len(drops) if keep is None else keep.unbind(1)
    for drop, column in zip(drops, columns, strict=True):
        drop.keep = column


def drop_path_rates(num_layers: int, rate: float) -> Tensor:
    """Rates of all branches (2 L,), in `set_drop_path`'s order: linear from 0 at the first block to `rate`."""
    return torch.linspace(0.0, rate, num_layers).repeat_interleave(2)


class RecomputedBlocks(nn.Sequential):
    """Encoder blocks whose activations are computed again in the backward pass instead of kept."""

    def forward(self, tokens: Tensor) -> Tensor:
        for block in self:
            if self.training:  # blocks draw no random numbers, so the RNG state needs no saving
                tokens = checkpoint(block, tokens, use_reentrant=False, preserve_rng_state=False)
            else:
                tokens = block(tokens)
        return tokens


def enable_grad_checkpointing(model: VisionTransformer) -> None:
    """Recomputes every encoder block in the backward pass (Chen et al. 2016); names of weights stay as they are."""
    model.encoder.layers = RecomputedBlocks(OrderedDict(model.encoder.layers.named_children())).train(model.training)


def parameter_depth(name: str, num_layers: int) -> int:
    """Distance from the input, for layer-wise decay: embeddings 0, block i i + 1, last norm and head L + 1."""
    if block := re.match(r"encoder\.layers\.encoder_layer_(\d+)\.", name):
        return int(block[1]) + 1
    if name.startswith(("conv_proj.", "class_token", "encoder.pos_embedding")):
        return 0
    if name.startswith(("encoder.ln.", "heads.")):
        return num_layers + 1
    raise ValueError(f"{name} is not a parameter of a VisionTransformer")
