"""Markdown for W&B: escaped text, lists and tables."""

from __future__ import annotations

import re
from collections.abc import Sequence

from harness.runs.rules import printable
from reports.columns import Column

# Most rows of a table; the number of the others is given below it.
MOST_ROWS = 50


def escaped(text: object) -> str:
    """Text from a run with the special characters of Markdown, TeX and HTML escaped."""
    return re.sub(r"([\\`*_\[\]<>|~$&#])", r"\\\1", printable(text))


def bullets(lines: Sequence[str]) -> str:
    """Lines of Markdown as a bullet list."""
    return "\n".join(f"* {line}" for line in lines)


def code(line: str) -> str:
    """One line as a code block."""
    return f"    {printable(line)}"


def table(columns: Sequence[Column]) -> str:
    """Columns of plain text as a Markdown table of at most MOST_ROWS rows; columns of numbers are right-aligned."""
    rows = list(zip(*(column.cells for column in columns), strict=True))
    lines = [
        [escaped(column.header) for column in columns],
        ["---" if column.is_text else "---:" for column in columns],
        *([escaped(cell) for cell in row] for row in rows[:MOST_ROWS]),
    ]
    more = f"\n\n... and {len(rows) - MOST_ROWS} more." if len(rows) > MOST_ROWS else ""
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + more
