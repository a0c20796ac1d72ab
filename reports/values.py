"""Values from files: numbers that can be computed with, and JSON that is safe inside a script."""

from __future__ import annotations

import json
from typing import Any, TypeGuard

from harness.runs import rules
from harness.runs.rules import finite, printable

# Characters that could end a script element or, in old JavaScript, a line.
UNSAFE = {ord(letter): f"\\u{ord(letter):04x}" for letter in "<>&\u2028\u2029"}


def is_number(value: object) -> TypeGuard[float]:
    """Whether the value is a finite number that fits in a float; bool does not count."""
    return rules.is_number(value) and abs(value) < 1e300


def strings(value: Any) -> list[str]:
    """The items of a list as printable text; of anything else, none."""
    return [printable(item) for item in value] if isinstance(value, list) else []


def rounded(value: float, digits: int) -> float:
    """The value with that many significant digits."""
    return float(f"{value:.{digits}g}")


def script(value: Any) -> str:
    """The value as a JavaScript expression that is safe inside <script>, lone surrogates included."""
    return json.dumps(finite(value), allow_nan=False, separators=(",", ":")).translate(UNSAFE)
