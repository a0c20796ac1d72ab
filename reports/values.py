"""Values from files as they can be used: numbers that are numbers, and JSON that is fit to stand in a script."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, TypeGuard

# What could end a script element, or a line of JavaScript before there was JSON in it.
UNSAFE = {ord(letter): f"\\u{ord(letter):04x}" for letter in "<>&\u2028\u2029"}


def is_number(value: object) -> TypeGuard[float]:
    """Whether one can compute with it: neither a truth value, nor infinite, nor too large for a float."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


def rounded(value: float, digits: int) -> float:
    """To so many digits that count: what a page shows is not longer than it reads."""
    return float(f"{value:.{digits}g}")


def finite(value: Any) -> Any:
    """Numbers that JSON does not have become null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    return [finite(item) for item in value] if isinstance(value, list | tuple) else value


def script(value: Any) -> str:
    """The value as a JavaScript expression, also inside <script>; lone surrogates of damaged names included."""
    return json.dumps(finite(value), allow_nan=False, separators=(",", ":")).translate(UNSAFE)
