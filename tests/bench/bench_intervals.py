"""Coverage of the 95 % intervals of accuracy and macro F1, on models whose true scores are known.

    python -m tests.bench.bench_intervals [--test-sets 200]

A model is a confusion matrix in shares: even (all classes have the same recall, errors go to all others alike) or
uneven (recalls from a beta distribution, errors to few classes). 10 to 100 classes, 1 to 50 test images of each.
"""

from __future__ import annotations

import argparse
import itertools
from dataclasses import dataclass

import numpy as np

from harness.runs.intervals import score_intervals
from harness.runs.resampling import class_f1
from tests.bench.table import at_least, show

CLASSES, IMAGES, ACCURACIES = (10, 30, 100), (1, 5, 20, 50), (0.2, 0.5, 0.8, 0.95, 0.99)
PER_MODEL = 10  # test sets of one model
LEAST = 0.93


@dataclass(frozen=True)
class Coverage:
    f1: float
    accuracy: float
    reached_one: int  # intervals that reach 1 after an error
    without_width: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--test-sets", type=int, default=200, help="simulated test sets of each case")
    test_sets = parser.parse_args().test_sets
    rows, lowest = [], 1.0
    for classes, images in itertools.product(CLASSES, IMAGES):
        cases = [
            coverage(classes, images, accuracy, even, test_sets) for accuracy in ACCURACIES for even in (True, False)
        ]
        lowest = min(lowest, *(case.f1 for case in cases), *(case.accuracy for case in cases))
        rows.append(
            [
                str(classes),
                str(images),
                f"{min(case.f1 for case in cases):.3f}",
                f"{np.mean([case.f1 for case in cases]):.3f}",
                f"{min(case.accuracy for case in cases):.3f}",
                str(sum(case.reached_one + case.without_width for case in cases)),
            ]
        )
    columns = ("classes", "images each", "F1: lowest", "F1: mean", "accuracy: lowest", "reach 1 or have no width")
    title = f"Share of 95 % intervals that hold the truth, {test_sets} test sets of each of {len(cases)} kinds of model"
    show(title, columns, rows, [at_least(lowest, LEAST)])


def coverage(classes: int, images: int, accuracy: float, even: bool, test_sets: int) -> Coverage:
    """How often the intervals hold the true scores."""
    random = np.random.default_rng([classes, images, round(1000 * accuracy), even])
    labels = np.repeat(np.arange(classes), images)
    in_f1 = in_accuracy = reached_one = without_width = 0
    for number in range(test_sets):
        if number % PER_MODEL == 0:
            model = confusion(classes, accuracy, even, random)
        predicted = np.concatenate([random.choice(classes, images, p=row) for row in model])
        found = score_intervals(labels, predicted, classes)
        in_f1 += found.f1_low <= true_f1(model) <= found.f1_high
        in_accuracy += found.accuracy_low <= np.trace(model) / classes <= found.accuracy_high
        reached_one += bool((labels != predicted).any()) and max(found.f1_high, found.accuracy_high) >= 1
        without_width += min(found.f1_high - found.f1_low, found.accuracy_high - found.accuracy_low) <= 0
    return Coverage(in_f1 / test_sets, in_accuracy / test_sets, reached_one, without_width)


def confusion(classes: int, accuracy: float, even: bool, random: np.random.Generator) -> np.ndarray:
    """(C, C): the distribution of predictions for each class."""
    recalls = np.full(classes, accuracy) if even else random.beta(3 * accuracy, 3 * (1 - accuracy), classes)
    errors = np.ones((classes, classes)) if even else random.gamma(0.3, size=(classes, classes)) + 1e-9
    np.fill_diagonal(errors, 0)
    return errors / errors.sum(1, keepdims=True) * (1 - recalls)[:, None] + np.diag(recalls)


def true_f1(model: np.ndarray) -> float:
    return float(class_f1(np.diag(model), 1 + model.sum(0)).mean())


if __name__ == "__main__":
    main()
