"""How often a model takes one class for another: only the pairs of classes that occur, at most one for each image.

C classes, P pairs. With 20,000 classes, a (C, C) array of counts takes 3 GB. Numpy only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Confusion:
    """Counts of the pairs of true and predicted class that occur, in the order of the rows of a matrix (C, C)."""

    truth: np.ndarray  # int64 (P,)
    predicted: np.ndarray  # int64 (P,)
    count: np.ndarray  # int64 (P,), at least 1
    num_classes: int

    @property
    def support(self) -> np.ndarray:
        """Images of each class, int64 (C,)."""
        return self._total(self.truth)

    @property
    def predictions(self) -> np.ndarray:
        """Images predicted as each class, int64 (C,)."""
        return self._total(self.predicted)

    @property
    def hits(self) -> np.ndarray:
        """Images of each class that are predicted as it, int64 (C,)."""
        right = self.truth == self.predicted
        hits = np.zeros(self.num_classes, np.int64)
        hits[self.truth[right]] = self.count[right]
        return hits

    def errors(self) -> Confusion:
        """The pairs of two different classes."""
        wrong = self.truth != self.predicted
        return Confusion(self.truth[wrong], self.predicted[wrong], self.count[wrong], self.num_classes)

    def matrix(self) -> np.ndarray:
        """(C, C) int64, rows = truth, columns = prediction."""
        counts = np.zeros((self.num_classes, self.num_classes), np.int64)
        counts[self.truth, self.predicted] = self.count
        return counts

    def _total(self, classes: np.ndarray) -> np.ndarray:
        totals = np.zeros(self.num_classes, np.int64)
        np.add.at(totals, classes, self.count)
        return totals


def confusion_of(labels: np.ndarray, predicted: np.ndarray, num_classes: int) -> Confusion:
    """The pairs of N images, from their class indices (N,)."""
    pairs, count = np.unique(labels.astype(np.int64) * num_classes + predicted, return_counts=True)
    truth, guess = np.divmod(pairs, num_classes)
    return Confusion(truth, guess, count.astype(np.int64), num_classes)
