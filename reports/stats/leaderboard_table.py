"""The leaderboard as tables: text for a terminal, and columns for other formats."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterable, Iterator, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.runs.rules import printable
from reports import columns
from reports.columns import Column
from reports.runs import Run
from reports.stats.leaderboard import Leaderboard, Row, f1_interval, in_words

SIZE_WITHOUT_TERMINAL = (110, 24)


def render(board: Leaderboard, width: int | None = None, *, colour: bool = False) -> str:
    """Tables and notes as text, by default of the terminal's width; `colour` adds terminal codes.

    Numbers are never cut: if they do not fit, lines are longer than the width.
    """
    width = width or shutil.get_terminal_size(SIZE_WITHOUT_TERMINAL).columns
    parts: list[Table | Text] = []
    for rows, build in ((board.finished, _finished_columns), (board.others, _other_columns)):
        if rows:
            layouts = [build(board, *layout) for layout in _layouts(board, rows)]
            chosen = next((layout for layout in layouts if columns.least_width(layout) <= width), layouts[-1])
            width = max(width, columns.least_width(chosen))
            parts += [columns.table(chosen, width), Text()]
    parts += map(Text, board.notes)
    text = io.StringIO()
    console = Console(
        file=text,
        width=width,
        force_terminal=colour,
        color_system="standard" if colour else None,
        highlight=False,
    )
    for part in parts:
        console.print(part)
    return "".join(f"{line.rstrip()}\n" for line in text.getvalue().splitlines())


def wide_columns(board: Leaderboard) -> Iterator[list[Column]]:
    """Columns of the finished runs, then of the others, with one column per setting at any width."""
    for rows, build in ((board.finished, _finished_columns), (board.others, _other_columns)):
        if rows:
            yield build(board, *next(_layouts(board, rows)))


def settings_columns(names: Iterable[str], rows: Sequence[Row]) -> list[Column]:
    """One column per setting."""
    return [
        Column(printable(name).replace("_", " "), columns.spelled([row.settings.get(name, "?") for row in rows]))
        for name in names
    ]


def _layouts(board: Leaderboard, rows: Sequence[Row]) -> Iterator[tuple[list[Column], list[Column]]]:
    """Columns that identify a run, widest first: one per setting or one for all, with and without its folder."""
    apart = settings_columns(board.settings, rows)
    words = tuple(in_words(row.settings) for row in rows)
    together = [Column("settings", words, is_text=True)] if board.settings else []
    folder = [Column("run", tuple(printable(row.run.name) for row in rows), is_text=True)]
    settings_suffice = len(set(words)) == len(words) > 1
    for settings in (apart, together):
        yield settings, folder
        if settings_suffice:
            yield settings, []


def _finished_columns(board: Leaderboard, settings: list[Column], folder: list[Column]) -> list[Column]:
    rows = board.finished
    runs = [row.run for row in rows]
    ranked = [
        Column("", tuple(str(row.place) for row in rows)),
        *settings,
        Column(board.metric, tuple(columns.number(row.metric) for row in rows)),
        Column("test F1", tuple(columns.number(run.metric("test/f1")) for run in runs)),
        Column("95 % interval", tuple(map(f1_interval, runs))),
        Column("p (Holm)", tuple(columns.p_value(row.comparison.p_holm if row.comparison else None) for row in rows)),
        Column("epoch", tuple(map(_epoch, runs))),
        Column("trained", tuple(columns.duration(run.metric("seconds/train")) for run in runs)),
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
            **{printable(name).replace("_", " "): columns.value(value) for name, value in probe.settings.items()},
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


def _epoch(run: Run) -> str:
    best, epochs = run.metric("best/epoch"), run.config.get("epochs")
    return "-" if best is None else f"{best:.0f}/{epochs}" if isinstance(epochs, int) else f"{best:.0f}"
