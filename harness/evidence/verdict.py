"""From an interval to a verdict."""

from __future__ import annotations

from harness.runs.evidence_file import FAILS, HOLDS, OPEN
from harness.runs.resampling import Interval

# Images that a verdict needs. Resampling one image gives an interval without width, and resampling a few one that is
# too narrow.
FEWEST = 10


def above(interval: Interval, n: int, bound: float = 0.0) -> str:
    """HOLDS if the whole interval, of n images, is above the bound, FAILS if it is below, else OPEN."""
    if n < FEWEST:
        return OPEN
    if interval.low > bound:
        return HOLDS
    return FAILS if interval.high < bound else OPEN


def below(interval: Interval, n: int) -> str:
    """HOLDS if the whole interval is below 0, FAILS if it is above, else OPEN."""
    return above(Interval(-interval.value, -interval.high, -interval.low), n)
