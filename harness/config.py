"""RunConfig: the one list of hyperparameters. Command line, `config.json`, W&B config and help derive from it."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
import re
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.data.policies import POLICIES
from harness.errors import ConfigError, PathError
from harness.recipes import BEFORE_RECIPES, DEFAULT, RECIPES, Derived
from harness.run_name import sweep_run_name, swept_settings

MODELS = ("vit_b_16", "vit_b_32", "vit_l_16", "vit_l_32", "vit_h_14", "vit_s_16", "vit_ti_16", "vit_demo")

INTERPOLATIONS = ("bilinear", "bicubic")

# Named weights and the models they exist for. The imagenet ones are torchvision's; `demo` is part of this package.
NAMED_WEIGHTS = {
    "imagenet": ("vit_b_16", "vit_b_32", "vit_l_16", "vit_l_32"),
    "imagenet-swag": ("vit_b_16", "vit_l_16", "vit_h_14"),
    "imagenet-swag-linear": ("vit_b_16", "vit_l_16", "vit_h_14"),
    "demo": ("vit_demo",),
    "none": MODELS,
    "pretrained": (),
}
# Models of timm are given as timm:NAME; these named weights exist for them.
TIMM_MODEL = re.compile(r"timm:\w[\w.-]{0,99}", re.ASCII)
TIMM_WEIGHTS = ("pretrained", "none")

NAMED_CLASS_WEIGHTS = ("none", "balanced", "effective")

_REQUIRED = object()
# In place of a default: the recipe's value.
BY_RECIPE = object()
# What versions without a setting computed, of a setting that all versions have.
_NO_VALUE = object()


def option(
    default: Any,
    help: str,
    *,
    group: str,
    choices: tuple[str, ...] = (),
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    below: float | None = None,
    identity: bool = True,
    earlier: Any = _NO_VALUE,
) -> Any:
    """A field of RunConfig: its default, its help text and the values it allows.

    `low`/`high` are inclusive bounds, `above`/`below` exclusive ones. `identity=False` marks a setting that does
    not change what a run computes, such as a folder; it may differ when a run is resumed. `earlier` is what versions
    without the setting computed: at this value, a run has the identity that it had with them.
    """
    metadata = {
        "help": help,
        "group": group,
        "choices": choices,
        "low": low,
        "high": high,
        "above": above,
        "below": below,
        "identity": identity,
        "earlier": earlier,
        "by_recipe": default is BY_RECIPE,
    }
    if default is _REQUIRED:
        return dataclasses.field(metadata=metadata)
    return dataclasses.field(default=None if default is BY_RECIPE else default, metadata=metadata)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Every setting of one run. Frozen: values derived from it are local variables where they are used.

    A setting of the recipe that is None, or left out, takes the recipe's value.
    """

    # Recipe
    recipe: str = option(
        DEFAULT,
        "Set of defaults: finetune for pretrained weights and new data; study for the settings of sweeps/grid.yaml. An "
        "option that is given takes precedence.",
        group="Recipe",
        choices=tuple(RECIPES),
        identity=False,
    )

    # Data
    data: str = option(
        _REQUIRED,
        "Folder with train/, valid/ and test/, each holding one folder per class, or a CSV file: path, label, split.",
        group="Data",
    )
    image_size: int | None = option(
        None,
        "Side of the square model input, in pixels. [default: from the weights]",
        group="Data",
        low=8,
        high=2048,
    )
    crop_pct: float | None = option(
        None,
        "Fraction of the resized short side that the centre crop keeps. [default: from the weights]",
        group="Data",
        low=0.1,
        high=1,
    )
    mean: str | None = option(
        None,
        "Mean of the pixels, 0 to 1, that the weights expect: one number, or three with commas. [default: from the "
        "weights]",
        group="Data",
        earlier=None,
    )
    std: str | None = option(
        None,
        "Deviation of the pixels that the weights expect, as --mean. [default: from the weights]",
        group="Data",
        earlier=None,
    )
    interpolation: str | None = option(
        None,
        "Interpolation of resized images. [default: from the weights]",
        group="Data",
        choices=INTERPOLATIONS,
        earlier=None,
    )
    bad_images: str = option(
        "fail",
        "Images that cannot be decoded: fail stops the run; skip leaves them out and lists them.",
        group="Data",
        choices=("fail", "skip"),
    )
    split_fraction: float = option(
        0.2,
        "Fraction of each train class to set aside for each missing valid or test split.",
        group="Data",
        above=0,
        below=0.5,
    )
    split_seed: int = option(
        0,
        "Seed for splitting train; independent of --seed, so repeats with other seeds share their splits.",
        group="Data",
        low=0,
        high=2**31 - 1,
    )
    split_group: str | None = option(
        None,
        "Regular expression, searched in each image's path; its group (...) names, for example, the patient or video. "
        "The images of one group stay in one split.",
        group="Data",
        earlier=None,
    )
    cache_dir: str | None = option(
        None,
        "Folder for decoded images. [default: $HARNESS_CACHE_DIR, else ~/.cache/vit-harness]",
        group="Data",
        identity=False,
    )
    workers: int | None = option(
        None,
        "Augmentation threads per process. [default: from the number of CPU cores]",
        group="Data",
        low=1,
        high=256,
        identity=False,
    )

    # Augmentation
    augment: str = option(
        BY_RECIPE,
        "; ".join(f"{name} = {policy.about}" for name, policy in POLICIES.items()) + ".",
        group="Augmentation",
        choices=tuple(POLICIES),
    )
    color_jitter: float = option(
        BY_RECIPE,
        "Brightness, contrast and saturation strength of --augment standard; 0 disables it.",
        group="Augmentation",
        low=0,
        high=1,
    )
    crop_area: float = option(
        BY_RECIPE,
        "Smallest area of a random crop, as a fraction of the image. Crops near 1 suit small data sets. Has no effect "
        "with --augment none.",
        group="Augmentation",
        above=0,
        high=1,
        earlier=0.08,
    )
    random_erasing: float = option(
        0.0, "Probability of erasing a rectangle from a training image.", group="Augmentation", low=0, high=1
    )
    mixup: float = option(0.0, "Mixup alpha (Beta distribution); 0 disables it.", group="Augmentation", low=0, high=100)
    cutmix: float = option(
        0.0,
        "CutMix alpha (Beta distribution); 0 disables it. With --mixup, each batch uses one of the two.",
        group="Augmentation",
        low=0,
        high=100,
    )
    label_smoothing: float = option(
        BY_RECIPE,
        "Label smoothing: probability mass spread evenly over all classes.",
        group="Augmentation",
        low=0,
        below=1,
    )

    # Model
    model: str = option(
        "vit_b_16",
        "Architecture: a torchvision VisionTransformer, or timm:NAME (see `harness models`).",
        group="Model",
        choices=(*MODELS, "timm:NAME"),
    )
    weights: str = option(
        "imagenet",
        "Initial weights: imagenet, imagenet-swag, imagenet-swag-linear, demo, none, or a file (.pth, .pt, .bin, "
        ".ckpt, .pth.tar, .safetensors, .npz) or its folder. Of timm:NAME: pretrained (from the hub), none, or a file.",
        group="Model",
    )
    weights_key: str | None = option(
        None,
        "Which weights of a checkpoint to take, if it holds several: model_ema, for example. [default: the average]",
        group="Model",
        earlier=None,
    )
    freeze: str = option(
        "none",
        "Frozen part: backbone trains only the head; none trains all weights.",
        group="Model",
        choices=("none", "backbone"),
    )
    head_init: str = option(
        BY_RECIPE,
        "Initial head: zero (as in the ViT paper), default (PyTorch's), or probe (a linear probe of the backbone).",
        group="Model",
        choices=("zero", "default", "probe"),
    )
    drop_path: float = option(
        BY_RECIPE,
        "Stochastic depth rate of the last block; rates rise linearly from 0 at the first.",
        group="Model",
        low=0,
        below=1,
    )

    lora_rank: int = option(
        0,
        "LoRA: train adapters of this rank and the head instead of all weights; 0 trains all weights.",
        group="Model",
        low=0,
        high=1024,
        earlier=0,
    )
    lora_alpha: float = option(
        16.0,
        "LoRA: the product of the adapters is multiplied by alpha / rank.",
        group="Model",
        above=0,
        high=10_000,
        earlier=16.0,
    )
    lora_targets: str = option(
        "attention",
        "LoRA: attention adapts the weights of queries, keys and values; all adapts every linear layer of the blocks.",
        group="Model",
        choices=("attention", "all"),
        earlier="attention",
    )

    # Optimisation
    epochs: int = option(BY_RECIPE, "Passes over the training set.", group="Optimisation", low=1, high=100_000)
    patience: int = option(
        BY_RECIPE,
        "Early stopping: epochs without a better validation score after which training ends; 0 disables it. The "
        "schedule stays that of all --epochs.",
        group="Optimisation",
        low=0,
        high=100_000,
        earlier=0,
    )
    lr: float = option(BY_RECIPE, "Peak learning rate.", group="Optimisation", above=0, high=1e6)
    batch_size: int = option(
        BY_RECIPE,
        "Global batch size: images per optimiser step, over all processes.",
        group="Optimisation",
        low=1,
        high=1_000_000,
    )
    optimizer: str = option("adamw", "Optimiser.", group="Optimisation", choices=("adamw", "sgd"))
    weight_decay: float = option(
        BY_RECIPE,
        "Weight decay of matrices; norms, biases, class token and position embedding are not decayed.",
        group="Optimisation",
        low=0,
        high=10,
    )
    momentum: float = option(0.9, "Momentum of SGD.", group="Optimisation", low=0, below=1)
    layer_decay: float = option(
        BY_RECIPE,
        "Learning rate factor per block of distance from the head; 1 disables it.",
        group="Optimisation",
        above=0,
        high=1,
    )
    schedule: str = option(
        BY_RECIPE,
        "Learning rate after warm-up: constant, or half a cosine down to 0.",
        group="Optimisation",
        choices=("constant", "cosine"),
    )
    warmup_epochs: float = option(
        BY_RECIPE,
        "Epochs of linear learning rate warm-up from 0; fractions are allowed.",
        group="Optimisation",
        low=0,
        high=100_000,
    )
    clip_grad: float = option(
        BY_RECIPE, "Maximum gradient norm; 0 disables clipping.", group="Optimisation", low=0, high=1e6
    )
    ema: bool = option(
        BY_RECIPE, "Keep, validate and save an exponential moving average of the weights.", group="Optimisation"
    )
    ema_decay: float = option(
        0.999,
        "Decay of the moving average per optimiser step; at most (1 + step) / (10 + step), which suits short runs.",
        group="Optimisation",
        low=0,
        below=1,
    )
    seed: int = option(
        0, "Seed for image order, augmentation and new weights.", group="Optimisation", low=0, high=2**31 - 1
    )

    # Class imbalance
    class_weights: str = option(
        "none",
        "Loss weight of each class: none, balanced (1 / images), effective (1 / effective number of images), or a "
        "CSV or JSON file of classes and weights.",
        group="Class imbalance",
        earlier="none",
    )
    sampler: str = option(
        "shuffle",
        "Training images of an epoch: shuffle takes each once; balanced takes each class equally often.",
        group="Class imbalance",
        choices=("shuffle", "balanced"),
        earlier="shuffle",
    )
    logit_adjust: float = option(
        0.0,
        "Logit adjustment: in training, adds this times log(share of the class) to each logit; 0 disables it.",
        group="Class imbalance",
        low=0,
        high=10,
        earlier=0.0,
    )

    # Compute
    precision: str = option(
        "auto",
        "auto: fp32 on CPU; on GPU Accelerate's setting, else bf16 if supported, else fp16.",
        group="Compute",
        choices=("auto", "bf16", "fp16", "fp32"),
    )
    micro_batch: int | None = option(
        None,
        "Images per forward pass and process; gradients accumulate to the global batch. [default: all images]",
        group="Compute",
        low=1,
        high=1_000_000,
        identity=False,
    )
    grad_checkpointing: bool = option(
        False, "Recompute activations in the backward pass: less memory, about a third slower.", group="Compute"
    )
    compile: bool = option(False, "Compile the model with torch.compile.", group="Compute")
    deterministic: bool = option(
        False, "Use only deterministic algorithms: bit-identical repeats, slower on GPU.", group="Compute"
    )
    threads: int | None = option(
        None,
        "CPU compute threads per process. [default: all cores, shared evenly]",
        group="Compute",
        low=1,
        high=1024,
        identity=False,
    )

    # Run
    runs_dir: str = option("runs", "Folder in which run folders are created.", group="Run", identity=False)
    name: str | None = option(
        None, "Name of the run. [default: built from the settings, e.g. lr0.0001_bs16_standard_s0]", group="Run"
    )
    project: str | None = option(
        None, "W&B project. [default: $WANDB_PROJECT, else vit-harness]", group="Run", identity=False
    )
    group: str | None = option(None, "W&B group. [default: $WANDB_RUN_GROUP]", group="Run", identity=False)
    tags: str | None = option(
        None, "W&B tags, separated by commas. [default: $WANDB_TAGS]", group="Run", identity=False
    )
    log_every: int = option(
        10, "Optimiser steps between logged training metrics.", group="Run", low=1, high=100_000, identity=False
    )
    checkpoint_every: int = option(
        0,
        "Optimiser steps between checkpoints; 0 saves only at the end of each epoch.",
        group="Run",
        low=0,
        high=1_000_000_000,
        identity=False,
    )
    checkpoint_minutes: float = option(
        10.0,
        "Minutes between checkpoints within an epoch; 0 disables them.",
        group="Run",
        low=0,
        high=1e6,
        identity=False,
    )
    explain: str = option(
        "auto",
        "Test images to draw attention maps for: all, none, or a number of evenly spaced images. auto: up to 2,000.",
        group="Run",
        identity=False,
    )
    explain_layer: int | None = option(
        None,
        "Layer whose heads are drawn one by one, counted from 1. [default: the last]",
        group="Run",
        low=1,
        high=1000,
        identity=False,
    )
    verify: bool = option(
        False,
        "At the end, test what the attention maps show, as `harness verify` does.",
        group="Run",
        identity=False,
    )
    fresh: bool = option(
        False,
        "Move the existing run aside and start over. Do not use in requeued jobs.",
        group="Run",
        identity=False,
    )

    def __post_init__(self) -> None:
        # An unknown recipe is reported below, together with the other problems.
        recipe = RECIPES[self.recipe if self.recipe in list(RECIPES) else DEFAULT]
        missing = {name: value for name, value in recipe.items() if getattr(self, name) is None}
        derived = {name: value for name, value in missing.items() if isinstance(value, Derived)}
        for name in missing.keys() - derived.keys():
            object.__setattr__(self, name, missing[name])
        fields = [field for field in dataclasses.fields(self) if field.name not in derived]
        problems = [problem for field in fields for problem in _value_problems(self, field)]
        if not problems:  # derived values need valid ones
            for name, value in derived.items():
                object.__setattr__(self, name, value.of(vars(self)))
            problems = _combination_problems(self)
        if problems:
            raise ConfigError(problems)

    @property
    def run_name(self) -> str:
        """`name`; in a sweep what it sets, `ema=true_lr=1e-05_s0`; else `lr1e-05_bs16_none_s0`."""
        if self.name:
            return self.name
        if swept := swept_settings():
            return sweep_run_name(vars(self), [name for name in swept if name not in self._without_effect])
        return f"lr{self.lr:g}_bs{self.batch_size}_{self.augment}_s{self.seed}"

    @property
    def identity(self) -> str:
        """Eight hex digits that two runs share when they compute the same thing from the same folder."""
        return hashlib.sha256(json.dumps(self.identity_settings, sort_keys=True).encode()).hexdigest()[:8]

    @property
    def identity_settings(self) -> dict[str, Any]:
        """The settings that the identity depends on, without those that act as in versions that did not have them."""
        return {
            field.name: value
            for field in dataclasses.fields(self)
            if field.metadata["identity"]
            and field.name not in self._without_effect
            and (value := getattr(self, field.name)) != field.metadata["earlier"]
        }

    @property
    def _without_effect(self) -> tuple[str, ...]:
        """Settings that change nothing beside the others: two runs that differ in them compute the same."""
        return () if self.lora_rank else ("lora_alpha", "lora_targets")

    def differences(self, other: RunConfig) -> list[str]:
        """Names of settings in which two runs compute something else; data and weights are compared by content."""
        return [
            field.name
            for field in dataclasses.fields(self)
            if field.metadata["identity"]
            and field.name not in ("data", "weights", "name")
            and not (field.name in self._without_effect and field.name in other._without_effect)
            and getattr(self, field.name) != getattr(other, field.name)
        ]

    def resolved(self) -> RunConfig:
        """The same settings with every path absolute, so that they mean the same from any working directory."""
        paths: dict[str, Any] = {name: _absolute(getattr(self, name)) for name in ("data", "cache_dir", "runs_dir")}
        if self.weights not in NAMED_WEIGHTS:
            # Checked only here: a checkpoint stays usable after its initial weights file is deleted.
            path = Path(self.weights).expanduser()
            if TIMM_MODEL.fullmatch(self.weights):
                raise ConfigError(f"--weights {self.weights}: give --model {self.weights} --weights pretrained.")
            if hub := re.match(r"(hf-hub|hf_hub|hf|timm|local-dir|https?):", self.weights):
                raise ConfigError(
                    f"--weights {self.weights}: models are not downloaded from {hub[1]}. Download the model's folder "
                    "and give it, or the weights file in it."
                )
            if path.exists() and not (path.is_file() or path.is_dir()):
                raise PathError(f"--weights {self.weights} is not a file; give a weights file.")
            if not path.exists():
                kind = PathError if path.suffix or len(path.parts) > 1 else ConfigError  # else a misspelt name
                raise kind(f"--weights {self.weights} is neither a file nor one of {', '.join(NAMED_WEIGHTS)}.")
            paths["weights"] = _absolute(self.weights)
        if self.class_weights not in NAMED_CLASS_WEIGHTS:
            paths["class_weights"] = _absolute(self.class_weights)
        return dataclasses.replace(self, **paths)

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RunConfig:
        """The config of a saved run, also of a version without recipes; ConfigError names unknown keys."""
        fields = {field.name: field for field in dataclasses.fields(cls)}
        if unknown := sorted(set(values) - set(fields)):
            raise ConfigError(f"unknown settings {', '.join(unknown)}: written by another version of this program?")
        if empty := [name for name, value in values.items() if value is None and fields[name].metadata["by_recipe"]]:
            raise ConfigError(f"{option_name(name)} is None; a saved run has a value." for name in empty)
        return cls(**{"recipe": BEFORE_RECIPES} | dict(values))


def value_type(field: dataclasses.Field[Any]) -> tuple[type, bool]:
    """The plain type of a field, and whether None is allowed."""
    hint = _types()[field.name]
    if isinstance(hint, types.UnionType):
        members = [member for member in typing.get_args(hint) if member is not types.NoneType]
        return members[0], True
    return hint, False


@functools.cache
def _types() -> dict[str, Any]:
    return typing.get_type_hints(RunConfig)


def option_name(field_name: str) -> str:
    """`batch_size` on the command line: `--batch-size`."""
    return "--" + field_name.replace("_", "-")


def bounds_text(field: dataclasses.Field[Any]) -> str:
    """The values a number may take, in words: "above 0, at most 1"."""
    words = {"low": "at least", "above": "above", "high": "at most", "below": "below"}
    parts = [f"{word} {field.metadata[key]:g}" for key, word in words.items() if field.metadata[key] is not None]
    return ", ".join(parts)


def _value_problems(config: RunConfig, field: dataclasses.Field[Any]) -> list[str]:
    value: Any = getattr(config, field.name)
    kind, optional = value_type(field)
    name, limits = option_name(field.name), field.metadata
    if value is None and optional:
        return []
    if type(value) is int and value.bit_length() > 64:
        return [f"{name} is too large a number; it must be {bounds_text(field) or 'below 2^64'}."]
    if kind is float and type(value) is int:
        object.__setattr__(config, field.name, value := float(value))
    actual: type = type(value)  # not isinstance: True is an int
    if actual is not kind:
        return [f"{name} is {value!r}; it takes a value of type {kind.__name__}."]
    if choices := limits["choices"]:
        if value in choices or (field.name == "model" and TIMM_MODEL.fullmatch(value)):
            return []
        return [f"{name} is {value!r}; it must be one of {', '.join(choices)}."]
    if kind is str:
        return [] if value.strip() else [f"{name} is empty; give a value or leave the option out."]
    if kind is bool:
        return []
    inside = (
        math.isfinite(value)
        and (limits["low"] is None or value >= limits["low"])
        and (limits["high"] is None or value <= limits["high"])
        and (limits["above"] is None or value > limits["above"])
        and (limits["below"] is None or value < limits["below"])
    )
    return [] if inside else [f"{name} is {value}; it must be a finite number {bounds_text(field)}."]


def _combination_problems(config: RunConfig) -> list[str]:
    problems = []
    fitting = weights_names(config.model)
    if config.weights in NAMED_WEIGHTS and config.weights not in fitting:
        problems.append(
            f"--weights {config.weights} does not exist for --model {config.model} "
            f"(only for {', '.join(NAMED_WEIGHTS[config.weights]) or 'models of timm'}); for this model give one of "
            f"{', '.join(fitting)}, or a weights file."
        )
    if config.lora_rank and config.freeze == "backbone":
        problems.append(
            f"--lora-rank {config.lora_rank} adapts the backbone, and --freeze backbone freezes it; give one of them."
        )
    if config.warmup_epochs > config.epochs:
        problems.append(
            f"--warmup-epochs {config.warmup_epochs:g} is longer than the training itself (--epochs {config.epochs})."
        )
    corrections = {
        f"--class-weights {config.class_weights}": config.class_weights in ("balanced", "effective"),
        f"--sampler {config.sampler}": config.sampler == "balanced",
        f"--logit-adjust {config.logit_adjust:g}": config.logit_adjust > 0,
    }
    if sum(corrections.values()) > 1:
        several = " and ".join(option for option, corrects in corrections.items() if corrects)
        problems.append(f"{several} correct the same class imbalance more than once; give one of them.")
    if not re.fullmatch(r"auto|all|none|[1-9]\d{0,8}", config.explain, re.ASCII):
        problems.append(f"--explain is {config.explain!r}; give auto, all, none, or a number of test images.")
    for name, value in (("mean", config.mean), ("std", config.std)):
        if value is not None and (problem := _channels_problem(name, value)):
            problems.append(f"--{name} {value!r} {problem}; give one number, such as 0.5, or three: 0.485,0.456,0.406.")
    if config.split_group is not None and (problem := _pattern_problem(config.split_group)):
        problems.append(f"--split-group {config.split_group!r} {problem}")
    if config.name is not None and not re.fullmatch(r"[\w.=+-]{1,100}", config.name, re.ASCII):
        problems.append(
            f"--name {config.name!r} becomes a folder name; use up to 100 letters, digits, '.', '_', '-', '=' and '+'."
        )
    return problems


def weights_names(model: str) -> tuple[str, ...]:
    """The named weights that exist for a model."""
    if TIMM_MODEL.fullmatch(model):
        return TIMM_WEIGHTS
    return tuple(name for name, models in NAMED_WEIGHTS.items() if model in models)


def channels(text: str) -> tuple[float, float, float]:
    """The values of --mean or --std for red, green and blue; raises ValueError."""
    numbers = [float(part) for part in text.split(",")]
    red, green, blue = numbers * 3 if len(numbers) == 1 else numbers
    return red, green, blue


def _channels_problem(name: str, text: str) -> str:
    try:
        values = channels(text)
    except ValueError:
        return "is neither one number nor three"
    if not all(abs(value) < 256 for value in values):  # also if one is not a number
        return "has a number that is not between -256 and 256"
    return "has a number that is not above 0" if name == "std" and min(values) <= 0 else ""


def _pattern_problem(pattern: str) -> str:
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        return f"is not a regular expression: {error}."
    return "" if groups else r"has no group (...) that names the group of an image, as in 'patient(\d+)'."


def _absolute(path: str | None) -> str | None:
    return None if path is None else str(Path(path).expanduser().resolve())
