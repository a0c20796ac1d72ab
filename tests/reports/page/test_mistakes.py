"""What the section on mistakes shows of a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from harness.runs.intervals import share_interval
from harness.runs.predictions import read_predictions
from reports.page.sections import mistakes
from tests.helpers.explained import made_up_archive
from tests.helpers.explained_runs import write_explained_run


def test_reliability_leaves_out_probabilities_that_are_not_numbers(tmp_path: Path) -> None:
    predictions = read_predictions(write_explained_run(tmp_path / "a", made_up_archive(n=12)))
    predictions.probabilities[:] = np.where(np.arange(12) < 2, np.nan, 1.0)
    right = int((predictions.labels == predictions.predicted)[2:].sum())
    [(confidence, accuracy, low, high, count)] = mistakes._reliability(predictions)
    assert (confidence, accuracy, count) == (1.0, round(right / 10, 4), 10)
    assert (low, high) == tuple(round(end, 4) for end in share_interval(right / 10, 10))
