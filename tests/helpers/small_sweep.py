"""The study's five settings, a failed and a running trial, as run folders that no model has been trained for."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.helpers.explained import made_up_archive, place_embedding
from tests.helpers.explained_runs import write_explained_run
from tests.reports.test_runs import write_run

# What a page must show as the text that it is.
HOSTILE = "<img src=x onerror=alert(1)>"
CLASSES = (HOSTILE, "air hockey", "archery", "bobsled", "curling & more", "high jump", "'judo'", "wingsuit flying")
FOLDER = 'it\'s a "sweep" <b>&amp;'

STUDY = (
    ("none", 1e-5, 16),
    ("standard", 1e-3, 16),
    ("standard", 1e-1, 16),
    ("standard", 1e-5, 16),
    ("standard", 1e-5, 64),
)
ERRORS = (0, 30, 48, 4, 8)  # of TEST_IMAGES
TEST_IMAGES = 64
EPOCHS = 3


def write_small_sweep(parent: Path) -> Path:
    """Its folder, whose name is as hostile as that of one of the classes."""
    folder = parent / FOLDER
    for number, ((augment, lr, batch_size), errors) in enumerate(zip(STUDY, ERRORS, strict=True)):
        settings = {"augment": augment, "lr": lr, "batch_size": batch_size, "epochs": EPOCHS, "model": "vit_ti_16"}
        _finished(folder / f'lr{lr:g}_"{augment}"_bs{batch_size}-{number}', errors, settings)
    _unfinished(folder / "failed-5", "failed", f"The loss became nan {HOSTILE}.", {"augment": "none", "lr": 1.0})
    _unfinished(folder / "running-6", "running", "", {"augment": "none", "lr": 1e-4})
    return folder


def _finished(folder: Path, errors: int, settings: dict[str, Any]) -> None:
    labels = np.arange(TEST_IMAGES, dtype=np.int32) % len(CLASSES)
    predicted = np.where(np.arange(TEST_IMAGES) < errors, (labels + 1) % len(CLASSES), labels).astype(np.int32)
    sure = np.linspace(0.5, 0.99, TEST_IMAGES).astype(np.float32)
    seen = made_up_archive(n=TEST_IMAGES, layers=4, heads=3, grid=7, classes=CLASSES)
    seen = dataclasses.replace(
        seen,
        files=np.array([f'test/{CLASSES[label]}/it\'s "{index}".jpg' for index, label in enumerate(labels)]),
        predicted=predicted,
        probability=sure,
        label_probability=np.where(labels == predicted, sure, (1 - sure) / 8).astype(np.float32),
    )
    good = 1 - errors / TEST_IMAGES
    after = place_embedding() * good + (1 - good) * np.random.default_rng(0).normal(size=(49, 32))
    write_explained_run(
        folder,
        seen,
        positions=after,
        config={"data": 'data/it\'s "sports"', **settings},
        summary={
            **{"best/val_f1": good, "test/accuracy": good, "test/ece": 0.04, "train/images_per_second": 900.0},
            "seconds/train": 75.3 + errors,
        },
    )
    chance = math.log(len(CLASSES))
    rows: list[dict[str, float]] = []
    for epoch in range(1, EPOCHS + 1):
        loss = chance * (1 - good * epoch / (EPOCHS + 1)) + (errors > 40)
        rows.append({"step": 10 * epoch, "epoch": epoch, "train/loss": loss, "train/lr": settings["lr"]})
        rows.append({"step": 10 * epoch, "epoch": epoch, "val/loss": loss + 0.1, "val/f1": good * epoch / EPOCHS})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "figures").mkdir(exist_ok=True)
    for name in ("positions", "position_maps"):
        Image.new("RGB", (640, 400), (90, 120, 160)).save(folder / "figures" / f"{name}.png")


def _unfinished(folder: Path, state: str, reason: str, settings: dict[str, Any]) -> None:
    write_run(folder, config={"batch_size": 16, "epochs": EPOCHS, "model": "vit_ti_16", **settings})
    for name in ("predictions.csv", "per_class.csv"):
        (folder / name).unlink()
    (folder / "summary.json").write_text(json.dumps({"state": state, "reason": reason}))
