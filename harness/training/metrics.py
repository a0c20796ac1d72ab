"""Scores from predictions: every image counted once, counts summed as integers, divided once in float64."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from harness.errors import InfeasibleError
from harness.files import replacing

CALIBRATION_BINS = 15
CSV_COLUMNS = ("file", "label", "prediction", "probability", "label_probability")


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a model said about N images, one row each, in the order of the split."""

    labels: np.ndarray  # (N,) int64
    logits: np.ndarray  # (N, C) float

    def __post_init__(self) -> None:
        labels, logits = self.labels, self.logits
        if labels.ndim != 1 or logits.ndim != 2 or len(labels) != len(logits) or logits.size == 0:
            raise ValueError(
                f"labels must be (N,) and logits (N, C), N and C at least 1: {labels.shape}, {logits.shape}"
            )
        if not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0 or labels.max() >= logits.shape[1]:
            raise ValueError(f"labels must be integers from 0 to {logits.shape[1] - 1}")
        broken = np.flatnonzero(~np.isfinite(logits).all(axis=1))
        if len(broken):
            raise InfeasibleError(
                f"The model's output is not finite for {len(broken)} of {len(labels)} images (the first is number"
                f" {broken[0]} of its split): the weights have diverged. Lower --lr, add --warmup-epochs or"
                " --clip-grad 1, or use --precision fp32."
            )

    @cached_property
    def log_probabilities(self) -> np.ndarray:
        """(N, C) float64 log-softmax."""
        shifted = self.logits.astype(np.float64)
        shifted -= shifted.max(axis=1, keepdims=True)
        return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))

    @cached_property
    def probabilities(self) -> np.ndarray:
        """(N, C) float64 softmax."""
        return np.exp(self.log_probabilities)

    @cached_property
    def predicted(self) -> np.ndarray:
        """(N,) int64 class of the largest logit; of equal ones, the first."""
        return self.logits.argmax(axis=1)


@dataclass(frozen=True, eq=False)
class Scores:
    """What the predictions of one split are worth. Ratios without a denominator count 0."""

    n: int
    f1: float  # macro: plain mean over all C classes; a class nobody showed or named counts 0
    accuracy: float
    top5: float  # label among the min(5, C) largest logits
    loss: float  # mean cross entropy, nats
    ece: float  # expected calibration error
    class_precision: np.ndarray  # (C,) float64
    class_recall: np.ndarray  # (C,) float64
    class_f1: np.ndarray  # (C,) float64
    support: np.ndarray  # (C,) int64, images of each class
    confusion: np.ndarray  # (C, C) int64, rows = truth, columns = prediction


@dataclass(frozen=True)
class Intervals:
    """Where the scores of further test sets drawn like this one would lie; low <= score <= high, all in [0, 1]."""

    f1_low: float
    f1_high: float
    accuracy_low: float
    accuracy_high: float


def score(labels: np.ndarray, logits: np.ndarray) -> Scores:
    """Scores of logits (N, C) against labels (N,); equal to scikit-learn's with labels=range(C), zero_division=0."""
    predictions = Predictions(labels, logits)
    n, num_classes = logits.shape
    confusion = confusion_counts(labels, predictions.predicted, num_classes)
    hits, support, named = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    class_f1 = _ratio(2 * hits, support + named)
    return Scores(
        n=n,
        f1=float(class_f1.mean()),
        accuracy=float(hits.sum() / n),
        top5=float((_rank_of_label(labels, logits) < min(5, num_classes)).mean()),
        loss=float(-predictions.log_probabilities[np.arange(n), labels].mean()),
        ece=calibration_error(predictions.probabilities.max(axis=1), predictions.predicted == labels),
        class_precision=_ratio(hits, named),
        class_recall=_ratio(hits, support),
        class_f1=class_f1,
        support=support,
        confusion=confusion,
    )


def confusion_counts(labels: np.ndarray, predicted: np.ndarray, num_classes: int) -> np.ndarray:
    """(C, C) int64 counts, rows = truth, columns = prediction."""
    import torch
    from torchmetrics.functional.classification import multiclass_confusion_matrix

    counts = multiclass_confusion_matrix(
        torch.from_numpy(predicted.astype(np.int64)),
        torch.from_numpy(labels.astype(np.int64)),
        num_classes=num_classes,
        validate_args=False,  # it refuses a single class, and the ranges are checked already
    )
    return counts.numpy()


def calibration_error(confidence: np.ndarray, correct: np.ndarray, bins: int = CALIBRATION_BINS) -> float:
    """Expected calibration error of top-1 predictions over equal-width bins (low, high] (Guo et al. 2017, eq. 3).

    In float64: the counterpart in torchmetrics computes in float32.
    """
    edges = np.linspace(0, 1, bins + 1)
    bin_of = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)
    gap = np.bincount(bin_of, weights=correct - confidence, minlength=bins)
    return float(np.abs(gap).sum() / len(confidence))


def bootstrap(
    labels: np.ndarray,
    predicted: np.ndarray,
    num_classes: int,
    *,
    resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Intervals:
    """Bootstrap intervals of macro F1 and accuracy over test images, the same for the same arguments.

    They measure the sampling of the test set only: the model is held fixed, other seeds or splits would differ more.

    Test sets have a set number of images per class, so images are redrawn within their class. Drawing all n of a
    small class understates its variance by (n - 1) / n; hence n - 1 are drawn and weigh n / (n - 1) each (the rescaling
    bootstrap of Rao & Wu 1988). Classes with one image share a stratum. Macro F1 of few images per class is biased
    downwards, and resampling biases it once more: that bias is estimated and taken off the percentiles (Efron &
    Tibshirani 1993, chapters 10 and 13). Simulated with 100 classes of 5 images, macro F1 0.2 to 0.99, this covers
    the truth in 90 to 99 % of the cases; the plain percentile interval over freely redrawn images in 65 to 89 %.

    Without a single error (or hit) resampling has nothing to vary: there the bound on that side is the exact binomial
    one (Clopper & Pearson 1934), for F1 as for accuracy.
    """
    confusion = confusion_counts(labels, predicted, num_classes)
    n, hits = len(labels), int(np.trace(confusion))
    point_f1 = float(_ratio(2 * np.diag(confusion), confusion.sum(axis=0) + confusion.sum(axis=1)).mean())
    point_accuracy = hits / n
    f1, accuracy = _resampled(confusion, resamples, seed)
    f1_low, f1_high = _centred(f1, point_f1, level)
    accuracy_low, accuracy_high = _centred(accuracy, point_accuracy, level)
    certain = ((1 - level) / 2) ** (1 / n)
    if hits == n:
        f1_low, accuracy_low = point_f1 * certain, certain  # F1 is below 1 here if a class has no test image
    if hits == 0:
        f1_high = accuracy_high = 1 - certain
    return Intervals(f1_low, f1_high, accuracy_low, accuracy_high)


def _resampled(confusion: np.ndarray, resamples: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Macro F1 and accuracy (R,) of resampled test sets: to redraw a class is to redraw its row of counts."""
    generator = np.random.Generator(np.random.Philox(seed))
    num_classes = len(confusion)
    truth, named = np.nonzero(confusion)
    counts = confusion[truth, named]
    stratum = np.where(confusion.sum(axis=1) == 1, num_classes, np.arange(num_classes))[truth]
    hits, shown_as, shown = (np.zeros((num_classes, resamples)) for _ in range(3))
    for one in np.unique(stratum):
        cells = np.flatnonzero(stratum == one)
        n = counts[cells].sum()
        drawn = max(n - 1, 1)
        weights = generator.multinomial(drawn, counts[cells] / n, size=resamples).T * (n / drawn)  # (cells, R)
        diagonal = truth[cells] == named[cells]
        hits[truth[cells][diagonal]] += weights[diagonal]
        np.add.at(shown_as, named[cells], weights)
        np.add.at(shown, truth[cells], weights)
    return _ratio(2 * hits, shown_as + shown).mean(axis=0), hits.sum(axis=0) / confusion.sum()


def _centred(values: np.ndarray, point: float, level: float) -> tuple[float, float]:
    """Percentiles of resampled values, less their bias: the mean of the values minus the point."""
    bias = float(values.mean()) - point
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2]) - bias
    return max(min(float(low), point), 0.0), min(max(float(high), point), 1.0)


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Element-wise float64 quotient; 0 where there is nothing to divide by."""
    return np.divide(numerator, denominator, out=np.zeros(np.shape(numerator)), where=denominator != 0)


def _rank_of_label(labels: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """(N,) how many classes come before the label; of equal logits the lower class does, as in argmax."""
    own = logits[np.arange(len(labels)), labels][:, None]
    earlier = np.arange(logits.shape[1]) < labels[:, None]
    return ((logits > own) | ((logits == own) & earlier)).sum(axis=1)


def predictions_rows(
    files: Sequence[str], classes: Sequence[str], predictions: Predictions
) -> Iterator[tuple[str, str, str, str, str]]:
    """Rows of predictions.csv, CSV_COLUMNS each; classes by name, probabilities to six digits."""
    for file, label, guess, row in zip(
        files, predictions.labels, predictions.predicted, predictions.probabilities, strict=True
    ):
        yield file, classes[label], classes[guess], f"{row[guess]:.6g}", f"{row[label]:.6g}"


def write_predictions(path: str | Path, files: Sequence[str], classes: Sequence[str], predictions: Predictions) -> None:
    """Write predictions.csv whole or not at all."""
    write_csv(Path(path), CSV_COLUMNS, predictions_rows(files, classes, predictions))


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a table whole or not at all."""
    # A file name that is not valid UTF-8 is written with escapes rather than refused.
    with (
        replacing(path) as beside,
        beside.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)
