"""Values as text, and tables for a terminal that never cut a number."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from harness.runs import rules
from harness.runs.rules import below_one, printable

# Characters: the narrowest column of wrapped text, and the gap between two columns.
NARROWEST_TEXT = 20
GAP = 2

# Digits of a number in text; more are tried where fewer do not tell enough.
DIGITS = (4, 6, 9, 17)


@dataclass(frozen=True, eq=False)
class Column:
    header: str
    cells: tuple[str, ...]
    is_text: bool = False  # may wrap anywhere; other cells never wrap

    @property
    def full(self) -> int:
        """Width without any wrapping."""
        return max(map(cell_len, (self.header, *self.cells)))

    @property
    def least(self) -> int:
        words = max(map(cell_len, (*self.header.split(), *self.cells)))
        return min(words, NARROWEST_TEXT) if self.is_text else words


def least_width(columns: Sequence[Column]) -> int:
    return sum(column.least for column in columns) + GAP * (len(columns) - 1)


def table(columns: Sequence[Column], width: int) -> Table:
    """The columns side by side, without lines. Spare width goes to text first, then to headers."""
    built = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
    widths = {column: column.least for column in columns}
    spare = max(0, width - least_width(columns))
    by_priority = sorted(columns, key=lambda column: (not column.is_text, column.full))
    for index, column in enumerate(by_priority):
        sharing = sum(other.is_text == column.is_text for other in by_priority[index:])
        more = min(column.full - column.least, spare // sharing)
        widths[column] += more
        spare -= more
    for column in columns:
        justify: Literal["left", "right"] = "left" if column.is_text else "right"
        built.add_column(Text(column.header), justify=justify, overflow="fold", width=widths[column])
    for cells in zip(*(column.cells for column in columns), strict=True):
        built.add_row(*map(Text, cells))
    return built


def readable(name: object) -> str:
    """The name of a setting in text."""
    return printable(name).replace("_", " ")


def spelled(values: Sequence[Any]) -> tuple[str, ...]:
    """Values of one setting as text, with the fewest digits that tell as many of them apart as any digits do."""
    spellings = [tuple(value(setting, digits) for setting in values) for digits in DIGITS]
    return max(spellings, key=lambda texts: len(set(texts)))


def spelled_settings(names: Iterable[str], rows: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """The settings of each row as text, by name; "?" for one that a row lacks."""
    texts = {name: spelled([row.get(name, "?") for row in rows]) for name in names}
    return [{name: of_rows[number] for name, of_rows in texts.items()} for number in range(len(rows))]


def in_words(texts: Mapping[str, str]) -> str:
    """Settings and their texts: "lr 0.0001, batch size 16"."""
    return ", ".join(f"{readable(name)} {text}" for name, text in texts.items())


def value(setting: Any, digits: int = 6) -> str:
    """One entry of config.json as text; None is a default that depends on other settings."""
    if isinstance(setting, float):
        return f"{setting:.{digits}g}"
    if setting is None:
        return "default"
    return printable(str(setting).lower() if isinstance(setting, bool) else setting)


def number(amount: float | None, digits: int = 4) -> str:
    """Below 1, it does not round to 1: a score with an error is not perfect."""
    if amount is None:
        return "-"
    amount = below_one(amount, digits) if digits else amount
    return f"{amount:.{digits}f}" if abs(amount) < 1e6 else f"{amount:.{digits}e}"


def span(low: float | None, high: float | None) -> str:
    return "-" if low is None or high is None else f"{number(low)} to {number(high)}"


def p_value(p: float | None) -> str:
    if p is None:
        return "-"
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def duration(seconds: float | None) -> str:
    """75.3 -> "1 min 15 s"; "-" if it is unknown."""
    if seconds is None or not 0 <= seconds < 1e9:
        return "-"
    return rules.duration(seconds)
