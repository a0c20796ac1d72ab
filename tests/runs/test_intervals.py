"""Intervals of accuracy and macro F1, against numbers worked out elsewhere and by simulation."""

from __future__ import annotations

import pytest

from harness.runs.intervals import share_interval
from harness.runs.rules import below_one, p_text
from tests.bench.bench_intervals import coverage


def test_the_interval_of_a_share_is_the_published_one() -> None:
    # Newcombe 1998, table I, method 4: 81 of 263, 15 of 148, 0 of 20, 1 of 29.
    for hits, trials, low, high in ((81, 263, 0.2535, 0.3682), (15, 148, 0.0598, 0.1644), (1, 29, 0.0018, 0.1963)):
        assert share_interval(hits / trials, trials) == pytest.approx((low, high), abs=1e-4)
    assert share_interval(0, 20) == pytest.approx((0, 0.2005), abs=1e-4)
    assert share_interval(1, 20) == pytest.approx((1 - 0.2005, 1), abs=1e-4)


@pytest.mark.parametrize(
    ("classes", "images", "accuracy", "even"),
    [(10, 10, 0.95, True), (10, 1, 0.8, False), (30, 1, 0.5, False), (20, 5, 0.99, True), (10, 20, 0.2, False)],
)
def test_intervals_hold_the_truth(classes: int, images: int, accuracy: float, even: bool) -> None:
    found = coverage(classes, images, accuracy, even, test_sets=100)
    # Of 100 intervals with a coverage of 95 %, fewer than 89 hold the truth with a probability below 0.5 %.
    assert found.f1 >= 0.89 and found.accuracy >= 0.89
    assert found.reached_one == found.without_width == 0


def test_an_upper_end_below_one_is_not_printed_as_one() -> None:
    assert f"{below_one(0.99996):.4f}" == "0.9999"
    assert below_one(1.0) == 1.0 and below_one(0.5) == 0.5


def test_the_smallest_p_of_a_permutation_test_is_a_bound() -> None:
    assert p_text(1 / 10_001, 10_000) == "p ≤ 0.0001"
    assert p_text(2 / 10_001, 10_000) == "p = 0.0002"
    assert p_text(0.0314, 10_000) == "p = 0.031"
