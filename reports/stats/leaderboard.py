"""The runs of a sweep, best first, and which of them may be as good as the best by the test images."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.runs.resampling import LEVEL
from harness.runs.rules import Goal, finite, printable
from reports import columns
from reports.runs import Run
from reports.stats.comparison import Comparison, compare
from reports.stats.probe_rows import ProbeRow, probe_rows

# Entries of config.json that do not change what a run computes: folders, names, logging, speed.
NOT_SETTINGS = (
    *("runs_dir", "cache_dir", "name", "project", "group", "tags", "fresh"),
    *("log_every", "checkpoint_every", "checkpoint_minutes", "threads", "workers"),
)

# Most runs that the notes list by name.
NAMED = 10


@dataclass(frozen=True, eq=False)
class Row:
    """One run; `place` and `comparison` are None unless it finished with the metric."""

    run: Run
    settings: dict[str, Any]  # those that vary among the runs
    metric: float | None
    place: int | None = None
    comparison: Comparison | None = None  # of the best run with this one
    reason: str = ""  # why it has no place


@dataclass(frozen=True, eq=False)
class Leaderboard:
    metric: str
    goal: Goal
    settings: tuple[str, ...]  # names of those that vary
    finished: tuple[Row, ...]  # best first
    others: tuple[Row, ...]
    probes: tuple[ProbeRow, ...] = ()  # that runs started from

    @property
    def notes(self) -> tuple[str, ...]:
        """The result in sentences, one per line."""
        return tuple(_notes(self))


def leaderboard(runs: Sequence[Run], *, metric: str = "best/val_f1", goal: Goal = "maximize") -> Leaderboard:
    """Rank runs by a metric of their summaries; compare finished ones with the best on the test images."""
    names = varying(runs)
    finished = ranked(runs, metric, goal)
    comparisons = [None, *compare(finished[0], finished[1:])] if finished else []

    def settings(run: Run) -> dict[str, Any]:
        return {name: run.config[name] for name in names if name in run.config}

    placed = [
        Row(run, settings(run), run.metric(metric), place, comparison)
        for place, (run, comparison) in enumerate(zip(finished, comparisons, strict=True), start=1)
    ]
    others = [
        Row(run, settings(run), run.metric(metric), reason=_reason(run, metric)) for run in runs if run not in finished
    ]
    in_order = [row.run for row in (*placed, *others)]
    return Leaderboard(metric, goal, names, tuple(placed), tuple(others), probe_rows(in_order, metric, names))


def nothing_ranked(board: Leaderboard) -> str:
    """Why there is no best run."""
    if any(row.run.finished for row in board.others):
        return f"No run has finished with a {printable(board.metric)}."
    return "No run has finished."


def ranked(runs: Iterable[Run], metric: str, goal: Goal) -> list[Run]:
    """The finished runs that have the metric, best first; the lower validation loss decides between equal ones."""
    sign = -1 if goal == "maximize" else 1
    known = [(value, run) for run in runs if run.finished and (value := run.metric(metric)) is not None]

    def order(value_and_run: tuple[float, Run]) -> tuple[float, float, str]:
        value, run = value_and_run
        loss = run.metric("best/val_loss")
        return sign * value, math.inf if loss is None else loss, run.name

    return [run for _, run in sorted(known, key=order)]


def to_json(board: Leaderboard) -> str:
    """The whole leaderboard, settings and numbers unrounded."""
    content = {
        "metric": board.metric,
        "goal": board.goal,
        "settings": board.settings,
        "probes": [dataclasses.asdict(probe) for probe in board.probes],
        "runs": [_as_json(row) for row in (*board.finished, *board.others)],
        "notes": board.notes,
    }
    return json.dumps(finite(content), indent=2, allow_nan=False)


def varying(runs: Sequence[Run]) -> tuple[str, ...]:
    """Names of settings with more than one value among the runs, in the order of the configs."""
    names = dict.fromkeys(name for run in runs for name in run.config if name not in NOT_SETTINGS)
    values = {name: {json.dumps(run.config[name]) for run in runs if name in run.config} for name in names}
    return tuple(name for name in names if len(values[name]) > 1)


def in_words(settings: Mapping[str, Any]) -> str:
    """Settings as text: "lr 0.0001, batch size 16"."""
    return ", ".join(f"{printable(name).replace('_', ' ')} {columns.value(value)}" for name, value in settings.items())


def _notes(board: Leaderboard) -> Iterator[str]:
    if not board.finished:
        yield nothing_ranked(board) if board.others else "There are no runs."
        return
    best, *rest = board.finished
    n = best.run.metric("test/n")
    name = in_words(best.settings) or printable(best.run.name)
    score, interval = columns.number(best.run.metric("test/f1")), f1_interval(best.run)
    metric = printable(board.metric)
    yield f"Best by {metric}: {name}. Test macro F1 {score}, 95 % interval {interval}, n = {n or 0:.0f}."
    yield from _above_probe(board)
    if board.metric.startswith("test/"):
        yield "The test images chose it: its lead on them is overstated, and the numbers below do not correct that."
    if not rest:
        yield "No other run has finished: there is nothing to compare it with."
    compared = [(row, row.comparison) for row in rest if row.comparison]
    if comparable := [(row, comparison) for row, comparison in compared if comparison.comparable]:
        yield from _significance(comparable)
    for row, comparison in [(row, comparison) for row, comparison in compared if not comparison.comparable][:NAMED]:
        yield f"{row.place} is not compared with the best: {comparison.reason}."


def _above_probe(board: Leaderboard) -> Iterator[str]:
    """What the best run adds to the linear probe, with an interval if it started from one."""
    best = board.finished[0].run
    gain, low, high = (best.metric(f"probe/gain{suffix}") for suffix in ("", "_low", "_high"))
    if gain is not None:
        yield f"It adds {gain:+.4f} to the test macro F1 of its linear probe, 95 % interval {_signed(low, high)}."
    elif scores := [probe.test_f1 for probe in board.probes if probe.test_f1 is not None]:
        f1 = best.metric("test/f1")
        difference = "-" if f1 is None else f"{f1 - max(scores):+.4f}"
        yield f"Compared with the linear probe: {difference}, without an interval: it did not start from the probe."


def _signed(low: float | None, high: float | None) -> str:
    return "-" if low is None or high is None else f"{low:+.4f} to {high:+.4f}"


def _significance(compared: Sequence[tuple[Row, Comparison]]) -> Iterator[str]:
    """Which runs may be as good as the best, and how that was decided."""
    m, images = len(compared), compared[0][1].images
    equal = [(row, comparison) for row, comparison in compared if comparison.indistinguishable]
    lower = sum(not comparison.indistinguishable and (comparison.difference or 0) > 0 for _, comparison in compared)
    higher = m - len(equal) - lower
    sentence = f"On the same {images} test images, {len(equal)} of {m} other runs may be as good by macro F1"
    if lower:
        sentence += f"; {lower} score lower"
    if higher:
        sentence += f"; {higher} score higher, unlike on validation"
    yield f"{sentence}. The best minus each of these:" if equal else f"{sentence}."
    for row, comparison in equal[:NAMED]:
        name = f"{row.place} ({in_words(row.settings) or printable(row.run.name)})"
        if comparison.differing:
            interval, p = columns.span(comparison.low, comparison.high), columns.p_value(comparison.p_holm)
            yield f"  {name}: {columns.number(comparison.difference)}, 95 % interval {interval}, p {p}"
        else:
            yield f"  {name}: identical predictions"
    if len(equal) > NAMED:
        yield f"  and {len(equal) - NAMED} more"
    yield (
        "How: a two-sided permutation test swaps the predictions of the two runs at random, image by image. Runs "
        f"differ if p is at most {1 - LEVEL:.2f} after Holm's correction for {m} comparison{'s' * (m > 1)}. "
        "Intervals are by paired bootstrap, not corrected for the number of comparisons. Other training seeds would "
        "differ more."
    )


def f1_interval(run: Run) -> str:
    """95 % interval of macro F1 on test, as text."""
    return columns.span(run.metric("test/f1_low"), run.metric("test/f1_high"))


def _reason(run: Run, metric: str) -> str:
    reason = run.summary.get("reason")
    reasons = [reason] if isinstance(reason, str) else []
    if run.finished and run.metric(metric) is None:
        reasons.append(f"its summary has no {metric}")
    # An error message of several lines becomes one.
    return printable(" ".join("; ".join([*reasons, *run.problems]).split()))


def _as_json(row: Row) -> dict[str, Any]:
    run, comparison = row.run, row.comparison
    compared = comparison and {
        "difference": comparison.difference,
        "low": comparison.low,
        "high": comparison.high,
        "p": comparison.p,
        "p_holm": comparison.p_holm,
        "comparisons": comparison.comparisons,
        "pictures": comparison.images,
        "indistinguishable": comparison.indistinguishable,
        "reason": comparison.reason or None,
    }
    return {
        "run": run.name,
        "path": str(run.path),
        "state": run.state,
        "place": row.place,
        "settings": row.settings,
        "summary": dict(run.summary),
        "reason": row.reason or None,
        "best_less_this": compared,
    }
