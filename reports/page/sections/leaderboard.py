"""The verdict (the best setting, and whether others may be as good) and the table of all runs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from harness.runs import metric_table
from harness.runs.rules import Goal, printable
from reports import caveats, columns
from reports.collection import Collection
from reports.command import reproducing
from reports.page.section import Section
from reports.page.site import Site
from reports.runs import Run
from reports.stats.leaderboard import Leaderboard, Row
from reports.stats.probe_rows import ProbeRow
from reports.values import is_number

# Scores beside macro F1.
SCORES = metric_table.shown_in(metric_table.LEADERBOARD)

# Of the first MOST_FILTERS settings, those with at most MOST_CHOICES values get a filter.
MOST_CHOICES = 12
MOST_FILTERS = 5


@dataclass(frozen=True)
class Cell:
    text: str
    order: float | str | None = None  # key for sorting the column; None is last


@dataclass(frozen=True)
class Interval:
    """A score and its 95 % interval, as percentages of the width of the drawn bar."""

    left: float
    width: float
    at: float


def section(collection: Collection, site: Site) -> Section | None:
    board = collection.board
    scores = _recorded(collection)
    start, end = _axis([row.run for row in board.finished])
    settings = {name: _cells(collection.rows, name) for name in board.settings}
    rows = [
        {
            "key": collection.key(row.run),
            "place": row.place,
            "label": collection.label(row.run),
            "name": printable(row.run.name),
            "state": printable(row.run.state),
            "settings": {name: cells[number] for name, cells in settings.items()},
            "metric": _number(row.metric),
            "f1": _number(row.run.metric("test/f1")),
            "span": [columns.number(row.run.metric(f"test/f1_{side}")) for side in ("low", "high")],
            "interval": _interval(row.run, start, end),
            "scores": [_number(row.run.metric(score.key), score.digits) for score in scores],
            "p": columns.p_value(row.comparison.p_holm) if row.comparison else "",
            "standing": _standing(row),
            "epochs": _epochs(row.run),
            "seconds": Cell(columns.duration(row.run.metric("seconds/train")), row.run.metric("seconds/train")),
            "speed": _number(row.run.metric("train/images_per_second"), 0),
            "reason": "" if row.place else f"{row.reason} ({caveats.progress(row.run)})".lstrip(),
            "command": reproducing(row.run),
        }
        for number, row in enumerate(collection.rows)
    ]
    context = {
        "probes": [_probe(probe, list(board.settings)) for probe in board.probes],
        "rows": rows,
        "metric": collection.metric,
        "best_first": _best_first(board.goal),
        "scores": [(score.column or score.heading, score.meaning, _best_first(score.goal)) for score in scores],
        "settings": {name: printable(name).replace("_", " ") for name in board.settings},
        "filters": {
            name: values
            for name, cells in list(settings.items())[:MOST_FILTERS]
            if 1 < len(values := list(dict.fromkeys(cell.text for cell in _sorted(cells)))) <= MOST_CHOICES
        },
        "states": list(dict.fromkeys(row["state"] for row in rows)),
        "axis": f"{start:g} to {end:g}",
        "equals": sum(row["standing"] == "equal" for row in rows),
        "compared": sum(row["standing"] in ("equal", "apart") for row in rows),
        "notes": board.notes[1:] if board.finished else (),
    }
    return Section("leaderboard", "leaderboard.html.j2", context, scripts=("sort.js", "leaderboard.js"))


def verdict(collection: Collection) -> dict[str, Any] | None:
    """The top of the page: the best run, its score, and whether others may be as good; None if no run is ranked."""
    board = collection.board
    if not board.finished:
        return None
    row = board.finished[0]
    return {
        "label": collection.label(row.run),
        "metric": collection.metric,
        "value": columns.number(row.metric),
        "f1": columns.number(row.run.metric("test/f1"), 3),
        "low": columns.number(row.run.metric("test/f1_low"), 3),
        "high": columns.number(row.run.metric("test/f1_high"), 3),
        "n": row.run.metric("test/n"),
        "interval": _interval(row.run, 0, 1),
        "facts": {
            **{score.heading: columns.number(row.run.metric(score.key), 3) for score in _recorded(collection)},
            **({"linear probe F1": columns.number(_probe_f1(board), 3)} if board.probes else {}),
            "best epoch": _epochs(row.run).text,
            "trained in": columns.duration(row.run.metric("seconds/train")),
        },
        "doubt": _doubt(collection),
    }


def _probe(probe: ProbeRow, settings: list[str]) -> dict[str, Any]:
    return {
        "settings": [columns.value(probe.settings[name]) if name in probe.settings else "" for name in settings],
        "metric": _number(probe.metric),
        "f1": _number(probe.test_f1),
        "started": f"the start of {probe.started} run{'s' * (probe.started != 1)}",
    }


def _probe_f1(board: Leaderboard) -> float | None:
    """Test macro F1 of the best linear probe."""
    return max((probe.test_f1 for probe in board.probes if probe.test_f1 is not None), default=None)


def _recorded(collection: Collection) -> list[metric_table.Metric]:
    """Scores beside macro F1 that a run has: runs of earlier versions lack those that were added since."""
    runs = [row.run for row in collection.rows]
    return [score for score in SCORES if any(run.metric(score.key) is not None for run in runs)]


def _best_first(goal: Goal) -> str:
    """How a column is sorted when its best value comes first."""
    return "ascending" if goal == "minimize" else "descending"


def _doubt(collection: Collection) -> dict[str, Any]:
    """Whether the best run is better than the others beyond chance, and which runs may be as good."""
    board: Leaderboard = collection.board
    rest = board.finished[1:]
    compared = [(row, row.comparison) for row in rest if row.comparison and row.comparison.comparable]
    if not compared:
        reason = (
            "The other runs cannot be compared with it: see the leaderboard." if rest else "No other run has finished."
        )
        return {"answer": "Nothing to compare with", "sentence": reason, "others": []}
    m, images = len(compared), compared[0][1].images
    equal = [row for row, comparison in compared if comparison.indistinguishable]
    higher = [
        row for row, comparison in compared if not comparison.indistinguishable and (comparison.difference or 0) < 0
    ]
    others = f"{m} of {len(rest)} others" if m < len(rest) else f"all {m} others" if m > 1 else "the only other run"
    if higher:
        answer = "No"
        sentence = (
            f"{len(higher)} of {m} other runs score{'s' * (len(higher) == 1)} higher on the same {images} test images, "
            "by more than chance explains, though lower on validation."
        )
    elif equal:
        answer = "Not certain"
        sentence = (
            f"On the same {images} test images, {len(equal)} of {m} other runs may be as good: the difference may be "
            "chance."
        )
    else:
        answer = "Yes, on these images"
        sentence = f"On the same {images} test images it beats {others} by more than chance explains."
    if left := len(rest) - m:
        sentence += f" {left} more cannot be compared: see the leaderboard."
    return {"answer": answer, "sentence": sentence, "others": [collection.label(row.run) for row in higher or equal]}


def _standing(row: Row) -> str:
    """best, equal (not told from the best by the test images), apart, uncompared, or unranked."""
    if row.place is None:
        return "unranked"
    if row.comparison is None:
        return "best"
    if not row.comparison.comparable:
        return "uncompared"
    return "equal" if row.comparison.indistinguishable else "apart"


def _cells(rows: tuple[Row, ...], name: str) -> list[Cell]:
    values = [row.settings.get(name, "?") for row in rows]
    return [
        Cell(text, float(value) if is_number(value) else text)
        for value, text in zip(values, columns.spelled(values), strict=True)
    ]


def _sorted(cells: list[Cell]) -> list[Cell]:
    return sorted(cells, key=lambda cell: (isinstance(cell.order, str), cell.order))


def _number(value: float | None, digits: int = 4) -> Cell:
    return Cell(columns.number(value, digits) if value is not None else "–", value)


def _epochs(run: Run) -> Cell:
    best, epochs = run.metric("best/epoch"), run.config.get("epochs")
    if best is None:
        return Cell("–", None)
    return Cell(f"{best:.0f}/{epochs}" if isinstance(epochs, int) else f"{best:.0f}", best)


def _interval(run: Run, start: float, end: float) -> Interval | None:
    at, low, high = (run.metric(f"test/f1{suffix}") for suffix in ("", "_low", "_high"))
    if at is None or low is None or high is None:
        return None
    left, right, middle = (round(100 * min(max((value - start) / (end - start), 0), 1), 2) for value in (low, high, at))
    return Interval(left, round(right - left, 2), middle)


def _axis(runs: list[Run]) -> tuple[float, float]:
    """F1 at the ends of the bars: 0 and 1, or a part of that range if it contains all intervals."""
    # A damaged summary may hold any number.
    lows = [min(1.0, value) for run in runs if (value := run.metric("test/f1_low")) is not None]
    highs = [min(1.0, value) for run in runs if (value := run.metric("test/f1_high")) is not None]
    if not lows or not highs:
        return 0.0, 1.0
    # At most 0.95, because a bar needs a width even if all runs are perfect.
    start = min(math.floor(min(lows) * 20) / 20, 0.95) if min(lows) > 0.5 else 0.0
    return start, min(1.0, max(start + 0.05, math.ceil(max(highs) * 20) / 20))
