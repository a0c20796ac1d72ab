from __future__ import annotations

import math
from typing import Any

import pytest

from reports.columns import readable
from reports.page.charts import Scale, escaped, shortened


@pytest.mark.parametrize(
    ("values", "kind", "places", "ticks"),
    [
        ([16, 64, 16], "linear", (16, 64, 16), {16: "16", 64: "64"}),
        ([1e-5, 1e-3, 1e-1], "log", (-5, -3, -1), {-5: "1e-05", -3: "0.001", -1: "0.1"}),
        ([0.0, 0.1], "linear", (0, 0.1), {0: "0", 0.1: "0.1"}),
        (["none", "standard", "none"], "categories", (0, 1, 0), {0: "none", 1: "standard"}),
        ([True, False], "categories", (1, 0), {0: "false", 1: "true"}),
        ([1, None, "x"], "categories", (0, 1, 2), {0: "1", 1: "default", 2: "x"}),
        ([1.0, math.nan, 10**400], "categories", (0, 2, 1), None),
    ],
)
def test_where_values_stand(
    values: list[Any], kind: str, places: tuple[float, ...], ticks: dict[float, str] | None
) -> None:
    scale = Scale.of(values)
    assert (scale.kind, scale.places) == (kind, pytest.approx(places))
    if ticks is not None:
        assert list(scale.ticks.values()) == list(ticks.values())
        assert list(scale.ticks) == pytest.approx(list(ticks))


def test_ticks_of_many_values_are_few_and_round() -> None:
    scale = Scale.of([10 ** (-6 + number / 50) for number in range(200)])
    assert dict(scale.ticks) == {-6: "1e-06", -5: "1e-05", -4: "0.0001", -3: "0.001", -2: "0.01"}
    assert dict(Scale.of(range(1, 26)).ticks) == {0: "1", 1: "10"}
    for low, high in ((0.61, 0.99), (0, 7), (3, 12), (-2, 2)):
        ticks = Scale.of([low + (high - low) * number / 99 for number in range(100)]).ticks
        assert 2 <= len(ticks) <= 8
        assert all(low <= place <= high and float(said) == pytest.approx(place) for place, said in ticks.items())
        assert max(map(len, ticks.values())) <= 5


def test_text_of_others_is_not_markup() -> None:
    assert escaped("<b>&amp;\n") == r"&lt;b&gt;&amp;amp;\n"
    assert readable("batch_size") == "batch size"
    assert shortened("a" * 18) == "a" * 18
    assert shortened("a" * 19) == "a" * 17 + "…"
