"""Bins of the reliability diagram."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from harness.runs.predictions import read_predictions
from harness.runs.resampling import wilson
from reports.page.reliability import reliability
from tests.helpers.explained import made_up_archive
from tests.helpers.explained_runs import write_explained_run


def test_bins_hold_every_image_once(tmp_path: Path) -> None:
    folder = write_explained_run(tmp_path / "a", made_up_archive(n=40))
    predictions = read_predictions(folder)
    bins = reliability(predictions)
    right = predictions.labels == predictions.predicted
    assert sum(n for *_, n in bins) == 40
    assert sum(share * n for _, share, _, _, n in bins) == pytest.approx(right.sum(), rel=1e-3)
    assert sum(sure * n for sure, *_, n in bins) == pytest.approx(predictions.probabilities.sum(), rel=1e-3)
    sure, share, low, high, n = bins[0]
    in_first = (predictions.probabilities * 10).astype(int) == int(sure * 10)
    assert n == in_first.sum() and share == pytest.approx(right[in_first].mean(), rel=1e-3)
    assert (low, high) == pytest.approx(wilson(int(right[in_first].sum()), int(n)), abs=1e-4)


def test_a_probability_of_one_and_one_that_is_not_a_number(tmp_path: Path) -> None:
    predictions = read_predictions(write_explained_run(tmp_path / "a", made_up_archive(n=12)))
    predictions.probabilities[:] = np.where(np.arange(12) < 2, np.nan, 1.0)
    [(sure, *_, n)] = reliability(predictions)
    assert (sure, n) == (1.0, 10)
