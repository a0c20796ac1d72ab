"""Images by the confidence of a model, its probability of the prediction, beside how often it is right.

As in the expected calibration error (Guo et al. 2017, arXiv 1706.04599). N images. Numpy only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.runs.intervals import share_interval

BINS = 15  # of equal width, from 0 to 1; the upper end belongs to a bin


@dataclass(frozen=True)
class Bin:
    """Images whose confidence is in one bin."""

    n: int
    confidence: float  # mean
    accuracy: float
    low: float  # of the 95 % interval of accuracy
    high: float


def bin_of(confidence: np.ndarray) -> np.ndarray:
    """The bin (N,) of each confidence (N,), from 0."""
    return np.clip(np.searchsorted(np.linspace(0, 1, BINS + 1), confidence, side="left") - 1, 0, BINS - 1)


def confidence_bins(confidence: np.ndarray, correct: np.ndarray) -> tuple[Bin, ...]:
    """The bins that are not empty, by confidence; both (N,)."""
    numbers, bins = bin_of(confidence), []
    for number in np.unique(numbers):
        inside = numbers == number
        n, share = int(inside.sum()), float(correct[inside].mean())
        bins.append(Bin(n, float(confidence[inside].mean()), share, *share_interval(share, n)))
    return tuple(bins)
