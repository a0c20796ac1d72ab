"""95 % intervals of accuracy and macro F1 of one test set, which hold for few images and for scores near 0 and 1.

They measure the sampling of test images only: the model is fixed; other seeds or splits would differ more. Simulated in
tests/bench/bench_intervals.py. N images, C classes. Numpy only.
"""

from __future__ import annotations

import math

import numpy as np

from harness.runs.confusion_counts import Confusion, confusion_of
from harness.runs.resampling import Intervals, Z, class_f1, ratio

PRIOR_IMAGES = 2.0  # of the overall accuracy, added to each class: one image of a class says little about it
PRIOR_ERRORS = 0.5  # of the errors of all classes, added to the errors of each class
# Macro F1 varies a little more than mean recall: its denominators vary too. From the simulation.
WIDENED = 1.12
HALVINGS = 60
MATRIX_CLASSES = 2000  # at most; of more classes, only the pairs that occur are computed with


def score_intervals(labels: np.ndarray, predicted: np.ndarray, num_classes: int) -> Intervals:
    """Intervals of macro F1 and accuracy. Only without an error do they reach 1, and none has width 0."""
    confusion = confusion_of(labels, predicted, num_classes)
    n, hits = len(labels), confusion.hits
    accuracy = share_interval(int(hits.sum()) / n, n)
    score = float(class_f1(hits, confusion.predictions + confusion.support).mean())
    return Intervals(*_f1_interval(confusion, score, accuracy), *accuracy)


def share_interval(share: float, trials: float) -> tuple[float, float]:
    """Wilson's interval with continuity correction (Newcombe 1998, Statistics in Medicine 17:857, method 4).

    It holds at nearly every share and number of trials, where Wilson's own falls to 86 % (0.985 in 10 trials). The
    number of trials may be an effective one.
    """
    other, square, size = 1 - share, Z * Z, 2 * (trials + Z * Z)
    low = Z * Z - 2 - 1 / trials + 4 * share * (trials * other + 1)
    high = Z * Z + 2 - 1 / trials + 4 * share * (trials * other - 1)
    lower = (2 * trials * share + square - 1 - Z * math.sqrt(max(low, 0))) / size if share > 0 else 0.0
    upper = (2 * trials * share + square + 1 + Z * math.sqrt(max(high, 0))) / size if share < 1 else 1.0
    return max(lower, 0.0), min(upper, 1.0)


def _f1_interval(confusion: Confusion, score: float, accuracy: tuple[float, float]) -> tuple[float, float]:
    """The interval of mean recall, carried over to macro F1.

    Each class's row of the confusion matrix is smoothed. Its recalls are then moved together, on the logit scale,
    until their mean is at an end of the interval of mean recall, and macro F1 is computed there. Macro F1 of few
    images is biased downwards, so the ends are taken from the score or from the smoothed rows, whichever is farther.
    """
    images, hits = confusion.support, confusion.hits
    recalls, common = _smoothed(confusion)
    errors = confusion.errors()
    tested = images > 0
    variance = (recalls * (1 - recalls) / np.maximum(images, 1))[tested].sum() / tested.sum() ** 2
    spread = recalls[tested].mean() * (1 - recalls[tested].mean())
    mean_recall = float((hits[tested] / images[tested]).mean())
    ends = share_interval(mean_recall, spread / variance)
    weights = images / images.sum()
    low, middle, high = (
        _f1_at(_moved(recalls, tested, recall), errors, common, weights) for recall in (ends[0], mean_recall, ends[1])
    )
    lower = max(min(middle, score) - WIDENED * (middle - low), 0.0)
    upper = max(middle, score) + WIDENED * (high - middle)
    if hits.sum() < images.sum():  # after an error, no more than what accuracy may be
        upper = min(upper, max(accuracy[1], score))
    return min(lower, score), min(max(upper, score), 1.0)


def _smoothed(confusion: Confusion) -> tuple[np.ndarray, np.ndarray]:
    """Recall of each class (C,), and how many errors (C,) are added between each class and every other one."""
    images, hits = confusion.support, confusion.hits
    overall = (hits.sum() + 0.5) / (images.sum() + 1)
    recalls = (hits + PRIOR_IMAGES * overall) / (images + PRIOR_IMAGES)
    common = confusion.errors().predictions + 1 / confusion.num_classes
    return recalls, PRIOR_ERRORS * common / common.sum()


def _moved(recalls: np.ndarray, tested: np.ndarray, mean: float) -> np.ndarray:
    """Recalls (C,) moved by one number on the logit scale, so that the mean of the tested classes is `mean`."""
    if mean in (0.0, 1.0):
        return np.full(len(recalls), mean)
    logits, low, high = np.log(recalls / (1 - recalls)), -50.0, 50.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        moved = 1 / (1 + np.exp(-(logits + middle)))
        low, high = (middle, high) if moved[tested].mean() < mean else (low, middle)
    return moved


def _f1_at(recalls: np.ndarray, errors: Confusion, common: np.ndarray, weights: np.ndarray) -> float:
    """Macro F1 of recalls (C,) and errors as in `_smoothed`, with shares of the images (C,)."""
    hits = weights * recalls
    predicted = hits + _wrong_predictions(weights * (1 - recalls), errors, common)
    return float(class_f1(hits, weights + predicted).mean())


def _wrong_predictions(missed: np.ndarray, errors: Confusion, common: np.ndarray) -> np.ndarray:
    """The share of images (C,) that is wrongly predicted as each class.

    `missed` (C,) of each class goes to the others in proportion to its errors, with `common` (C,) added to them.
    """
    if len(missed) <= MATRIX_CLASSES:
        rows = errors.matrix() + common
        np.fill_diagonal(rows, 0)
        return missed @ ratio(rows, rows.sum(1, keepdims=True))
    each = ratio(missed, errors.support + common.sum() - common)
    counted = np.bincount(errors.predicted, weights=each[errors.truth] * errors.count, minlength=len(missed))
    return counted + common * (each.sum() - each)
