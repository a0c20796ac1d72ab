"""One thing that a reader must know before trusting the numbers."""

from __future__ import annotations

from dataclasses import dataclass

# Most runs and files that a caveat lists by name.
NAMED = 6


@dataclass(frozen=True)
class Caveat:
    text: str
    details: tuple[str, ...] = ()
    is_grave: bool = True  # the numbers may mislead; False: good to know


def first(details: list[str]) -> tuple[str, ...]:
    """At most NAMED of the details, and how many more there are."""
    more = len(details) - NAMED
    return (*details[:NAMED], f"and {more} more") if more > 0 else tuple(details)


def count_runs(count: int) -> str:
    return f"{count} run{'s' * (count != 1)}"
