"""The numbers of a position embedding in text: a table, the rule behind the verdict.

`numbers` are those of a PositionArchive.
"""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Mapping
from typing import Any

COLUMNS = 68  # characters in a line
_WHEN = ("before", "after")
_NUMBERS = {"locality": "locality", "decoding": "place decoded, R²", "effective_rank": "effective rank"}


def rule_lines(numbers: Mapping[str, Any]) -> list[str]:
    """The rule that the verdict follows, a sentence to a line and wrapped."""
    sentences = re.split(r"(?<=\.)\s+", str(numbers["rule"]).strip())
    return [line for sentence in sentences for line in textwrap.wrap(sentence, COLUMNS, subsequent_indent="  ")]


def verdict_text(numbers: Mapping[str, Any]) -> str:
    """The verdict, and the two words behind it; those are missing in files of earlier versions."""
    structure, strength = (numbers.get(name) for name in ("verdict_structure", "verdict_strength"))
    if not (isinstance(structure, str) and isinstance(strength, str)):
        return str(numbers["verdict"])
    return f"{numbers['verdict']} (structure {structure}, strength {strength}; decided by {numbers.get('decided_by')})"


def number_lines(numbers: Mapping[str, Any]) -> list[str]:
    """The numbers as a table of text: before, after, and the range by chance of each."""
    lines = [f"{'':17}{'before':>8} {'by chance':>16}{'after':>8} {'by chance':>16}"]
    for name, label in _NUMBERS.items():
        cells = [f"{_three(numbers[when][name]['value']):>8} {_range(numbers[when][name]):>16}" for when in _WHEN]
        lines.append(f"{label:17}{''.join(cells)}")
    change = numbers["change"]
    lines.append(f"{'|ΔP| / |P|':17}{'':25}{_three(change['value']):>8} {_range(change):>16}")
    lines.append(f"{'strength':17}{'':25}{_three(numbers['strength']):>8}")
    return lines


def _range(measured: Mapping[str, float]) -> str:
    return f"{_three(measured['low'])} to {_three(measured['high'])}"


def _three(value: float | None) -> str:
    """Two decimals, or three digits of what is large, or two of what is small."""
    if value is None or not math.isfinite(value):
        return "unknown"
    return f"{value:.3g}" if abs(value) >= 10 else f"{value:.2f}" if abs(value) >= 0.1 else f"{value:.2g}"
