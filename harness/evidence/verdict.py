"""From an interval to a verdict."""

from __future__ import annotations

from harness.runs.evidence_file import FAILS, HOLDS, OPEN
from harness.runs.resampling import Interval


def above(interval: Interval, bound: float = 0.0) -> str:
    """HOLDS if the whole interval is above the bound, FAILS if it is below, else OPEN."""
    if interval.low > bound:
        return HOLDS
    return FAILS if interval.high < bound else OPEN
