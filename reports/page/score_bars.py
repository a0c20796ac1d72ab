"""Scores with their 95 % intervals as horizontal bars."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from reports.stats.setting import Pooled


@dataclass(frozen=True)
class Interval:
    """A score and its 95 % interval, as percentages of the width of the drawn bar."""

    left: float
    width: float
    at: float


def drawn_interval(score: Pooled, start: float, end: float) -> Interval | None:
    """On an axis from `start` to `end`; None without an interval."""
    at, low, high = score.mean, score.low, score.high
    if at is None or low is None or high is None:
        return None
    left, right, middle = (round(100 * min(max((value - start) / (end - start), 0), 1), 2) for value in (low, high, at))
    return Interval(left, round(right - left, 2), middle)


def axis(scores: Iterable[Pooled]) -> tuple[float, float]:
    """F1 at the ends of the bars: 0 and 1, or a part of that range if it contains all intervals."""
    known = [(score.low, score.high) for score in scores]
    # A damaged summary may hold any number.
    lows = [min(1.0, low) for low, _ in known if low is not None]
    highs = [min(1.0, high) for _, high in known if high is not None]
    if not lows or not highs:
        return 0.0, 1.0
    # At most 0.95, because a bar needs a width even if all runs are perfect.
    start = min(math.floor(min(lows) * 20) / 20, 0.95) if min(lows) > 0.5 else 0.0
    return start, min(1.0, max(start + 0.05, math.ceil(max(highs) * 20) / 20))
