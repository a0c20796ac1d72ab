"""What a sweep adds to its trials: seconds per trial, and the whole against the sum of its parts.

    python -m tests.bench.bench_sweep [--trials 6] [--epochs 12]

One `harness sweep run` with one worker, tracked offline as it comes. A trial's own time is training and
evaluation; all else is overhead: starting its process, opening W&B, building the model, checkpoints, figures, goodbye.
Looking at attention is left out: it is work that the run was asked for.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import optuna
import yaml

from tests.bench.pictures import write_splits
from tests.bench.table import at_most, show, spread

OVERHEAD_TARGET = 1.0  # seconds, after the first trial
RATIO_TARGET = 1.1


def write_sweep(path: Path, data: Path, trials: int, epochs: int) -> Path:
    words = [f"--data={data}", "--recipe=study", "--model=vit_demo", "--weights=demo", "--explain=none"]
    words.append(f"--epochs={epochs}")
    sweep = {
        "program": "harness/run.py",
        "method": "grid",
        "metric": {"name": "best/val_f1", "goal": "maximize"},
        "parameters": {"seed": {"values": list(range(trials))}},
        "command": ["${env}", "${interpreter}", "${program}", *words, "${args}"],
    }
    path.write_text(yaml.safe_dump(sweep))
    return path


def trials_of(folder: Path) -> list[tuple[float, float]]:
    """Seconds from taking each trial to noting its end, and those of its own training and evaluation."""
    study = optuna.load_study(storage=f"sqlite:///{folder / 'study.db'}", study_name=folder.name)
    found = []
    for trial in study.trials:
        [summary] = folder.glob(f"*-{trial.number}/summary.json")
        values = json.loads(summary.read_text())
        assert trial.duration is not None
        found.append((trial.duration.total_seconds(), values["seconds/train"] + values["seconds/evaluate"]))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=6)
    parser.add_argument("--epochs", type=int, default=12, help="of 240 images; about 2 s each on two cores")
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        data = write_splits(scratch / "pictures", train=240, size=128, held_out=12)
        file = write_sweep(scratch / "bench.yaml", data, arguments.trials, arguments.epochs)
        command = [
            sys.executable,
            "-m",
            "harness.cli.main",
            "sweep",
            "run",
            str(file),
            "--runs-dir",
            str(scratch / "runs"),
        ]
        environment = os.environ | {"WANDB_MODE": "offline", "HARNESS_CACHE_DIR": str(scratch / "cache")}
        began = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
        wall = time.perf_counter() - began
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        trials = trials_of(scratch / "runs" / "bench")

    overheads = [whole - own for whole, own in trials]
    own = sum(own for _, own in trials)
    rows = [
        ["first trial, imports included", f"{overheads[0]:.2f}", ""],
        ["each later trial", spread(overheads[1:]), at_most(statistics.median(overheads[1:]), OVERHEAD_TARGET, " s")],
    ]
    show("seconds of a trial beyond its own training and evaluation, median (min..max)", ["", "", "target"], rows)
    rows = [["wall / training and evaluation", f"{wall / own:.3f}", at_most(wall / own, RATIO_TARGET)]]
    show(f"a sweep of {len(trials)} trials: {wall:.0f} s, of which {own:.0f} s their own", ["", "", "target"], rows)


if __name__ == "__main__":
    main()
