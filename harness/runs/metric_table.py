"""The table of metrics: key, title, digits, direction, and where each is shown. Standard library only.

A metric is computed in one other file; everything that shows metrics reads this table.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.runs.rules import Goal

# Where a metric can be shown.
LEADERBOARD = "leaderboard"  # a fact of the best run at the head of the page
PANEL = "panel"  # a bar in a report in W&B, for each run
CURVE = "curve"  # a history in a report in W&B
PINNED = "pinned"  # a column of the table of runs in W&B
CLOSING = "closing table"  # a line of the table that a run prints when it ends
SWEEP = "sweep"  # may be the `metric` of a sweep file


@dataclass(frozen=True)
class Metric:
    key: str  # in summary.json, metrics.jsonl and W&B
    title: str
    digits: int
    goal: Goal
    shown: tuple[str, ...] = ()
    per_epoch: bool = True  # logged once in each epoch; False: at every logging step
    has_interval: bool = False  # `<key>_low` and `<key>_high` are its 95 % interval
    log_axis: bool = False


METRICS = (
    Metric("best/val_f1", "validation F1", 4, "maximize", (SWEEP,)),
    Metric("best/val_accuracy", "validation accuracy", 4, "maximize", (SWEEP,)),
    Metric("best/val_loss", "validation loss", 4, "minimize", (SWEEP,)),
    Metric("val/f1", "validation macro F1", 4, "maximize", (SWEEP, CURVE)),
    Metric("val/accuracy", "validation accuracy", 4, "maximize", (SWEEP, CURVE)),
    Metric("val/loss", "validation loss", 4, "minimize", (SWEEP, CURVE), log_axis=True),
    Metric("train/loss", "training loss", 4, "minimize", (SWEEP, CURVE), per_epoch=False, log_axis=True),
    Metric("test/f1", "test macro F1", 4, "maximize", (PANEL, PINNED, CLOSING), has_interval=True),
    Metric("test/accuracy", "test accuracy", 4, "maximize", (LEADERBOARD, PANEL, PINNED, CLOSING), has_interval=True),
    Metric("test/top5", "test top-5", 4, "maximize", (CLOSING,)),
    Metric("test/loss", "test loss", 4, "minimize", (CLOSING,)),
    Metric("test/ece", "calibration error", 3, "minimize", (LEADERBOARD, PANEL, PINNED, CLOSING)),
)
BY_KEY = {metric.key: metric for metric in METRICS}


def shown_in(place: str) -> tuple[Metric, ...]:
    """The metrics that are shown in a place, in the order of the table."""
    return tuple(metric for metric in METRICS if place in metric.shown)
