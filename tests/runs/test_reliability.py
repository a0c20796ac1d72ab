"""Reliability and temperature of predictions whose calibration is known."""

from __future__ import annotations

import numpy as np
import pytest

from harness.runs.reliability import confidence_lines, reliability, reliability_figure, temperature
from harness.training.metrics import Predictions, score


def drawn_from(logits: np.ndarray) -> np.ndarray:
    """Labels (N,) drawn from the probabilities of logits (N, C)."""
    random = np.random.default_rng(1)
    return (logits + random.gumbel(size=logits.shape)).argmax(1)


@pytest.mark.parametrize(("factor", "word"), [(1.0, "calibrated"), (0.5, "under-confident"), (3.0, "over-confident")])
def test_the_temperature_is_what_logits_were_multiplied_by(factor: float, word: str) -> None:
    logits = np.random.default_rng(0).normal(size=(4000, 5)) * 2
    labels = drawn_from(logits)
    assert temperature(labels, factor * logits) == pytest.approx(factor, rel=0.06)
    predictions = Predictions(labels, factor * logits)
    measured = reliability(predictions, score(labels, factor * logits).ece)
    assert measured.word == word


def test_bins_add_up_to_the_calibration_error() -> None:
    logits = np.random.default_rng(2).normal(size=(300, 4))
    labels = drawn_from(2 * logits)
    error = score(labels, logits).ece
    measured = reliability(Predictions(labels, logits), error)
    assert sum(one.n for one in measured.bins) == 300
    assert sum(one.n * abs(one.accuracy - one.confidence) for one in measured.bins) / 300 == pytest.approx(error)
    assert all(one.low <= one.accuracy <= one.high for one in measured.bins)
    accuracy, counts = reliability_figure(measured).axes
    assert [bar.get_height() for bar in counts.patches] == [one.n for one in measured.bins]
    assert accuracy.get_ylabel() == "accuracy (share of images)"


def test_a_high_loss_is_named_and_only_an_under_confident_model_is_to_train_longer() -> None:
    logits = np.random.default_rng(3).normal(size=(50, 10))
    labels = drawn_from(logits)
    under, over = (reliability(Predictions(labels, scale * logits), 0.1) for scale in (0.3, 3.0))
    text = "validation loss 1.50, guessing has 2.30"  # ln 10
    assert confidence_lines(under, 1.5, 10)["hardly trained"] == f"{text}: train longer"
    assert confidence_lines(over, 1.5, 10)["high loss"] == text
    assert list(confidence_lines(under, 1.3, 10)) == list(confidence_lines(over, 1.3, 10)) == ["confidence"]
