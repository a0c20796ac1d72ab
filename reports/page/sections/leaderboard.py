"""The table of all settings, and below each one that has several seeds its runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
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
from reports.runs import Run
from reports.stats.leaderboard import Row, SettingRow
from reports.stats.notes import seeds_of
from reports.stats.probe_rows import ProbeRow
from reports.stats.setting import SEED, Pooled, test_f1_of
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


@dataclass(frozen=True)
class Scores:
    """The numbers of a row: of a setting, or of one of its seeds."""

    metric: Pooled
    f1: Pooled
    others: Sequence[Pooled]  # of `recorded_scores`
    seconds: float | None
    speed: float | None


@dataclass(frozen=True)
class TableRow:
    key: str  # of the element
    label: str
    name: str
    state: str
    standing: str
    scores: Scores
    command: str
    place: int | None = None
    of: str = ""  # the key of the setting that a seed belongs to
    seeds: str = ""  # how many have finished; or which one this is
    settings: dict[str, Cell] = field(default_factory=dict)
    p: str = ""
    epochs: Cell = Cell("", None)
    reason: str = ""
    tags: Sequence[str] = ()


def section(collection: Collection, site: Site) -> Section | None:
    board = collection.board
    shown = recorded_scores(collection)
    settings = {name: _cells(collection.setting_rows, name) for name in board.settings}
    rows: list[TableRow] = []
    for number, row in enumerate(collection.setting_rows):
        cells = {name: cells[number] for name, cells in settings.items()}
        rows += [_setting_row(collection, row, cells, shown), *_seed_rows(collection, row, cells, shown)]
    start, end = axis(row.scores.f1 for row in rows if row.place)
    tags = list(dict.fromkeys(tag for row in collection.setting_rows for tag in tags_of(row)))
    context = {
        "probes": [_probe(probe, list(board.settings)) for probe in board.probes],
        "rows": [_as_context(row, start, end, shown) for row in rows],
        "repeated": board.repeated,
        "metric": collection.metric,
        "best_first": _best_first(board.goal),
        "scores": [(score.column or score.heading, score.meaning, _best_first(score.goal)) for score in shown],
        "settings": {name: printable(name).replace("_", " ") for name in board.settings},
        "filters": {
            name: values
            for name, cells in list(settings.items())[:MOST_FILTERS]
            if 1 < len(values := list(dict.fromkeys(cell.text for cell in _sorted(cells)))) <= MOST_CHOICES
        },
        "states": list(dict.fromkeys(printable(one.run.state) for row in collection.setting_rows for one in row.rows)),
        "tags": tags,
        "tag_example": next((tag for tag in tags if tag.isalnum()), ""),
        "axis": f"{start:g} to {end:g}",
        "equals": sum(row.standing == "equal" for row in rows),
        "compared": sum(row.standing in ("equal", "apart") for row in rows),
        "notes": board.notes[1:] if board.ranked else (),
    }
    return Section("leaderboard", "leaderboard.html.j2", context, scripts=("leaderboard_columns.js", "leaderboard.js"))


def recorded_scores(collection: Collection) -> list[metric_table.Metric]:
    """Scores beside macro F1 that a run has: runs of earlier versions lack those that were added since."""
    runs = [row.run for row in collection.rows]
    return [score for score in SCORES if any(run.metric(score.key) is not None for run in runs)]


def epochs_text(run: Run) -> str:
    """The best epoch and all epochs: "2/3"."""
    best, epochs = run.metric("best/epoch"), run.config.get("epochs")
    if best is None:
        return "–"
    return f"{best:.0f}/{epochs}" if isinstance(epochs, int) else f"{best:.0f}"


def _setting_row(
    collection: Collection, row: SettingRow, cells: dict[str, Cell], shown: Sequence[metric_table.Metric]
) -> TableRow:
    """Of a setting with one run it is the row of that run."""
    setting, first = row.setting, row.rows[0]
    scores = Scores(
        setting.score,
        setting.test_f1,
        [setting.pooled(score.key) for score in shown],
        setting.pooled("seconds/train").mean,
        setting.pooled("train/images_per_second").mean,
    )
    states = Counter(printable(one.run.state) for one in row.rows)
    several = len(row.rows) > 1
    seeds = sorted((columns.value(one.run.config.get(SEED)) for one in row.rows), key=lambda seed: (len(seed), seed))
    by_state = ", ".join(f"{count} {state}" for state, count in states.items())
    return TableRow(
        key=collection.setting_key(row),
        label=collection.setting_label(row),
        name=f"seeds {', '.join(seeds)}" if several else printable(first.run.name),
        state=next(iter(states)) if len(states) == 1 else SEVERAL_STATES,
        standing=standing(row),
        scores=scores if row.place or several else _of_run(first, shown),
        command=reproducing(setting.best),
        place=row.place,
        seeds=seeds_of(row),
        settings=cells,
        p=columns.p_value(row.comparison.p_holm) if row.comparison else "",
        epochs=Cell("", None) if several else _epochs(first.run),
        reason=(by_state if len(states) > 1 else "") if several else _reason(first),
        tags=tags_of(row),
    )


def _seed_rows(
    collection: Collection, row: SettingRow, cells: dict[str, Cell], shown: Sequence[metric_table.Metric]
) -> list[TableRow]:
    """None of a setting with one run."""
    if len(row.rows) == 1:
        return []
    return [
        TableRow(
            key=collection.key(seed.run),
            label=collection.label(seed.run),
            name=printable(seed.run.name),
            state=printable(seed.run.state),
            standing="seed",
            scores=_of_run(seed, shown),
            command=reproducing(seed.run),
            place=seed.place,
            of=collection.setting_key(row),
            seeds=f"seed {columns.value(seed.run.config.get(SEED))}",
            settings=cells,
            epochs=_epochs(seed.run),
            reason=_reason(seed),
            tags=[printable(tag) for tag in seed.run.tags],
        )
        for seed in row.rows
    ]


def _of_run(row: Row, shown: Sequence[metric_table.Metric]) -> Scores:
    metric, run = row.metric, row.run
    others = [Pooled(1, run.metric(score.key), None) for score in shown]
    seconds, speed = (run.metric(key) for key in ("seconds/train", "train/images_per_second"))
    return Scores(Pooled(1, metric, None), test_f1_of(run), others, seconds, speed)


def _as_context(row: TableRow, start: float, end: float, shown: Sequence[metric_table.Metric]) -> dict[str, Any]:
    scores = row.scores
    return {
        **vars(row),
        "metric": _pooled(scores.metric),
        "scores_n": scores.metric.n,
        "f1": _pooled(scores.f1),
        "span": [columns.number(side) for side in (scores.f1.low, scores.f1.high)],
        "interval": drawn_interval(scores.f1, start, end),
        "scores": [_number(value.mean, score.digits) for value, score in zip(scores.others, shown, strict=True)],
        "seconds": Cell(columns.duration(scores.seconds), scores.seconds),
        "speed": _number(scores.speed, 0),
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


def _reason(row: Row) -> str:
    return "" if row.place else f"{row.reason} ({row.run.progress})".lstrip()


def _cells(rows: Sequence[SettingRow], name: str) -> list[Cell]:
    values = [row.settings.get(name, "?") for row in rows]
    return [
        Cell(text, float(value) if is_number(value) else text)
        for value, text in zip(values, columns.spelled(values), strict=True)
    ]


def _sorted(cells: list[Cell]) -> list[Cell]:
    return sorted(cells, key=lambda cell: (isinstance(cell.order, str), cell.order))


def _pooled(score: Pooled) -> Cell:
    cell = _number(score.mean)
    return Cell(cell.text, cell.order, columns.number(score.sd)) if score.n > 1 else cell


def _number(value: float | None, digits: int = 4) -> Cell:
    return Cell(columns.number(value, digits) if value is not None else "–", value)


def _epochs(run: Run) -> Cell:
    return Cell(epochs_text(run), run.metric("best/epoch"))
