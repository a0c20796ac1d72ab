"""A sweep over learning rates in which each setting has several seeds, without training."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from reports.runs import Run, read_runs
from tests.reports.test_runs import write_run

CLASSES = tuple("abcdefghij")
LABELS = np.repeat(np.arange(10), 10)

# Validation F1 by learning rate and seed. The luckiest run of all, of 3e-4, is not of the best setting.
SCORES = {1e-4: (0.90, 0.91, 0.92), 3e-4: (0.80, 0.83, 0.98), 1e-3: (0.40, 0.41, 0.45)}

# Test images, of 100, that each of them gets wrong.
ERRORS = {1e-4: (8, 9, 10), 3e-4: (15, 20, 25), 1e-3: (55, 60, 62)}


def predictions(errors: int, seed: int) -> np.ndarray:
    """So many errors, mostly on the same images for every seed."""
    difficulty = np.random.default_rng(5).random(100) + 0.2 * np.random.default_rng(seed).random(100)
    wrong = np.argsort(difficulty)[:errors]
    predicted = LABELS.copy()
    predicted[wrong] = (LABELS[wrong] + 1 + seed % 3) % 10
    return predicted


def write_seeds(folder: Path) -> list[Run]:
    """Three learning rates with three seeds each."""
    for lr, scores in SCORES.items():
        for seed, score in enumerate(scores):
            write_seed(folder, lr, seed, score, ERRORS[lr][seed])
    return read_runs(folder)


def write_seed(folder: Path, lr: float, seed: int, score: float, errors: int, **config: object) -> Path:
    """One finished run with a training curve of two epochs."""
    run = write_run(
        folder / f"lr={lr:g}_s{seed}",
        LABELS.tolist(),
        predictions(errors, seed).tolist(),
        classes=CLASSES,
        config={"lr": lr, "seed": seed, **config},
        summary={"best/val_f1": score, "test/accuracy": 1 - errors / 100, "best/epoch": 2},
    )
    rows = [{"step": 5 * epoch, "epoch": epoch, "train/loss": 2.0 / epoch + seed / 10} for epoch in (1, 2)]
    rows += [{"step": 5 * epoch, "epoch": epoch, "val/loss": 1.0, "val/f1": score * epoch / 2} for epoch in (1, 2)]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return run
