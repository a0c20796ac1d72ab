"""How often a run is right when it is so sure: the bins of its reliability diagram."""

from __future__ import annotations

import numpy as np

from harness.runs.predictions import PredictionTable
from harness.runs.resampling import wilson
from reports.values import rounded

BINS = 10  # of equal width, from 0 to 1

Bin = tuple[float, float, float, float, int]


def reliability(predictions: PredictionTable) -> list[Bin]:
    """Of each bin with images: mean probability, share that is right and its 95 % interval (Wilson), images."""
    probability = np.asarray(predictions.probabilities, np.float64)
    known = np.isfinite(probability)
    number = np.clip((probability[known] * BINS).astype(int), 0, BINS - 1)
    sure, right = probability[known], (predictions.labels == predictions.predicted)[known]
    bins: list[Bin] = []
    for place in range(BINS):
        inside = number == place
        if n := int(inside.sum()):
            hits = int(right[inside].sum())
            low, high = wilson(hits, n)
            bins.append(
                (rounded(float(sure[inside].mean()), 4), rounded(hits / n, 4), round(low, 4), round(high, 4), n)
            )
    return bins
