"""Bins of the reliability diagram."""

from __future__ import annotations

import numpy as np
import pytest

from harness.runs.confidence_bins import BINS, bin_of, confidence_bins
from harness.runs.intervals import share_interval


def test_bins_hold_every_image_once() -> None:
    confidence = np.random.default_rng(0).uniform(0.2, 1, 400)
    correct = np.arange(400) % 3 > 0
    bins = confidence_bins(confidence, correct)
    assert sum(one.n for one in bins) == 400
    assert sum(one.accuracy * one.n for one in bins) == pytest.approx(correct.sum())
    assert sum(one.confidence * one.n for one in bins) == pytest.approx(confidence.sum())
    first = bins[0]
    inside = confidence <= (int(first.confidence * BINS) + 1) / BINS
    assert first.n == inside.sum() and first.accuracy == pytest.approx(correct[inside].mean())
    assert (first.low, first.high) == share_interval(first.accuracy, first.n)


def test_the_upper_end_belongs_to_a_bin() -> None:
    assert bin_of(np.array([0.0, 1 / BINS, 1 / BINS + 1e-9, 1.0])).tolist() == [0, 0, 1, BINS - 1]
