"""The winner's curse of a validation score, on settings whose true scores are known."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from reports.runs import read_runs
from reports.stats.leaderboard import leaderboard
from reports.stats.selection import Selection, selection
from tests.reports.test_runs import write_run

CLASSES = tuple("abcdefghij")
LABELS = np.repeat(np.arange(10), 30)


def measured(folder: Path, error_rates: list[float], val: int | None) -> Selection | None:
    """Of settings that differ in their errors, which are independent, on 300 test images."""
    random = np.random.default_rng(0)
    for number, rate in enumerate(error_rates):
        wrong = random.random(len(LABELS)) < rate
        predicted = np.where(wrong, (LABELS + random.integers(1, 10, len(LABELS))) % 10, LABELS)
        summary = {"best/val_f1": 1 - rate}
        config = {"lr": 10.0**-number, "seed": 0}
        run = write_run(
            folder / str(number), LABELS.tolist(), predicted.tolist(), classes=CLASSES, config=config, summary=summary
        )
        manifest = json.loads((run / "manifest.json").read_text())
        manifest["data"] = manifest.get("data", {}) | {"images": {} if val is None else {"val": val}}
        (run / "manifest.json").write_text(json.dumps(manifest))
    return selection(leaderboard(read_runs(folder)).ranked)


def test_the_best_of_equal_settings_looks_better_by_the_expected_maximum(tmp_path: Path) -> None:
    found = measured(tmp_path, [0.2] * 8, val=75)
    assert found is not None and found.images == 75
    # The largest of 8 errors, each of standard deviation sqrt(0.2 * 0.8 / 75), is 1.42 deviations in the mean. The
    # settings' scores differ by chance on the test images, and the clearer of them are chosen more often.
    expected = 1.42 * math.sqrt(0.2 * 0.8 / 75)
    assert 0.7 * expected < found.excess < 1.1 * expected


def test_more_validation_images_and_a_clear_winner_leave_little_to_chance(tmp_path: Path) -> None:
    few, many, clear = (
        measured(tmp_path / name, rates, val)
        for name, rates, val in (("few", [0.2] * 4, 75), ("many", [0.2] * 4, 1200), ("clear", [0.1, 0.6, 0.7], 300))
    )
    assert few is not None and many is not None and clear is not None
    assert many.excess < few.excess / 2
    assert clear.excess == pytest.approx(0, abs=1e-3)


def test_without_a_choice_or_without_known_images_nothing_is_said(tmp_path: Path) -> None:
    assert measured(tmp_path / "one", [0.2], val=100) is None
    assert measured(tmp_path / "unknown", [0.2, 0.3], val=None) is None
