"""The leaderboard and the runs as files for papers and spreadsheets: CSV, LaTeX, Markdown."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from harness.runs.rules import printable
from reports import columns
from reports.collection import Collection
from reports.page.sections.leaderboard import recorded_scores
from reports.page.site import Site
from reports.stats.leaderboard import SettingRow
from reports.values import is_number

Cell = str | float | None

# A spreadsheet would run a cell that begins so as a formula.
FORMULA = ("=", "+", "-", "@", "\t", "\r")

LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
}


# Of the tables, and of their files.
NAMES = SETTINGS, RUNS = ("leaderboard", "runs")


@dataclass(frozen=True)
class Table:
    name: str  # of its files
    headings: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


def table_files(formats: Sequence[str]) -> list[str]:
    """Paths of the tables in the page's folder, in alphabetical order."""
    return sorted({f"tables/{name}.{FORMATS[each][0]}" for name in NAMES for each in formats})


def write_tables(collection: Collection, site: Site, formats: Sequence[str]) -> None:
    """Write tables/<name>.<suffix> for each table and each format, a key of FORMATS."""
    for table in (settings_table(collection), runs_table(collection)):
        for name in formats:
            suffix, text = FORMATS[name]
            site.file(f"tables/{table.name}.{suffix}", text(table).encode(errors="backslashreplace"))


def settings_table(collection: Collection) -> Table:
    """All settings, best first: means over seeds, standard deviations, and the test against the best."""
    names = collection.board.settings
    metric = collection.metric
    scores = ("seeds", metric, f"{metric} sd", "test F1", "test F1 sd", "test F1 low", "test F1 high", "p", "state")
    rows = [
        (row.place, *(_value(row.settings.get(name)) for name in names), *_setting_scores(row))
        for row in collection.setting_rows
    ]
    return Table(SETTINGS, ("place", *map(printable, names), *scores), tuple(rows))


def runs_table(collection: Collection) -> Table:
    """All runs, those of the best setting first."""
    names, scores = collection.board.run_settings, recorded_scores(collection)
    headings = ("run", *map(printable, names), "state", collection.metric, "test F1", "test F1 low", "test F1 high")
    keys = ("test/f1", "test/f1_low", "test/f1_high", *(score.key for score in scores), "best/epoch", "seconds/train")
    rows = [
        (
            printable(row.run.name),
            *(_value(row.run.config.get(name)) for name in names),
            printable(row.run.state),
            row.metric,
            *map(row.run.metric, keys),
        )
        for row in collection.rows
    ]
    return Table(RUNS, (*headings, *(score.heading for score in scores), "best epoch", "seconds"), tuple(rows))


def as_csv(table: Table) -> str:
    """Numbers as they are; RFC 4180 quotes."""
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(map(_harmless, table.headings))
    writer.writerows([_harmless(cell) if isinstance(cell, str) else cell for cell in row] for row in table.rows)
    return file.getvalue()


def as_markdown(table: Table) -> str:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|").replace("<", "&lt;") for cell in cells) + " |\n"

    rules = [" ---: " if _is_numeric(table, number) else " --- " for number in range(len(table.headings))]
    return line(table.headings) + f"|{'|'.join(rules)}|\n" + "".join(line(list(map(_text, row))) for row in table.rows)


def as_latex(table: Table) -> str:
    """A tabular with the rules of the booktabs package."""

    def line(cells: Sequence[str]) -> str:
        return " & ".join("".join(LATEX.get(letter, letter) for letter in cell) for cell in cells) + " \\\\\n"

    kinds = "".join("r" if _is_numeric(table, number) else "l" for number in range(len(table.headings)))
    body = "".join(line(list(map(_text, row))) for row in table.rows)
    head = f"\\begin{{tabular}}{{{kinds}}}\n\\toprule\n{line(table.headings)}\\midrule\n"
    return f"{head}{body}\\bottomrule\n\\end{{tabular}}\n"


FORMATS: Mapping[str, tuple[str, Callable[[Table], str]]] = {
    "csv": ("csv", as_csv),
    "latex": ("tex", as_latex),
    "markdown": ("md", as_markdown),
}


def _setting_scores(row: SettingRow) -> tuple[Cell, ...]:
    score, f1 = row.setting.score, row.setting.test_f1
    p = row.comparison.p_holm if row.comparison else None
    states = ", ".join(dict.fromkeys(printable(one.run.state) for one in row.rows))
    if row.place is None:
        return 0, *[None] * 7, states
    return score.n, score.mean, score.sd, f1.mean, f1.sd, f1.low, f1.high, p, states


def _value(setting: object) -> Cell:
    return setting if is_number(setting) else columns.value(setting)


def _is_numeric(table: Table, column: int) -> bool:
    return not any(isinstance(row[column], str) for row in table.rows)


def _text(cell: Cell) -> str:
    """Rounded for reading."""
    if cell is None:
        return "–"
    if not isinstance(cell, float):
        return printable(cell)
    # More digits of a value next to 1, such as --ema-decay 0.99999: it is not 1.
    return next(text for digits in columns.DIGITS if float(text := f"{cell:.{digits}g}") != 1 or cell == 1)


def _harmless(text: str) -> str:
    return f"'{text}" if text.startswith(FORMULA) else text
