"""Settings of the model: architecture, initial weights, which weights are trained."""

import dataclasses
import re
from pathlib import Path

from harness.errors import ConfigError, PathError
from harness.settings.option import BY_RECIPE, option

MODELS = ("vit_b_16", "vit_b_32", "vit_l_16", "vit_l_32", "vit_h_14", "vit_s_16", "vit_ti_16", "vit_demo")

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


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """Settings under the heading Model."""

    model: str = option(
        "vit_b_16",
        "Architecture: a torchvision VisionTransformer, or timm:NAME (see `harness models`).",
        choices=(*MODELS, "timm:NAME"),
        also=TIMM_MODEL,
    )
    weights: str = option(
        "imagenet",
        "Initial weights: imagenet, imagenet-swag, imagenet-swag-linear, demo, none, or a file (.pth, .pt, .bin, "
        ".ckpt, .pth.tar, .safetensors, .npz, .index.json) or its folder. Of timm:NAME: pretrained (from the hub), "
        "none, or a file.",
    )
    weights_key: str | None = option(
        None,
        "Which weights of a checkpoint to take, if it holds several: model_ema, for example. [default: the average]",
        earlier=None,
    )
    freeze: str = option(
        "none", "Frozen part: backbone trains only the head; none trains all weights.", choices=("none", "backbone")
    )
    head_init: str = option(
        BY_RECIPE,
        "Initial head: zero (as in the ViT paper), default (PyTorch's), or probe (a linear probe of the backbone).",
        choices=("zero", "default", "probe"),
    )
    drop_path: float = option(
        BY_RECIPE, "Stochastic depth rate of the last block; rates rise linearly from 0 at the first.", low=0, below=1
    )

    lora_rank: int = option(
        0,
        "LoRA: train adapters of this rank and the head instead of all weights; 0 trains all weights.",
        low=0,
        high=1024,
        earlier=0,
    )
    lora_alpha: float = option(
        16.0, "LoRA: the product of the adapters is multiplied by alpha / rank.", above=0, high=10_000, earlier=16.0
    )
    lora_targets: str = option(
        "attention",
        "LoRA: attention adapts the weights of queries, keys and values; all adapts every linear layer of the blocks.",
        choices=("attention", "all"),
        earlier="attention",
    )


def weights_names(model: str) -> tuple[str, ...]:
    """The named weights that exist for a model."""
    if TIMM_MODEL.fullmatch(model):
        return TIMM_WEIGHTS
    return tuple(name for name, models in NAMED_WEIGHTS.items() if model in models)


def model_problems(settings: ModelSettings) -> list[str]:
    problems = []
    fitting = weights_names(settings.model)
    if settings.weights in NAMED_WEIGHTS and settings.weights not in fitting:
        problems.append(
            f"--weights {settings.weights} does not exist for --model {settings.model} "
            f"(only for {', '.join(NAMED_WEIGHTS[settings.weights]) or 'models of timm'}); for this model give one of "
            f"{', '.join(fitting)}, or a weights file."
        )
    if settings.lora_rank and settings.freeze == "backbone":
        problems.append(
            f"--lora-rank {settings.lora_rank} adapts the backbone, and --freeze backbone freezes it; give one of them."
        )
    return problems


def check_weights_path(weights: str) -> None:
    """Raise unless --weights, which is not a name of NAMED_WEIGHTS, is an existing file or folder."""
    path = Path(weights).expanduser()
    if TIMM_MODEL.fullmatch(weights):
        raise ConfigError(f"--weights {weights}: give --model {weights} --weights pretrained.")
    if hub := re.match(r"(hf-hub|hf_hub|hf|timm|local-dir|https?):", weights):
        raise ConfigError(
            f"--weights {weights}: models are not downloaded from {hub[1]}. Download the model's folder "
            "and give it, or the weights file in it."
        )
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise PathError(f"--weights {weights} is not a file; give a weights file.")
    if not path.exists():
        kind = PathError if path.suffix or len(path.parts) > 1 else ConfigError  # else a misspelt name
        raise kind(f"--weights {weights} is neither a file nor one of {', '.join(NAMED_WEIGHTS)}.")
