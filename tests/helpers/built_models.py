"""Models as a run builds them, by a few of its settings."""

from __future__ import annotations

from typing import Any

from harness.config import RunConfig
from harness.model.vit import Loaded, build_model


def config_of(model: str, **settings: Any) -> RunConfig:
    """The settings of a run of this model; unless they say otherwise, with new weights and a head of zeros."""
    return RunConfig(**{"data": "images", "model": model, "weights": "none", "head_init": "zero"} | settings)


def loaded_model(model: str, num_classes: int = 3, **settings: Any) -> Loaded:
    return build_model(config_of(model, **settings), num_classes)
