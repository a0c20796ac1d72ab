"""Markdown as W&B renders it: text that stays text, and tables."""

from __future__ import annotations

import re
from collections.abc import Sequence

from reports.columns import Column
from reports.runs import shown

# Rows of a table; of more, the rest is counted.
MOST_ROWS = 50


def escaped(text: object) -> str:
    """Text from a file or a path as it is, whatever Markdown, TeX or HTML would make of it."""
    return re.sub(r"([\\`*_\[\]<>|~$&#])", r"\\\1", shown(text))


def bullets(lines: Sequence[str]) -> str:
    """Lines of Markdown as a list."""
    return "\n".join(f"* {line}" for line in lines)


def code(line: str) -> str:
    """One line as it is, to be copied."""
    return f"    {shown(line)}"


def table(columns: Sequence[Column]) -> str:
    """Columns of plain text, at most MOST_ROWS of their rows; numbers stand to the right."""
    rows = list(zip(*(column.cells for column in columns), strict=True))
    lines = [
        [escaped(column.header) for column in columns],
        ["---" if column.is_text else "---:" for column in columns],
        *([escaped(cell) for cell in row] for row in rows[:MOST_ROWS]),
    ]
    more = f"\n\n... and {len(rows) - MOST_ROWS} more." if len(rows) > MOST_ROWS else ""
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + more
