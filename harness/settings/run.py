"""Settings of the run folder, W&B, checkpoints and attention maps."""

import dataclasses
import re

from harness.settings.option import option


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunSettings:
    """Settings under the heading Run."""

    runs_dir: str = option("runs", "Folder in which run folders are created.", identity=False)
    name: str | None = option(
        None, "Name of the run. [default: built from the settings, e.g. lr0.0001_bs16_standard_s0]"
    )
    project: str | None = option(None, "W&B project. [default: $WANDB_PROJECT, else vit-harness]", identity=False)
    group: str | None = option(None, "W&B group. [default: $WANDB_RUN_GROUP]", identity=False)
    tags: str | None = option(None, "W&B tags, separated by commas. [default: $WANDB_TAGS]", identity=False)
    log_every: int = option(10, "Optimiser steps between logged training metrics.", low=1, high=100_000, identity=False)
    checkpoint_every: int = option(
        0,
        "Optimiser steps between checkpoints; 0 saves only at the end of each epoch.",
        low=0,
        high=1_000_000_000,
        identity=False,
    )
    checkpoint_minutes: float = option(
        10.0, "Minutes between checkpoints within an epoch; 0 disables them.", low=0, high=1e6, identity=False
    )
    explain: str = option(
        "auto",
        "Test images to draw attention maps for: all, none, or a number of evenly spaced images. auto: up to 2,000.",
        identity=False,
    )
    explain_layer: int | None = option(
        None,
        "Layer whose heads are drawn one by one, counted from 1. [default: the last]",
        low=1,
        high=1000,
        identity=False,
    )
    verify: bool = option(
        False, "At the end, test what the attention maps show, as `harness verify` does.", identity=False
    )
    fresh: bool = option(
        False, "Move the existing run aside and start over. Do not use in requeued jobs.", identity=False
    )


def run_problems(settings: RunSettings) -> list[str]:
    problems = []
    if not re.fullmatch(r"auto|all|none|[1-9]\d{0,8}", settings.explain, re.ASCII):
        problems.append(f"--explain is {settings.explain!r}; give auto, all, none, or a number of test images.")
    if settings.name is not None and not re.fullmatch(r"[\w.=+-]{1,100}", settings.name, re.ASCII):
        problems.append(
            f"--name {settings.name!r} becomes a folder name; use up to 100 letters, digits, '.', '_', '-', '=' "
            "and '+'."
        )
    return problems
