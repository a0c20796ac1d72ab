"""`make demo`: the whole of it in miniature, offline. Draw data, fine-tune at three settings, compare."""

from __future__ import annotations

import dataclasses
import os
import sys
from pathlib import Path
from typing import Any

from harness.config import RunConfig
from harness.console import duration
from harness.data import scenes
from harness.errors import HarnessError
from harness.train import Outcome, fit

FOLDER = Path("demo")

# One good setting, the same with augmentation, and a learning rate at which fine-tuning destroys what was learnt.
SETTINGS: tuple[dict[str, Any], ...] = (
    {"lr": 3e-4, "augment": "none"},
    {"lr": 3e-4, "augment": "standard"},
    {"lr": 1e-1, "augment": "none"},
)


def main() -> None:
    os.environ.setdefault("WANDB_MODE", "offline")
    os.environ.setdefault("HARNESS_CACHE_DIR", str((FOLDER / "cache").resolve()))
    data = scenes.write(FOLDER / "data")
    common = RunConfig(
        data=str(data), runs_dir=str(FOLDER / "runs"), model="vit_demo", weights="demo", epochs=5, schedule="cosine"
    )
    outcomes = []
    for number, setting in enumerate(SETTINGS, start=1):
        config = dataclasses.replace(common, **setting)
        print(f"\n[{number}/{len(SETTINGS)}] {config.run_name}", flush=True)
        outcomes.append((config, fit(config)))
        if outcomes[-1][1].state != "finished":
            sys.exit(outcomes[-1][1].exit_code)
    print(table(outcomes))


def table(outcomes: list[tuple[RunConfig, Outcome]]) -> str:
    """One line per run, best first."""
    lines = [
        f"{'learning rate':>13}  {'batch':>5}  {'augmentation':<12}  {'validation F1':>13}  "
        f"{'test F1':>7}  {'95 % interval':>15}  {'time':>12}  run folder"
    ]
    for config, outcome in sorted(outcomes, key=lambda pair: -pair[1].summary["best/val_f1"]):
        found = outcome.summary
        interval = f"{found['test/f1_low']:.3f} to {found['test/f1_high']:.3f}"
        lines.append(
            f"{config.lr:>13g}  {config.batch_size:>5}  {config.augment:<12}  {found['best/val_f1']:>13.4f}  "
            f"{found['test/f1']:>7.4f}  {interval:>15}  {duration(found['seconds/total']):>12}  "
            f"{os.path.relpath(outcome.folder)}"
        )
    return "\n".join(["", f"Macro F1 on {outcomes[0][1].summary['test/n']} test pictures", *lines])


if __name__ == "__main__":
    try:
        main()
    except HarnessError as error:
        sys.exit("\n".join(f"Error: {problem}" for problem in error.problems))
