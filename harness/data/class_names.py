"""Names of class folders that look the same but differ in their characters, such as é as one or as two."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable


def lookalike(name: str, names: Iterable[str]) -> str | None:
    """One of `names` that differs from `name` only in what no reader sees, None if there is none."""
    seen = _as_seen(name)
    return next((other for other in names if other != name and _as_seen(other) == seen), None)


def lookalikes(names: Iterable[str]) -> list[tuple[str, str]]:
    """The pairs of `names` that differ only in what no reader sees; of three such names the first with each other."""
    first: dict[str, str] = {}
    pairs = []
    for name in sorted(set(names)):
        other = first.setdefault(_as_seen(name), name)
        if other != name:
            pairs.append((other, name))
    return pairs


def difference(first: str, second: str) -> tuple[str, str]:
    """The characters in which two names differ, as code points: ("U+00E9", "U+0065 U+0301")."""
    start = 0
    while start < min(len(first), len(second)) and first[start] == second[start]:
        start += 1
    end = 0
    while end < min(len(first), len(second)) - start and first[-1 - end] == second[-1 - end]:
        end += 1
    return _code_points(first[start : len(first) - end]), _code_points(second[start : len(second) - end])


def _as_seen(name: str) -> str:
    """The name with composed letters, plain spaces and no invisible characters."""
    visible = "".join(letter for letter in unicodedata.normalize("NFKC", name) if unicodedata.category(letter) != "Cf")
    return " ".join(visible.split())


def _code_points(text: str) -> str:
    return " ".join(f"U+{ord(letter):04X}" for letter in text) or "nothing"
