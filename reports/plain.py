"""JSON that any reader takes: no NaN, and fit to stand in a script."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

# What could end a script element, or a line of JavaScript before there was JSON in it.
UNSAFE = {ord(letter): f"\\u{ord(letter):04x}" for letter in "<>&\u2028\u2029"}


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
