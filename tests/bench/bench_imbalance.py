"""Macro F1 on unbalanced classes: none, balanced and effective class weights, the balanced sampler, logit adjustment.

    python -m tests.bench.bench_imbalance                       # generated scenes, vit_demo
    python -m tests.bench.bench_imbalance --data data/sports100 --model vit_ti_16 --weights deit_tiny.pth --epochs 5

Trains on a subset with a long tail (Cui et al. 2019): class k of K has 50 * (1/50) ** (k / (K - 1)) training images, so
50 down to 1, in an order of the classes that the seed draws. Validation and test stay as they are. Each seed trains
once with each correction, on the same subset; validation chooses the epoch. Intervals are by paired bootstrap over the
test images: the mean over seeds minus that without correction.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from harness.config import RunConfig
from harness.demo import scenes
from harness.runs.paired import difference_interval, resampled
from harness.runs.predictions import read_predictions
from harness.runs.resampling import RESAMPLES
from harness.train import fit
from tests.bench.table import show

CORRECTIONS: dict[str, dict[str, Any]] = {
    "none": {},
    "--class-weights balanced": {"class_weights": "balanced"},
    "--class-weights effective": {"class_weights": "effective"},
    "--sampler balanced": {"sampler": "balanced"},
    "--logit-adjust 1": {"logit_adjust": 1.0},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="image folder [default: generated scenes]")
    parser.add_argument("--model", default="vit_demo")
    parser.add_argument("--weights", default="demo")
    parser.add_argument("--lr", type=float, default=3e-4)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--head-init", default="zero")
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--most", type=int, default=50, help="images of the largest class; the smallest has one")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    os.environ["WANDB_MODE"] = "disabled"
    with tempfile.TemporaryDirectory() as scratch:
        measure(options, Path(scratch))


def measure(options: argparse.Namespace, scratch: Path) -> None:
    source = options.data or scenes.write(scratch / "scenes", train=50, valid=8, test=50)
    runs: dict[str, list[Path]] = {name: [] for name in CORRECTIONS}
    seconds: dict[str, float] = dict.fromkeys(CORRECTIONS, 0.0)
    for seed in range(options.seeds):
        data, counts = long_tail(source, scratch / f"subset {seed}", options.most, seed)
        print(f"seed {seed}: {sum(counts)} training images of {len(counts)} classes, {max(counts)} to {min(counts)}")
        for name, settings in CORRECTIONS.items():
            config = RunConfig(
                data=str(data),
                runs_dir=str(scratch / "runs"),
                cache_dir=str(scratch / "cache"),
                model=options.model,
                weights=options.weights,
                lr=options.lr,
                epochs=options.epochs,
                head_init=options.head_init,
                image_size=options.image_size,
                schedule="cosine",
                seed=seed,
                threads=options.threads,
                explain="none",
                **settings,
            )
            began = time.perf_counter()
            with contextlib.redirect_stdout(io.StringIO()):
                outcome = fit(config)
            seconds[name] += time.perf_counter() - began
            runs[name].append(outcome.folder)
            print(f"  {name}: F1 {outcome.summary['test/f1']:.4f}", flush=True)
    report(runs, seconds)


def long_tail(source: Path, target: Path, most: int, seed: int) -> tuple[Path, list[int]]:
    """A copy of a data set with `most` training images of one class, down to 1 of another; and the numbers of all."""
    classes = sorted(folder.name for folder in (source / "train").iterdir() if folder.is_dir())
    ranks = np.random.default_rng(seed).permutation(len(classes))
    counts = []
    for rank, name in zip(ranks, classes, strict=True):
        images = sorted((source / "train" / name).iterdir())
        count = min(round(most * (1 / most) ** (rank / (len(classes) - 1))), len(images))
        (target / "train" / name).mkdir(parents=True)
        for image in images[:count]:
            shutil.copy(image, target / "train" / name)
        counts.append(count)
    for split in ("valid", "test"):
        shutil.copytree(source / split, target / split)
    return target, counts


def report(runs: dict[str, list[Path]], seconds: dict[str, float]) -> None:
    """A row per correction: mean scores over seeds, and the difference of macro F1 from no correction."""
    tables = {name: [read_predictions(folder) for folder in folders] for name, folders in runs.items()}
    first = tables["none"][0]
    every = [table.predicted for of_name in tables.values() for table in of_name]
    scores = resampled(first.labels, every, len(first.classes), resamples=RESAMPLES)
    scores = scores.reshape(len(tables), -1, RESAMPLES).mean(axis=1)  # (corrections, R), means over seeds
    f1 = {name: [summary(folder, "test/f1") for folder in folders] for name, folders in runs.items()}
    rows = []
    for number, (name, folders) in enumerate(runs.items()):
        balanced = statistics.mean(summary(folder, "test/balanced_accuracy") for folder in folders)
        accuracy = statistics.mean(summary(folder, "test/accuracy") for folder in folders)
        difference = statistics.mean(f1[name]) - statistics.mean(f1["none"])
        # No test of equality decides here: p = 0 leaves the interval as it is.
        low, high = difference_interval(scores[number] - scores[0], difference, 0.0, 1, len(first))
        rows.append(
            (
                name,
                f"{statistics.mean(f1[name]):.3f} ({min(f1[name]):.3f}..{max(f1[name]):.3f})",
                f"{difference:+.3f}" if number else "",
                f"{low:+.3f} to {high:+.3f}" if number else "",
                f"{sum(a > b for a, b in zip(f1[name], f1['none'], strict=True))} of {len(folders)}" if number else "",
                f"{balanced:.3f}",
                f"{accuracy:.3f}",
                f"{seconds[name] / len(folders):.0f}",
            )
        )
    columns = ("", "macro F1", "difference", "95 % interval", "better", "balanced acc.", "accuracy", "s a run")
    show(f"\nTest images: {len(first)}, seeds: {len(f1['none'])}", columns, rows)


def summary(folder: Path, key: str) -> float:
    return float(json.loads((folder / "summary.json").read_text())[key])


if __name__ == "__main__":
    main()
