"""Counts of the pairs of classes that occur: those of the matrix, without its memory."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

from harness.runs import intervals
from harness.runs.confusion_counts import confusion_of
from harness.runs.confusion_figure import _cells
from harness.runs.intervals import score_intervals


def predicted(images: int, classes: int, right: float) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    labels = random.integers(0, classes, images)
    return labels, np.where(random.random(images) < right, labels, random.integers(0, classes, images))


def test_counts_are_those_of_the_matrix() -> None:
    labels, named = predicted(300, 12, 0.4)
    labels, named = labels % 11, named % 10  # a class without images, two without predictions
    confusion, matrix = confusion_of(labels, named, 12), confusion_matrix(labels, named, labels=range(12))
    np.testing.assert_array_equal(confusion.matrix(), matrix)
    np.testing.assert_array_equal(confusion.support, matrix.sum(1))
    np.testing.assert_array_equal(confusion.predictions, matrix.sum(0))
    np.testing.assert_array_equal(confusion.hits, np.diag(matrix))
    np.testing.assert_array_equal(confusion.errors().matrix(), matrix - np.diag(np.diag(matrix)))
    assert confusion.count.min() > 0 and confusion.count.sum() == 300


@pytest.mark.parametrize(("images", "classes", "right"), [(40, 3, 0.9), (200, 60, 0.5), (60, 60, 1.0), (60, 40, 0.0)])
def test_intervals_from_pairs_are_those_from_the_matrix(
    monkeypatch: pytest.MonkeyPatch, images: int, classes: int, right: float
) -> None:
    labels, named = predicted(images, classes, right)
    matrix = score_intervals(labels, named, classes)
    monkeypatch.setattr(intervals, "MATRIX_CLASSES", 0)
    pairs = score_intervals(labels, named, classes)
    assert vars(pairs) == pytest.approx(vars(matrix), rel=1e-12)


def test_the_end_of_a_run_of_many_classes_takes_little_memory() -> None:
    """A matrix of 20,000 classes takes 3.2 GB, and the intervals took several."""
    classes = 20_000
    labels, named = predicted(6_000, classes, 0.8)
    tracemalloc.start()
    confusion = confusion_of(labels, named, classes)
    score_intervals(labels, named, classes)
    cells, support = _cells(confusion, together=15)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50e6
    assert support.sum() == 6_000
    assert np.diag(cells).sum() == confusion.hits.sum() == (labels == named).sum()
