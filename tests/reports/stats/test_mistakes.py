"""What a run gets wrong, by hand and against scikit-learn; and as the page's scripts get it."""

from __future__ import annotations

import dataclasses
import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from harness.runs.confusion_counts import confusion_of
from harness.runs.predictions import PredictionTable as Predictions
from harness.runs.resampling import wilson
from reports.collection import Collection
from reports.page.sections import mistakes as section
from reports.page.site import Site
from reports.runs import read_runs
from reports.stats.leaderboard import leaderboard
from reports.stats.mistakes import ERRORS, PAIRS, PER_PAIR, mistakes, per_class, top_confusions
from tests.reports.page.test_gallery_data import data
from tests.reports.test_runs import write_run


def some(
    labels: list[int], predicted: list[int], probabilities: list[float] | None = None, classes: int = 3
) -> Predictions:
    n = len(labels)
    sure = np.array(probabilities if probabilities is not None else np.linspace(0.9, 0.5, n))
    return Predictions(
        tuple(f"{index}.jpg" for index in range(n)),
        tuple("abcdefghij"[:classes]),
        np.array(labels, np.int64),
        np.array(predicted, np.int64),
        sure,
        np.where(np.array(labels) == predicted, sure, (1 - sure) / 2),
    )


def test_counts_and_scores_are_scikit_learn_s() -> None:
    random = np.random.default_rng(0)
    labels, predicted = random.integers(0, 9, 300), random.integers(0, 9, 300)  # of ten classes
    confusion = confusion_of(labels, predicted, 10)
    counts = confusion.matrix()
    np.testing.assert_array_equal(counts, confusion_matrix(labels, predicted, labels=range(10)))
    precision, recall, f1, support = precision_recall_fscore_support(
        labels, predicted, labels=range(10), zero_division=0.0
    )
    rows = np.array(per_class(confusion))
    for column, expected in ((0, f1), (1, precision), (2, recall), (5, support), (6, np.diag(counts))):
        np.testing.assert_allclose(rows[:, column], expected, atol=5e-5)
    others = counts - np.diag(np.diag(counts))
    assert rows[:9, 7].tolist() == others[:9].argmax(1).tolist() and rows[9, 7] == -1


def test_interval_of_a_share() -> None:
    # Brown, Cai & DasGupta 2001 print 0.0 to 0.278 for 0 of 10; Newcombe 1998 prints 0.2553 to 0.3662 for 81 of 263.
    assert wilson(0, 10) == pytest.approx((0, 0.2775), abs=1e-4)
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert wilson(10, 10) == pytest.approx((1 - 0.2775, 1), abs=1e-4)
    assert wilson(0, 0) == (0, 1)


def test_most_frequent_confusions_come_first() -> None:
    labels = [0, 0, 0, 1, 1, 1, 1, 2, 2, 2]
    predicted = [1, 1, 0, 2, 2, 0, 1, 0, 2, 2]
    sure = [0.5, 0.7, 0.9, 0.4, 0.6, 0.95, 0.9, 0.8, 0.9, 0.9]
    predictions = some(labels, predicted, sure)
    pairs = top_confusions(confusion_of(predictions.labels, predictions.predicted, 3), predictions)
    # Twice each: the one of three images before the one of four. Then once each, of three before four.
    assert pairs == [(0, 1, 2, [1, 0]), (1, 2, 2, [4, 3]), (2, 0, 1, [7]), (1, 0, 1, [5])]


def test_many_classes_need_no_matrix_of_all_pairs() -> None:
    classes = tuple(f"class {number}" for number in range(3000))
    labels = np.arange(3000)
    predictions = dataclasses.replace(some(labels.tolist(), np.roll(labels, 1).tolist()), classes=classes)
    tracemalloc.start()
    found = mistakes(predictions)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(found["perClass"]) == len(found["cells"][0]) == 3000
    assert peak < 3000**2  # bytes; a matrix of counts has 8 for each pair


def test_as_the_page_gets_it() -> None:
    predictions = some([0, 0, 1, 1, 2, 2], [0, 1, 1, 0, 0, 2], [0.9, 0.8, 0.7, 0.95, np.nan, 0.5])
    found = mistakes(predictions)
    assert (found["n"], found["wrong"], found["classes"]) == (6, 3, ["a", "b", "c"])
    assert found["errors"] == [3, 1, 4]  # what is unknown comes last
    assert found["pictures"][3] == ["3.jpg", 1, 0, 0.95, 0.025]
    assert set(found["pictures"]) == {1, 3, 4}
    cells = {(row, column): count for row, column, count in zip(*found["cells"], strict=True)}
    assert cells == {(0, 0): 1, (0, 1): 1, (1, 0): 1, (1, 1): 1, (2, 0): 1, (2, 2): 1}


def test_of_many_mistakes_the_worst_are_there() -> None:
    random = np.random.default_rng(1)
    found = mistakes(some(random.integers(0, 10, 2000).tolist(), random.integers(0, 10, 2000).tolist(), classes=10))
    assert len(found["errors"]) == ERRORS and len(found["pairs"]) == PAIRS
    assert all(len(images) == PER_PAIR for *_, images in found["pairs"])
    counts = [pair[2] for pair in found["pairs"]]
    assert counts == sorted(counts, reverse=True)
    assert len(json.dumps(found)) < 30_000


def test_without_mistakes_there_are_none() -> None:
    found = mistakes(some([0, 1], [0, 1]))
    assert (found["wrong"], found["pairs"], found["errors"], found["pictures"]) == (0, [], [], {})


def test_the_section_names_runs_whose_predictions_are_missing(tmp_path: Path) -> None:
    write_run(tmp_path / "runs" / "a")
    write_run(tmp_path / "runs" / "b", config={"lr": 1e-3})
    (tmp_path / "runs" / "b" / "predictions.csv").unlink()
    write_run(tmp_path / "runs" / "c", config={"lr": 1e-2}, summary={"state": "running"})
    (tmp_path / "runs" / "c" / "predictions.csv").unlink()
    collection = Collection(tmp_path / "runs", leaderboard(read_runs(tmp_path / "runs")))
    with Site(tmp_path / "page") as site:
        made: Any = section.section(collection, site)
    (key,) = made.context["runs"]
    assert collection.label(collection.rows[0].run) == "lr 1e-05"
    assert key == collection.key(collection.rows[0].run)
    assert made.context["missing"] == {"predictions.csv is missing": ["lr 0.001"]}  # unfinished runs are not named
    found = data(tmp_path / "page", f"mistakes-{key}")
    assert (found["n"], found["wrong"], found["classes"]) == (4, 1, ["cat", "dog"])
    assert found["pairs"] == [[0, 1, 1, [1]]]
