"""The table of metrics: everything that shows, logs or optimises a metric reads it here. Standard library only.

A metric of predictions is computed in one other file, harness/training/metrics.py.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.runs.rules import Goal

# Where a metric can be shown.
LEADERBOARD = "leaderboard"  # a column of the page's leaderboard, and a fact about the best run above it
WANDB = "W&B"  # a bar for each run in the W&B report, and a column of its table of runs
CURVE = "curve"  # a history in the W&B report
CLOSING = "closing table"  # a line of the table that a run prints when it ends, and of `harness evaluate`
SWEEP = "sweep"  # may be the `metric` of a sweep file


@dataclass(frozen=True)
class Metric:
    key: str  # in summary.json, metrics.jsonl and W&B
    title: str
    goal: Goal
    shown: tuple[str, ...]
    digits: int = 4  # in the leaderboard
    column: str = ""  # short title, of its column in the leaderboard; empty: `heading`
    meaning: str = ""  # explains that column
    per_epoch: bool = True  # logged once in each epoch; False: at every logging step
    log_axis: bool = False  # of its curve

    @property
    def caption(self) -> str:
        """Title of a chart."""
        return self.title[0].upper() + self.title[1:]

    @property
    def heading(self) -> str:
        """Title where all scores are those of the test images."""
        return self.title.removeprefix("test ")


METRICS = (
    Metric("best/val_f1", "validation F1", "maximize", (CLOSING, SWEEP)),
    Metric("best/val_accuracy", "validation accuracy", "maximize", (CLOSING, SWEEP)),
    Metric("best/val_balanced_accuracy", "validation balanced accuracy", "maximize", (SWEEP,)),
    Metric("best/val_loss", "validation loss", "minimize", (SWEEP,)),
    Metric("val/f1", "validation macro F1", "maximize", (CURVE, SWEEP)),
    Metric("val/accuracy", "validation accuracy", "maximize", (CURVE, SWEEP)),
    Metric("val/balanced_accuracy", "validation balanced accuracy", "maximize", (CURVE, SWEEP)),
    Metric("val/loss", "validation loss", "minimize", (CURVE, SWEEP), log_axis=True),
    Metric("train/loss", "training loss", "minimize", (CURVE, SWEEP), per_epoch=False, log_axis=True),
    # Its column and its interval are the heart of the leaderboard, which shows them by itself.
    Metric("test/f1", "test macro F1", "maximize", (WANDB, CLOSING)),
    Metric("test/accuracy", "test accuracy", "maximize", (LEADERBOARD, WANDB, CLOSING)),
    Metric(
        "test/balanced_accuracy",
        "test balanced accuracy",
        "maximize",
        (LEADERBOARD, WANDB, CLOSING),
        column="balanced",
        meaning="balanced accuracy: mean recall over classes",
    ),
    Metric("test/top5", "test top-5", "maximize", (CLOSING,)),
    Metric("test/loss", "test loss", "minimize", (CLOSING,)),
    Metric(
        "test/ece",
        "calibration error",
        "minimize",
        (LEADERBOARD, WANDB, CLOSING),
        digits=3,
        column="ECE",
        meaning="expected calibration error: mean distance of confidence from accuracy",
    ),
)
BY_KEY = {metric.key: metric for metric in METRICS}


def shown_in(place: str) -> tuple[Metric, ...]:
    """The metrics that are shown in a place, in the order of the table."""
    return tuple(metric for metric in METRICS if place in metric.shown)
