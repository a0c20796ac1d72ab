"""Scores from counts, and their uncertainty: bootstraps and exact intervals.

N images, C classes, R resamples. Numpy only; the same arguments give the same numbers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

LEVEL = 0.95
RESAMPLES = 2000  # of a bootstrap
Z = 1.959964  # of a 95 % interval

_MEANS_BLOCK = 100  # resamples of means at once, each of N counts
_MEANS_STREAM = 43  # of the counter-based generator


@dataclass(frozen=True)
class Intervals:
    """95 % intervals of the scores of one test set; low <= score <= high, all in [0, 1]."""

    f1_low: float
    f1_high: float
    accuracy_low: float
    accuracy_high: float


@dataclass(frozen=True)
class Interval:
    """A mean over images with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


def class_f1(hits: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """F1 from hits and the sum of images and predictions of each class; 0 where both are 0."""
    return ratio(2 * hits, counted)


def macro_f1(labels: np.ndarray, predicted: np.ndarray, num_classes: int) -> float:
    """Mean F1 over all classes; a class without images and predictions counts 0."""
    return float(class_f1(*hits_and_counted(labels, predicted, num_classes)).mean())


def hits_and_counted(labels: np.ndarray, predicted: np.ndarray, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Right predictions, and the sum of images and predictions, of each class: int64 (C,), as `class_f1` takes them."""
    hits = np.bincount(labels[labels == predicted], minlength=num_classes)
    return hits, np.bincount(labels, minlength=num_classes) + np.bincount(predicted, minlength=num_classes)


def mean_intervals(values: np.ndarray, seed: int = 0) -> list[Interval]:
    """Means of the columns of (N, K) without NaN, from the 2.5th to the 97.5th percentile of resampled means.

    Rows are drawn with replacement, the same ones for all columns. A column of NaN alone has NaN.
    """
    n = len(values)
    random = np.random.Generator(np.random.Philox(key=[seed, _MEANS_STREAM]))
    known = np.isfinite(values)
    filled, means = np.where(known, values, 0), []
    for start in range(0, RESAMPLES, _MEANS_BLOCK):
        size = min(_MEANS_BLOCK, RESAMPLES - start)
        drawn = random.multinomial(n, np.full(n, 1 / n), size=size).astype(np.float64)
        counts = drawn @ known
        means.append(np.divide(drawn @ filled, counts, out=np.full(counts.shape, np.nan), where=counts > 0))
    lows, highs, points = np.full((3, values.shape[1]), np.nan)
    measured = known.any(0)
    if measured.any():
        lows[measured], highs[measured] = np.nanpercentile(np.concatenate(means)[:, measured], (2.5, 97.5), axis=0)
        points[measured] = filled[:, measured].sum(0) / known[:, measured].sum(0)
    return [
        Interval(float(point), float(low), float(high)) for point, low, high in zip(points, lows, highs, strict=True)
    ]


def wilson(hits: int, trials: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927, JASA 22:209), which holds for few trials and for shares of 0 and 1."""
    if not trials:
        return 0.0, 1.0
    share, square = hits / trials, Z * Z / trials
    middle = (share + square / 2) / (1 + square)
    half = Z * math.sqrt(share * (1 - share) / trials + square / (4 * trials)) / (1 + square)
    return max(0.0, middle - half), min(1.0, middle + half)


def ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Element-wise float64 quotient; 0 where the denominator is 0."""
    return np.divide(numerator, denominator, out=np.zeros(np.shape(numerator)), where=denominator != 0)
