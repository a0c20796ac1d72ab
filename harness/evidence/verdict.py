"""From numbers of images to intervals, and from an interval to a verdict."""

from __future__ import annotations

import numpy as np

from harness.runs.evidence_file import FAILS, HOLDS, OPEN, Measured
from harness.runs.resampling import mean_intervals


def means(values: np.ndarray) -> list[Measured]:
    """Means over images of the columns of (n, K), each with its interval; the same redrawn images for all columns."""
    return [Measured(*numbers) for numbers in mean_intervals(values.astype(np.float64))]


def above(measured: Measured, bound: float = 0.0) -> str:
    """HOLDS if the whole interval is above the bound, FAILS if it is below, else OPEN."""
    if measured.low > bound:
        return HOLDS
    return FAILS if measured.high < bound else OPEN
