"""The table of all settings, and below each one that has several seeds its runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from harness.runs import metric_table
from harness.runs.rules import Goal, printable
from reports import columns
from reports.collection import Collection
from reports.command import reproducing
from reports.page.run_table import standing, tags_of
from reports.page.score_bars import axis, drawn_interval
from reports.page.section import Section
from reports.page.site import Site
from reports.stats.leaderboard import Row, SettingRow
from reports.stats.notes import seeds_of
from reports.stats.probe_rows import ProbeRow
from reports.stats.setting import SEED, Pooled, pooled, test_f1_of
from reports.values import is_number

# Scores beside macro F1.
SCORES = metric_table.shown_in(metric_table.LEADERBOARD)

# Of the first MOST_FILTERS settings, those with at most MOST_CHOICES values get a filter.
MOST_CHOICES = 12
MOST_FILTERS = 5

# The state of a setting whose seeds are in different states.
SEVERAL_STATES = "several states"


@dataclass(frozen=True)
class Cell:
    text: str
    order: float | str | None = None  # key for sorting the column; None is last
    sd: str = ""  # over seeds


def section(collection: Collection, site: Site) -> Section | None:
    board = collection.board
    shown = recorded_scores(collection)
    texts = columns.spelled_settings(board.settings, [row.settings for row in collection.setting_rows])
    cells = [
        {name: _setting_cell(row.settings.get(name), text) for name, text in of_row.items()}
        for row, of_row in zip(collection.setting_rows, texts, strict=True)
    ]
    rows = [
        line
        for row, of_row in zip(collection.setting_rows, cells, strict=True)
        for line in _lines(collection, row, of_row, shown)
    ]
    start, end = axis(row["test_f1"] for row in rows if row["place"])
    tags = list(dict.fromkeys(tag for row in collection.setting_rows for tag in tags_of(row)))
    context = {
        "probes": [_probe(probe, list(board.settings)) for probe in board.probes],
        "rows": [row | {"interval": drawn_interval(row["test_f1"], start, end)} for row in rows],
        "repeated": board.repeated,
        "metric": collection.metric,
        "best_first": _best_first(board.goal),
        "scores": [(score.column or score.heading, score.meaning, _best_first(score.goal)) for score in shown],
        "settings": {name: columns.readable(name) for name in board.settings},
        "filters": {
            name: values
            for name in board.settings[:MOST_FILTERS]
            if 1 < len(values := _choices([of_row[name] for of_row in cells])) <= MOST_CHOICES
        },
        "states": list(dict.fromkeys(printable(one.run.state) for row in collection.setting_rows for one in row.rows)),
        "tags": tags,
        "tag_example": next((tag for tag in tags if tag.isalnum()), ""),
        "axis": f"{start:g} to {end:g}",
        "equals": sum(row["standing"] == "equal" for row in rows),
        "compared": sum(row["standing"] in ("equal", "apart") for row in rows),
        "notes": board.notes[1:] if board.ranked else (),
    }
    return Section("leaderboard", "leaderboard.html.j2", context, scripts=("leaderboard_columns.js", "leaderboard.js"))


def recorded_scores(collection: Collection) -> list[metric_table.Metric]:
    """Scores beside macro F1 that a run has: runs of earlier versions lack those that were added since."""
    runs = [row.run for row in collection.rows]
    return [score for score in SCORES if any(run.metric(score.key) is not None for run in runs)]


def _lines(
    collection: Collection, row: SettingRow, cells: dict[str, Cell], shown: Sequence[metric_table.Metric]
) -> Iterator[dict[str, Any]]:
    """A setting, and below it its seeds; of a setting with one run, the line of that run."""
    setting, key = row.setting, collection.setting_key(row)
    several = len(row.rows) > 1
    of_setting = {
        "of": "",
        "key": key,
        "label": collection.setting_label(row),
        "standing": standing(row),
        "place": row.place,
        "seeds": seeds_of(row),
        "seeds_order": setting.score.n,
        "settings": cells,
        "p": Cell(row.comparison.p_text.strip("-"), row.comparison.p_holm) if row.comparison else Cell(""),
    }
    if several:
        states = Counter(printable(one.run.state) for one in row.rows)
        seeds = [columns.value(one.run.config.get(SEED)) for one in row.rows]
        yield of_setting | {
            "name": f"seeds {', '.join(sorted(seeds, key=lambda seed: (len(seed), seed)))}",
            "state": next(iter(states)) if len(states) == 1 else SEVERAL_STATES,
            "reason": ", ".join(f"{count} {state}" for state, count in states.items()) if len(states) > 1 else "",
            "tags": tags_of(row),
            "command": reproducing(setting.best),
            "epochs": Cell(""),
            **_scores(setting.score, setting.test_f1, setting.pooled, shown),
        }
    for one in row.rows:
        of_seed = {
            "of": key,  # the setting's row
            "key": collection.key(one.run),
            "label": collection.label(one.run),
            "standing": "seed",
            "place": one.place,
            "seeds": f"seed {columns.value(one.run.config.get(SEED))}",
            "seeds_order": 1,
            "settings": cells,
            "p": Cell(""),
        }
        yield (of_seed if several else of_setting) | _of_run(one, shown)


def _of_run(row: Row, shown: Sequence[metric_table.Metric]) -> dict[str, Any]:
    run = row.run
    return {
        "name": printable(run.name),
        "state": printable(run.state),
        "reason": row.no_place,
        "tags": [printable(tag) for tag in run.tags],
        "command": reproducing(run),
        "epochs": Cell(run.best_epoch or "–", run.metric("best/epoch")),
        **_scores(pooled([row.metric]), test_f1_of(run), lambda key: pooled([run.metric(key)]), shown),
    }


def _scores(
    metric: Pooled, f1: Pooled, score_of: Callable[[str], Pooled], shown: Sequence[metric_table.Metric]
) -> dict[str, Any]:
    """The numbers of a line: of a setting, or of one of its seeds."""
    seconds = score_of("seconds/train").mean
    return {
        "test_f1": f1,
        "metric": _pooled(metric),
        "f1": _pooled(f1),
        "span": [columns.number(side) for side in (f1.low, f1.high)],
        "scores": [_number(score_of(score.key).mean, score.digits) for score in shown],
        "seconds": Cell(columns.duration(seconds), seconds),
        "speed": _number(score_of("train/images_per_second").mean, 0),
    }


def _probe(probe: ProbeRow, settings: list[str]) -> dict[str, Any]:
    return {
        "settings": [columns.value(probe.settings[name]) if name in probe.settings else "" for name in settings],
        "metric": _number(probe.metric),
        "f1": _number(probe.test_f1),
        "started": f"the start of {probe.started} run{'s' * (probe.started != 1)}",
    }


def _best_first(goal: Goal) -> str:
    """How a column is sorted when its best value comes first."""
    return "ascending" if goal == "minimize" else "descending"


def _setting_cell(value: Any, text: str) -> Cell:
    return Cell(text, float(value) if is_number(value) else text)


def _choices(cells: list[Cell]) -> list[str]:
    """The different values of a setting, in order."""
    in_order = sorted(cells, key=lambda cell: (isinstance(cell.order, str), cell.order))
    return list(dict.fromkeys(cell.text for cell in in_order))


def _pooled(score: Pooled) -> Cell:
    cell = _number(score.mean)
    return Cell(cell.text, cell.order, columns.number(score.sd)) if score.n > 1 else cell


def _number(value: float | None, digits: int = 4) -> Cell:
    return Cell(columns.number(value, digits) if value is not None else "–", value)
