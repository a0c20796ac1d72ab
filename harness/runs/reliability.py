"""Whether a model's confidence can be believed: a reliability diagram, and the temperature that would mend it.

N images, C classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from harness.runs.confidence_bins import BINS, Bin, confidence_bins
from harness.runs.figures import new_figure, tidy
from harness.runs.rules import BLUE, HARDLY_TRAINED, ORANGE, UNDERCONFIDENT, confidence_word
from harness.training.metrics import Predictions

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLDEST, HOTTEST = 0.05, 20.0
MOST = 5000  # images for the temperature, evenly spaced: more would not change two digits
HALVINGS = 40


@dataclass(frozen=True)
class Reliability:
    """Confidence beside accuracy."""

    n: int
    error: float  # expected calibration error
    temperature: float  # that logits would have to be divided by to fit these images best
    bins: tuple[Bin, ...]  # those that are not empty, by confidence

    @property
    def word(self) -> str:
        return confidence_word(self.temperature)


def reliability(predictions: Predictions, error: float) -> Reliability:
    """Of predictions with labels and the expected calibration error `error`."""
    correct = predictions.predicted == predictions.labels
    bins = confidence_bins(predictions.probabilities.max(axis=1), correct)
    return Reliability(len(correct), error, temperature(predictions.labels, predictions.logits), bins)


def temperature(labels: np.ndarray, logits: np.ndarray) -> float:
    """What to divide logits (N, C) by for the lowest cross entropy, from COLDEST to HOTTEST."""
    chosen = np.linspace(0, len(labels) - 1, min(len(labels), MOST)).astype(np.int64)
    labels, logits = labels[chosen], logits[chosen].astype(np.float64)
    of_label = logits[np.arange(len(labels)), labels].mean()

    def rises(inverse: float) -> bool:
        """Whether the cross entropy, which is convex in the inverse temperature, rises at this one."""
        scaled = logits * inverse
        weights = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        expected = (weights * logits).sum(axis=1) / weights.sum(axis=1)
        return bool(expected.mean() > of_label)

    low, high = math.log(1 / HOTTEST), math.log(1 / COLDEST)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if rises(math.exp(middle)) else (middle, high)
    return math.exp(-(low + high) / 2)


def confidence_lines(measured: Reliability, val_loss: float, num_classes: int) -> dict[str, str]:
    """Lines of the closing table: confidence in a word, and a loss that is near that of guessing."""
    lines = {"confidence": f"{measured.word} (temperature {measured.temperature:.2f} fits the test images best)"}
    guessing = math.log(num_classes)
    if val_loss > HARDLY_TRAINED * guessing:
        text = f"validation loss {val_loss:.2f}, guessing has {guessing:.2f}"
        if measured.temperature < UNDERCONFIDENT:
            lines["hardly trained"] = f"{text}: train longer"
        else:  # confident errors make a loss as high, and longer training does not lower theirs
            lines["high loss"] = text
    return lines


def reliability_figure(measured: Reliability) -> Figure:
    """Accuracy by confidence with 95 % intervals, and how many images have it."""
    figure = new_figure(6, 6.4)
    accuracy, counts = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    places = [one.confidence for one in measured.bins]
    errors = [
        [one.accuracy - one.low for one in measured.bins],
        [one.high - one.accuracy for one in measured.bins],
    ]
    accuracy.plot([0, 1], [0, 1], color="0.4", linestyle="--", label="accuracy = confidence")
    values = [one.accuracy for one in measured.bins]
    accuracy.errorbar(places, values, yerr=errors, fmt="o", color=BLUE, capsize=4, label="test images, 95 % interval")
    accuracy.set(ylabel="accuracy (share of images)", xlim=(0, 1), ylim=(0, 1.02))
    accuracy.legend(loc="upper left", fontsize=9, frameon=False)
    counts.bar(places, [one.n for one in measured.bins], width=0.8 / BINS, color=ORANGE)
    counts.set(xlabel="confidence: probability of the prediction", ylabel="images")
    for axes in (accuracy, counts):
        tidy(axes)
    figure.suptitle(
        f"Reliability on {measured.n} test images: {measured.word}\n"
        f"calibration error {measured.error:.3f}, best temperature {measured.temperature:.2f}",
        fontsize=11,
    )
    return figure
