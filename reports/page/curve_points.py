"""Logged values of a setting by epoch: of its run, or the mean and the range of its seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reports.runs import Run
from reports.values import is_number, rounded


@dataclass(frozen=True)
class Points:
    """`low` and `high` are the lowest and the highest seed; empty of one run."""

    epochs: list[float]
    values: list[float]
    low: list[float]
    high: list[float]


def points(runs: Sequence[Run], key: str) -> Points:
    """The metric of runs, at each epoch over the seeds that have logged it then."""
    of_runs = [run_points(run, key) for run in runs]
    if len(runs) == 1:
        return Points(*of_runs[0], [], [])
    by_epoch: dict[float, list[float]] = {}
    for epochs, values in of_runs:
        for epoch, value in zip(epochs, values, strict=True):
            by_epoch.setdefault(round(epoch, 6), []).append(value)
    ordered = sorted(by_epoch.items())
    return Points(
        [epoch for epoch, _ in ordered],
        [float(np.mean(values)) for _, values in ordered],
        [min(values) for _, values in ordered],
        [max(values) for _, values in ordered],
    )


def run_points(run: Run, key: str) -> tuple[list[float], list[float]]:
    """Epochs and finite values of a metric."""
    logged = [(row.get("epoch"), row.get(key)) for row in run.rows if key in row]
    known = [(float(x), float(y)) for x, y in logged if is_number(x) and is_number(y)]
    return [x for x, _ in known], [y for _, y in known]


def thinned(all_points: Points, most: int) -> Points:
    """At most `most` points: means of equally many neighbours."""
    lines = [line for line in vars(all_points).values() if line]
    if len(all_points.epochs) > most:
        parts = [part for part in np.array_split(np.array(lines), most, axis=1) if part.size]
        lines = [[float(part[row].mean()) for part in parts] for row in range(len(lines))]
    lines = [[rounded(value, 5) for value in line] for line in lines]
    return Points(*lines, *([[]] * (4 - len(lines))))
