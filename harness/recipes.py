"""Recipes: named sets of defaults. An option that is given takes precedence over the recipe.

Fields of RunConfig that are `BY_RECIPE` take their default from here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

DEFAULT = "finetune"

# Versions without recipes had these defaults.
BEFORE_RECIPES = "study"


@dataclass(frozen=True)
class Derived:
    """A default that depends on other settings."""

    text: str  # for the help
    of: Callable[[Mapping[str, Any]], Any]  # of the settings by name


def share_of_epochs(share: float) -> Derived:
    return Derived(f"{share:.0%} of --epochs", lambda settings: round(share * settings["epochs"], 6))


def pretrained(value: Any, *, new: Any) -> Derived:
    """A default for pretrained weights, and another one for new ones."""
    return Derived(
        f"{value}, or {new} with --weights none", lambda settings: new if settings["weights"] == "none" else value
    )


# For pretrained weights and new data: the head starts from a linear probe (LP-FT, Kumar et al. 2022, arXiv 2202.10054).
FINETUNE = MappingProxyType(
    {
        "head_init": pretrained("probe", new="default"),
        "epochs": 10,
        "patience": 5,
        "batch_size": 16,
        "lr": 1e-4,
        "schedule": "cosine",
        "warmup_epochs": share_of_epochs(0.1),
        "layer_decay": pretrained(0.85, new=1.0),
        "weight_decay": 0.05,
        "clip_grad": 0.0,
        "ema": False,
        "augment": "standard",
        "crop_area": 0.5,
        "color_jitter": 0.0,
        "label_smoothing": 0.0,
        "drop_path": 0.0,
    }
)

# The study that sweeps/grid.yaml repeats. Its values do not change: results are compared with it.
STUDY = MappingProxyType(
    {
        "head_init": "zero",
        "epochs": 5,
        "patience": 0,
        "batch_size": 16,
        "lr": 1e-5,
        "schedule": "constant",
        "warmup_epochs": 0.0,
        "layer_decay": 1.0,
        "weight_decay": 0.01,
        "clip_grad": 0.0,
        "ema": False,
        "augment": "none",
        "crop_area": 0.08,
        "color_jitter": 0.4,
        "label_smoothing": 0.0,
        "drop_path": 0.0,
    }
)

RECIPES: Mapping[str, Mapping[str, Any]] = MappingProxyType({"finetune": FINETUNE, "study": STUDY})


def default_text(name: str) -> str:
    """The default of a setting in words: "0.0001; study: 1e-05", or one value if the recipes agree."""
    texts = {recipe: _text(values[name]) for recipe, values in RECIPES.items()}
    others = [f"{recipe}: {text}" for recipe, text in texts.items() if text != texts[DEFAULT]]
    return "; ".join([texts[DEFAULT], *others])


def notes(settings: Mapping[str, Any]) -> list[str]:
    """What a user would not expect of the recipe of these settings, in sentences."""
    if (settings["recipe"], settings["weights"], settings["head_init"]) == ("finetune", "none", "default"):
        return [
            "--weights none has no features to probe: the head starts from PyTorch's default. Recipe finetune is "
            "measured with pretrained weights."
        ]
    return []


def _text(value: Any) -> str:
    return value.text if isinstance(value, Derived) else str(value)
