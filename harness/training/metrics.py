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
from harness.runs import resampling
from harness.runs.confidence_bins import BINS, bin_of
from harness.runs.confusion_counts import Confusion, confusion_of
from harness.runs.metric_table import METRICS
from harness.runs.predictions import PREDICTION_COLUMNS, TOP_CLASSES, TOP_COLUMNS


@dataclass(frozen=True, eq=False)
class Predictions:
    """The output of a model for N images, in the order of the split."""

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
    """Scores of the predictions of one split. Ratios without a denominator count 0."""

    n: int
    f1: float  # macro: mean over all C classes; a class without images and predictions counts 0
    accuracy: float
    balanced_accuracy: float  # mean recall over all C classes; a class without images counts 0
    top5: float  # label among the min(5, C) largest logits
    loss: float  # mean cross entropy, nats
    ece: float  # expected calibration error
    class_precision: np.ndarray  # (C,) float64
    class_recall: np.ndarray  # (C,) float64
    class_f1: np.ndarray  # (C,) float64
    support: np.ndarray  # (C,) int64, images of each class
    labels: np.ndarray  # (N,) int64
    predicted: np.ndarray  # (N,) int64

    @cached_property
    def confusion(self) -> Confusion:
        return confusion_of(self.labels, self.predicted, len(self.support))

    def by_key(self, prefix: str) -> dict[str, float]:
        """The scores that the table of metrics lists under a prefix such as `val/`, by their keys."""
        keys = [metric.key for metric in METRICS if metric.key.startswith(prefix)]
        return {key: getattr(self, key.removeprefix(prefix)) for key in keys}


def score(labels: np.ndarray, logits: np.ndarray) -> Scores:
    """Scores of logits (N, C) against labels (N,); equal to scikit-learn's with labels=range(C), zero_division=0."""
    predictions = Predictions(labels, logits)
    n, num_classes = logits.shape
    hits, support, predicted = (
        np.bincount(of, minlength=num_classes)
        for of in (labels[labels == predictions.predicted], labels, predictions.predicted)
    )
    class_f1, class_recall = resampling.class_f1(hits, support + predicted), resampling.ratio(hits, support)
    return Scores(
        n=n,
        f1=float(class_f1.mean()),
        accuracy=float(hits.sum() / n),
        balanced_accuracy=float(class_recall.mean()),
        top5=float((_rank_of_label(labels, logits) < min(5, num_classes)).mean()),
        loss=float(-predictions.log_probabilities[np.arange(n), labels].mean()),
        ece=calibration_error(predictions.probabilities.max(axis=1), predictions.predicted == labels),
        class_precision=resampling.ratio(hits, predicted),
        class_recall=class_recall,
        class_f1=class_f1,
        support=support,
        labels=labels,
        predicted=predictions.predicted,
    )


def calibration_error(confidence: np.ndarray, correct: np.ndarray) -> float:
    """Expected calibration error of top-1 predictions over equal-width bins (low, high] (Guo et al. 2017, eq. 3).

    In float64: the counterpart in torchmetrics computes in float32.
    """
    gap = np.bincount(bin_of(confidence), weights=correct - confidence, minlength=BINS)
    return float(np.abs(gap).sum() / len(confidence))


def _rank_of_label(labels: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """(N,) number of classes that rank above the label; of equal logits the lower class ranks above, as in argmax."""
    of_label = logits[np.arange(len(labels)), labels][:, None]
    earlier = np.arange(logits.shape[1]) < labels[:, None]
    return ((logits > of_label) | ((logits == of_label) & earlier)).sum(axis=1)


def predictions_rows(
    files: Sequence[str], classes: Sequence[str], predictions: Predictions
) -> Iterator[tuple[str, ...]]:
    """Rows of predictions.csv, PREDICTION_COLUMNS and TOP_COLUMNS; classes by name, probabilities to six digits.

    Of equal classes the first one comes first, as in the top-5 accuracy. Cells beyond the last class are empty.
    """
    ranked = np.argsort(-predictions.logits, axis=1, kind="stable")[:, :TOP_CLASSES]  # (N, min(5, C))
    unused = ("", "") * (TOP_CLASSES - ranked.shape[1])
    for file, label, guess, row, top in zip(
        files, predictions.labels, predictions.predicted, predictions.probabilities, ranked, strict=True
    ):
        most_probable = (cell for index in top for cell in (classes[index], f"{row[index]:.6g}"))
        yield file, classes[label], classes[guess], f"{row[guess]:.6g}", f"{row[label]:.6g}", *most_probable, *unused


def write_predictions(path: str | Path, files: Sequence[str], classes: Sequence[str], predictions: Predictions) -> None:
    """Write predictions.csv whole or not at all."""
    write_csv(Path(path), (*PREDICTION_COLUMNS, *TOP_COLUMNS), predictions_rows(files, classes, predictions))


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
