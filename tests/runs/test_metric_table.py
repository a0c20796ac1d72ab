"""The table of metrics against what computes, logs and shows them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from harness.runs import summary
from harness.runs.intervals import score_intervals
from harness.runs.metric_table import BY_KEY, CLOSING, CURVE, LEADERBOARD, METRICS, SWEEP, WANDB, shown_in
from harness.sweep.spec.metric import METRICS as OF_SWEEPS
from harness.training.metrics import score
from reports.page.build import build
from reports.wandb_report.panels import CURVES, PINNED, SCORES
from tests.helpers.pages import Page
from tests.reports.stats.test_leaderboard import write

LABELS = np.array([0, 1, 2, 2])
LOGITS = np.array([[2.0, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0]])


def keys(place: str) -> set[str]:
    return {metric.key for metric in shown_in(place)}


def test_scores_are_computed_for_every_key_of_a_prefix() -> None:
    assert len(BY_KEY) == len(METRICS)
    scores = score(LABELS, LOGITS)
    assert scores.by_key("best/val_").keys() == {
        "best/val_f1",
        "best/val_accuracy",
        "best/val_balanced_accuracy",
        "best/val_loss",
    }
    for prefix, part in (("val/", "f1"), ("best/val_", "accuracy"), ("test/", "ece")):
        values = scores.by_key(prefix)
        assert values.keys() == {key for key in BY_KEY if key.startswith(prefix)}
        assert values[prefix + part] == getattr(scores, part)


def test_the_closing_table_has_its_metrics_with_four_digits_and_intervals() -> None:
    scores = score(LABELS, LOGITS)
    results = scores.by_key("best/val_") | summary.test_results(scores, score_intervals(LABELS, LOGITS.argmax(1), 3))
    lines = summary.score_lines(results)
    assert list(lines) == [metric.title for metric in shown_in(CLOSING)]
    assert lines["calibration error"] == f"{scores.ece:.4f}"
    # Two classes without an error, and one of two images right: (1 + 1 + 0.5) / 3.
    assert lines["test balanced accuracy"] == "0.8333"
    assert lines["test accuracy"].startswith("0.7500  (95 % interval ") and lines["test accuracy"].endswith(", n = 4)")


def test_the_closing_table_names_the_classes_with_the_lowest_recall() -> None:
    rows = summary.per_class(("a", "b", "c\x1b"), score(LABELS, LOGITS))
    assert summary.lowest_recalls(rows) == "0.5000 (c\\x1b), 1.0000 (a), 1.0000 (b)"
    # A class without test images has no recall.
    rows = summary.per_class(("a", "b", "c", "d"), score(LABELS, np.pad(LOGITS, ((0, 0), (0, 1)))))
    assert summary.lowest_recalls(rows) == "0.5000 (c), 1.0000 (a), 1.0000 (b)"


def test_a_folder_of_an_earlier_version_has_no_balanced_accuracy(tmp_path: Path) -> None:
    write(tmp_path / "a", 0.9, 3)
    found = json.loads((tmp_path / "a" / "summary.json").read_text())
    assert "test/balanced_accuracy" not in found
    page = Page(build(tmp_path))
    assert "balanced" not in page.text_of("verdict")
    assert "balanced" not in page.text_of("leaderboard")
    assert "test balanced accuracy" not in summary.score_lines(found)


def test_the_page_shows_its_metrics(tmp_path: Path) -> None:
    write(tmp_path / "a", 0.9, 3)
    file = tmp_path / "a" / "summary.json"
    scores = {metric.key: 0.75 for metric in shown_in(LEADERBOARD)}
    file.write_text(json.dumps(json.loads(file.read_text()) | scores))
    page = Page(build(tmp_path))
    for metric in shown_in(LEADERBOARD):
        assert metric.heading in page.text_of("verdict")
        assert (metric.column or metric.heading) in page.text_of("leaderboard")


def test_panels_and_sweeps_have_their_metrics() -> None:
    assert keys(WANDB) == SCORES.keys() <= set(PINNED)
    assert keys(CURVE) < CURVES.keys()
    assert keys(SWEEP) == OF_SWEEPS.keys() and not any(key.startswith("test/") for key in OF_SWEEPS)
