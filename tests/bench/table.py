"""Aligned tables of medians, spreads and targets."""

from __future__ import annotations

import statistics
from collections.abc import Sequence


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Median (min..max)."""
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}..{max(values):.{digits}f})"


def ratios(values: Sequence[float], others: Sequence[float]) -> list[float]:
    """Round by round: each value over the one measured next to it."""
    return [value / other for value, other in zip(values, others, strict=True)]


def at_most(value: float, limit: float, unit: str = "") -> str:
    return f"<= {limit:g}{unit}: {'met' if value <= limit else 'NOT met'}"


def at_least(value: float, limit: float, unit: str = "") -> str:
    return f">= {limit:g}{unit}: {'met' if value >= limit else 'NOT met'}"


def show(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], notes: Sequence[str] = ()) -> None:
    """Print a table: the first column to the left, the others to the right."""
    widths = [max(len(row[index]) for row in (columns, *rows)) for index in range(len(columns))]
    print(title)
    for row in (columns, *rows):
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        print("  " + "   ".join(cells).rstrip())
    for note in notes:
        print(f"  {note}")
    print(flush=True)
