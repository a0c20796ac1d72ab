"""Verdicts: what an interval says of a claim, by a rule that is written down before anything is measured."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.runs.resampling import mean_intervals

HOLDS, FAILS, OPEN = "holds", "does not hold", "cannot be told"


@dataclass(frozen=True)
class Measured:
    """A mean over images with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Claim:
    """A statement about a model, the number that decides it, and the verdict."""

    key: str
    statement: str
    number: str  # what `measured` is, with its unit
    measured: Measured
    n: int
    verdict: str  # HOLDS, FAILS or OPEN
    rule: str


def means(values: np.ndarray) -> list[Measured]:
    """Means over images of the columns of (n, K), each with its interval; the same redrawn images for all columns."""
    return [Measured(*numbers) for numbers in mean_intervals(values.astype(np.float64))]


def above(measured: Measured, bound: float = 0.0) -> str:
    """HOLDS if the whole interval is above the bound, FAILS if it is below, else OPEN."""
    if measured.low > bound:
        return HOLDS
    return FAILS if measured.high < bound else OPEN
