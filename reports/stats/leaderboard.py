"""The runs of a sweep side by side, best first, and which of them the test images cannot tell from the best."""

from __future__ import annotations

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

# Entries of config.json that say where a run is kept, what it is called or how it is hurried, not what it computes.
NOT_SETTINGS = (
    *("runs_dir", "cache_dir", "name", "project", "group", "tags", "fresh"),
    *("log_every", "checkpoint_every", "checkpoint_minutes", "threads", "workers"),
)

# Runs that the notes name one by one; of more they give the number.
NAMED = 10

WIDTH_OF_NO_TERMINAL = (110, 24)


@dataclass(frozen=True, eq=False)
class Row:
    """One run; `place` and `comparison` only where it finished with the metric."""

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

    @property
    def notes(self) -> tuple[str, ...]:
        """What the numbers say, line by line."""
        return tuple(_notes(self))


def leaderboard(runs: Sequence[Run], *, metric: str = "best/val_f1", goal: Goal = "maximize") -> Leaderboard:
    """Runs in order of a metric of their summaries; finished ones are compared with the best on the test images."""
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
    return Leaderboard(metric, goal, names, tuple(placed), tuple(others))


def nothing_ranked(board: Leaderboard) -> str:
    """Why there is no best run."""
    finished = any(row.run.finished for row in board.others)
    return f"No run has finished{f' with a {printable(board.metric)}' * finished}."


def ranked(runs: Iterable[Run], metric: str, goal: Goal) -> list[Run]:
    """The finished runs that have the metric, best first; of equal ones first that with the lower validation loss."""
    sign = -1 if goal == "maximize" else 1
    known = [(value, run) for run in runs if run.finished and (value := run.metric(metric)) is not None]

    def order(one: tuple[float, Run]) -> tuple[float, float, str]:
        loss = one[1].metric("best/val_loss")
        return sign * one[0], math.inf if loss is None else loss, one[1].name

    return [run for _, run in sorted(known, key=order)]


def to_json(board: Leaderboard) -> str:
    """The whole board, settings and numbers as they are."""
    content = {
        "metric": board.metric,
        "goal": board.goal,
        "settings": board.settings,
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
    """Entries of config.json for people to read."""
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
    if board.metric.startswith("test/"):
        yield "It was chosen by the test images themselves: its lead on them is overstated, uncorrected below."
    if not rest:
        yield "No other run has finished: there is nothing to compare it with."
    compared = [(row, row.comparison) for row in rest if row.comparison]
    if comparable := [(row, one) for row, one in compared if one.comparable]:
        yield from _told_apart(comparable)
    for row, one in [(row, one) for row, one in compared if not one.comparable][:NAMED]:
        yield f"{row.place} is not compared with the best: {one.reason}."


def _told_apart(compared: Sequence[tuple[Row, Comparison]]) -> Iterator[str]:
    """Who cannot be told from the best, and how that was found."""
    m, pictures = len(compared), compared[0][1].pictures
    equal = [(row, one) for row, one in compared if one.indistinguishable]
    lower = sum(not one.indistinguishable and (one.difference or 0) > 0 for _, one in compared)
    higher = m - len(equal) - lower
    rest = [f"{count} score {how}" for count, how in ((lower, "lower"), (higher, "higher, unlike validation")) if count]
    yield (
        f"On the same {pictures} test images, {len(equal)} of {m} other runs cannot be told from it by macro F1"
        f"{'; ' * bool(rest)}{', '.join(rest)}.{' The best less each of these:' * bool(equal)}"
    )
    for row, one in equal[:NAMED]:
        name = f"{row.place} ({in_words(row.settings) or printable(row.run.name)})"
        if one.differing:
            interval, p = columns.span(one.low, one.high), columns.p_value(one.p_holm)
            yield f"  {name}: {columns.number(one.difference)}, 95 % interval {interval}, p {p}"
        else:
            yield f"  {name}: identical predictions"
    if len(equal) > NAMED:
        yield f"  and {len(equal) - NAMED} more"
    yield (
        "How: the two runs' predictions swapped at random, image by image (two-sided permutation test; told apart "
        f"where p is at most {1 - LEVEL:.2f} after Holm's correction for {m} comparison{'s' * (m > 1)}); intervals by "
        "paired bootstrap, each for itself. Other training seeds would differ more than this tells."
    )


def f1_interval(run: Run) -> str:
    """95 % interval of macro F1 on test, as text."""
    return columns.span(run.metric("test/f1_low"), run.metric("test/f1_high"))


def _reason(run: Run, metric: str) -> str:
    given = run.summary.get("reason")
    said = [given] if isinstance(given, str) else []
    if run.finished and run.metric(metric) is None:
        said.append(f"its summary has no {metric}")
    # An error message of several lines becomes one.
    return printable(" ".join("; ".join([*said, *run.problems]).split()))


def _as_json(row: Row) -> dict[str, Any]:
    run, one = row.run, row.comparison
    compared = one and {
        "difference": one.difference,
        "low": one.low,
        "high": one.high,
        "p": one.p,
        "p_holm": one.p_holm,
        "comparisons": one.comparisons,
        "pictures": one.pictures,
        "indistinguishable": one.indistinguishable,
        "reason": one.reason or None,
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
