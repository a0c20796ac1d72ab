"""A page of two hundred runs on five hundred images each. For timings: tests/bench/bench_report.py."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import expect

from reports.page.build import build
from tests.helpers.browser import Reader
from tests.helpers.explained import made_up_archive
from tests.helpers.explained_runs import write_explained_run

RUNS, IMAGES, CLASSES = 200, 500, 100


def write_many(folder: Path) -> Path:
    """Two runs as they are, and their copies: other settings and validation scores, the same arrays and sprites."""
    for name in ("good", "poor"):
        seen = made_up_archive(n=IMAGES, layers=12, heads=3, grid=14, classes=[f"class {i}" for i in range(CLASSES)])
        right = np.arange(IMAGES) % 5 > 0 if name == "good" else np.arange(IMAGES) % 3 == 0
        seen.predicted[:] = np.where(right, seen.labels, (seen.labels + 1) % CLASSES)
        write_explained_run(folder.parent / name, seen, images=np.zeros((IMAGES, 64, 64, 3), np.uint8))
    for number in range(RUNS):
        original = folder.parent / ("good" if number < RUNS // 2 else "poor")
        run = folder / f"run-{number:03}"
        shutil.copytree(original, run, copy_function=os.link)
        summary = json.loads((run / "summary.json").read_text())
        settings = {"lr": 10 ** -(1 + number % 8), "batch_size": 1 + number // 8, "augment": "none", "seed": 0}
        for name, content in (
            ("config.json", settings | {"epochs": 3}),
            ("summary.json", summary | {"best/val_f1": 1 - number / RUNS}),
        ):
            (run / name).unlink()  # it is the original's, too
            (run / name).write_text(json.dumps(content))
        (run / "metrics.jsonl").write_text(
            "".join(
                json.dumps({"step": s, "epoch": s / 50, "train/loss": 4 / s, "val/loss": 5 / s, "val/f1": 1 - 1 / s})
                + "\n"
                for s in range(1, 151)
            )
        )
    return folder


@pytest.mark.slow
def test_two_hundred_runs_of_five_hundred_images(tmp_path: Path, reader: Reader) -> None:
    runs = write_many(tmp_path / "runs")
    page = reader.open(build(runs, gallery=4))
    expect(page.locator("#leaderboard [data-count]")).to_have_text(f"{RUNS} runs")

    page.get_by_label("Filter").fill("run-123")
    expect(page.locator("#leaderboard [data-count]")).to_have_text(f"1 of {RUNS} runs")

    page.locator("#gallery").scroll_into_view_if_needed()
    expect(page.locator("#gallery-count")).to_have_text(f"Images 1 to 40 of {IMAGES}.")
    page.locator("#gallery-controls [name=outcome]").select_option("wrong")
    expect(page.locator("#gallery-count")).to_have_text(f"Images 1 to 40 of 100, filtered from {IMAGES}.")

    page.locator("#curves").scroll_into_view_if_needed()
    expect(page.locator("#curves .plot.drawn")).to_have_count(3)
