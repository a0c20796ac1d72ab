from __future__ import annotations

import math

import pytest

from reports.stats.student_t import quantile, two_sided_p


@pytest.mark.parametrize(
    ("df", "expected"),
    # Table of t for 95 %, two-sided (Fisher & Yates 1963, table III).
    [(1, 12.706), (2, 4.303), (3, 3.182), (10, 2.228), (30, 2.042), (120, 1.980), (math.inf, 1.960)],
)
def test_quantiles_are_those_of_the_table(df: float, expected: float) -> None:
    assert quantile(0.95, df) == pytest.approx(expected, abs=5e-4)
    assert two_sided_p(quantile(0.95, df), df) == pytest.approx(0.05, rel=1e-9)


def test_closed_forms_and_degrees_between_whole_ones() -> None:
    for t in (0.0, 0.01, 0.7, 3.0, 40.0):
        # One degree of freedom is the Cauchy distribution; two have a closed form, too.
        assert two_sided_p(t, 1) == pytest.approx(1 - 2 / math.pi * math.atan(t), rel=1e-10)
        assert two_sided_p(-t, 2) == pytest.approx(1 - t / math.sqrt(2 + t * t), rel=1e-9)
        assert two_sided_p(t, 1e5) == pytest.approx(two_sided_p(t, math.inf), rel=0.05, abs=1e-12)
    assert two_sided_p(2.0, 1) > two_sided_p(2.0, 1.5) > two_sided_p(2.0, 2)
    assert quantile(0.95, 1e60) == pytest.approx(1.959964, abs=1e-6)
