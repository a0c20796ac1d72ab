"""The leaderboard as tables: text for a terminal, and columns for other formats."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.runs.rules import printable
from reports import columns
from reports.columns import Column
from reports.runs import Run
from reports.stats.leaderboard import Leaderboard
from reports.stats.notes import seeds_of
from reports.stats.setting import SEED, Pooled, in_words, test_f1_of

SIZE_WITHOUT_TERMINAL = (110, 24)


def render(board: Leaderboard, width: int | None = None) -> str:
    """Tables and notes as text, by default of the terminal's width.

    Numbers are never cut: if they do not fit, lines are longer than the width.
    """
    width = width or shutil.get_terminal_size(SIZE_WITHOUT_TERMINAL).columns
    parts: list[Table | Text] = []
    for build in _tables(board):
        layouts = [build(board, *layout) for layout in _layouts(board, build)]
        chosen = next((layout for layout in layouts if columns.least_width(layout) <= width), layouts[-1])
        width = max(width, columns.least_width(chosen))
        parts += [columns.table(chosen, width), Text()]
    parts += map(Text, board.notes)
    text = io.StringIO()
    console = Console(file=text, width=width, force_terminal=False, color_system=None, highlight=False)
    for part in parts:
        console.print(part)
    return "".join(f"{line.rstrip()}\n" for line in text.getvalue().splitlines())


def wide_columns(board: Leaderboard) -> Iterator[list[Column]]:
    """Columns of the ranked settings, then of unfinished runs, with one column per hyperparameter at any width."""
    for build in _tables(board):
        yield build(board, *next(_layouts(board, build)))


def settings_columns(names: Iterable[str], settings: Sequence[Mapping[str, Any] | None]) -> list[Column]:
    """One column per hyperparameter; a row without settings has empty cells."""
    columns_of = []
    for name in names:
        spelled = iter(columns.spelled([each.get(name, "?") for each in settings if each is not None]))
        cells = tuple("" if each is None else next(spelled) for each in settings)
        columns_of.append(Column(columns.readable(name), cells))
    return columns_of


def _tables(board: Leaderboard) -> Iterator[Callable[..., list[Column]]]:
    if board.ranked:
        yield _ranked_columns
    if board.others:
        yield _other_columns


def _layouts(board: Leaderboard, build: Callable[..., list[Column]]) -> Iterator[tuple[list[Column], list[Column]]]:
    """Columns that identify a row, widest first: one per setting or one for all, with and without its folder."""
    if build is _ranked_columns:
        names, lines = board.settings, list(_lines(board))
        settings = [line.settings for line in lines]
        folders = tuple(line.folder for line in lines)
    else:
        names, settings = board.run_settings, [row.settings for row in board.others]
        folders = tuple(printable(row.run.name) for row in board.others)
    apart = settings_columns(names, settings)
    words = ["" if each is None else in_words(each) for each in settings]
    together = [Column("settings", tuple(words), is_text=True)] if names else []
    folder = [Column("run", folders, is_text=True)]
    distinct = [word for word, each in zip(words, settings, strict=True) if each is not None]
    settings_suffice = len(set(distinct)) == len(distinct) > 1
    for identifying in (apart, together):
        yield identifying, folder
        if settings_suffice:
            yield identifying, []


@dataclass(frozen=True)
class Line:
    """One line of the ranked settings: a setting, or below it one of its seeds."""

    place: str
    settings: Mapping[str, Any] | None  # None: the line of a seed
    seeds: str
    score: Pooled
    test_f1: Pooled
    p: str
    epoch: str
    trained: str
    folder: str


def _lines(board: Leaderboard) -> Iterator[Line]:
    for row in board.ranked:
        place, p = str(row.place), row.comparison.p_text if row.comparison else "-"
        setting = row.setting
        of_run = _of_run(setting.best) if len(row.rows) == 1 else ("", "", "")
        yield Line(place, row.settings, seeds_of(row), setting.score, setting.test_f1, p, *of_run)
        if len(row.rows) > 1:
            for seed in row.finished:
                name, score = f"seed {columns.value(seed.run.config.get(SEED))}", Pooled(1, seed.metric, None)
                yield Line("", None, name, score, test_f1_of(seed.run), "", *_of_run(seed.run))


def _of_run(run: Run) -> tuple[str, str, str]:
    """Epoch, duration and folder."""
    return run.best_epoch or "-", columns.duration(run.metric("seconds/train")), printable(run.name)


def _ranked_columns(board: Leaderboard, settings: list[Column], folder: list[Column]) -> list[Column]:
    lines = list(_lines(board))
    seeds = [Column("seeds", tuple(line.seeds for line in lines))] if board.repeated else []

    def deviation(header: str, scores: Sequence[Pooled]) -> list[Column]:
        cells = tuple("" if score.n < 2 else columns.number(score.sd) for score in scores)
        return [Column(header, cells)] if board.repeated else []

    ranked = [
        Column("", tuple(line.place for line in lines)),
        *settings,
        *seeds,
        Column(board.metric, tuple(columns.number(line.score.mean) for line in lines)),
        *deviation("sd", [line.score for line in lines]),
        Column("test F1", tuple(columns.number(line.test_f1.mean) for line in lines)),
        *deviation("test sd", [line.test_f1 for line in lines]),
        Column("95 % interval", tuple(columns.span(line.test_f1.low, line.test_f1.high) for line in lines)),
        Column("p (Holm)", tuple(line.p for line in lines)),
        Column("epoch", tuple(line.epoch for line in lines)),
        Column("trained", tuple(line.trained for line in lines)),
        *folder,
    ]
    return [_below_probes(board, column, number) for number, column in enumerate(ranked)]


def _below_probes(board: Leaderboard, column: Column, number: int) -> Column:
    """The column with a cell for each linear probe above those of the runs."""
    cells = []
    for probe in board.probes:
        by_header = {
            board.metric: columns.number(probe.metric),
            "test F1": columns.number(probe.test_f1),
            "run": f"start of {probe.started} run{'s' * (probe.started != 1)}",
            "settings": in_words(probe.settings),
            **{columns.readable(name): columns.value(value) for name, value in probe.settings.items()},
        }
        cells.append("probe" if number == 0 else by_header.get(column.header, ""))
    return Column(column.header, (*cells, *column.cells), column.is_text)


def _other_columns(board: Leaderboard, settings: list[Column], folder: list[Column]) -> list[Column]:
    rows = board.others
    return [
        *settings,
        Column("state", tuple(printable(row.run.state)[:20] for row in rows)),
        Column(board.metric, tuple(columns.number(row.metric) for row in rows)),
        *folder,
        Column("reason", tuple(row.reason for row in rows), is_text=True),
    ]
