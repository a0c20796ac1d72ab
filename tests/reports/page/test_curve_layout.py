"""Axes of the training curves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reports.page.build import build
from reports.page.curve_layout import curve_layout, cut_at
from tests.helpers.pages import Page, charts, page_data
from tests.reports.page.test_build import describe, log
from tests.reports.stats.test_leaderboard import write


def test_a_loss_is_cut_only_where_a_diverged_run_would_flatten_the_others() -> None:
    assert cut_at([[2.0, 1.0]], [[2.0, 300.0]], 2.3) == pytest.approx(1.1 * 2.3)
    assert cut_at([[4.0, 1.0]], [[2.0, 300.0]], 2.3) == pytest.approx(4.4)
    assert cut_at([[2.0, 1.0]], [[2.4, 5.0]], 2.3) is None  # within twice that
    assert cut_at([[2.0, 300.0]], [], 2.3) is None  # all of a run that did not diverge is shown
    assert cut_at([], [[2.0, 300.0]], 2.3) is None


def test_the_axis_is_restored_after_a_logarithmic_one() -> None:
    layout = curve_layout(2.3, is_loss=True, end=4.4)
    assert layout["yaxis"]["range"] == layout["meta"]["range"] == [0, 4.4]
    assert layout["shapes"][0]["y1"] == 2.3
    assert "meta" not in curve_layout(None, is_loss=True, end=None)


def test_of_a_run_that_explodes(tmp_path: Path) -> None:
    for number, losses in enumerate(([2.3, 1.5, 1.0, 0.5], [2.3, 900.0, 400.0, 240.0], [2.3, 2.0, 1.9, 1.8])):
        write(tmp_path / f"r{number}", 0.9 - number / 10, lr=10.0**-number)
        log(tmp_path / f"r{number}", losses, [0.5, 0.6])
        describe(tmp_path / f"r{number}", data={"fingerprint": "f00d", "classes": 10})
    index = build(tmp_path)
    found = charts(index.parent)
    assert found["curves-loss"]["layout"]["yaxis"]["range"] == [0, pytest.approx(1.1 * 2.302585)]
    assert "range" not in found["curves-val-loss"]["layout"]["yaxis"]
    assert found["curves-val-f1"]["layout"]["shapes"][0]["y0"] == pytest.approx(0.1)  # of guessing among ten classes
    assert "The axes of the losses end where the runs that did not diverge are" in Page(index).text_of("curves")


def test_values_in_order_have_colours_in_order(tmp_path: Path) -> None:
    for number, (lr, augment) in enumerate(((0.1, "a"), (0.01, "b"), (0.001, "a"))):
        log(write(tmp_path / f"r{number}", 0.9 - number / 10, lr=lr, augment=augment).path, [2.0, 1.0])
    groups = page_data(build(tmp_path).parent)["curves-groups"]
    assert [(level["text"], level["colour"]) for level in groups["lr"]] == [
        ("0.001", "var(--step-1)"),
        ("0.01", "var(--step-4)"),
        ("0.1", "var(--step-7)"),
    ]
    assert [level["colour"] for level in groups["augment"]] == ["var(--run-1)", "var(--run-2)"]


def test_a_tick_is_at_its_category_and_not_at_a_position_of_that_name(tmp_path: Path) -> None:
    for number, (lr, augment) in enumerate(((0.5, "a"), (1.0, "b"), (2.0, "a"), (1.0, "a"))):
        write(tmp_path / f"r{number}", 0.9 - number / 10, lr=lr, augment=augment)
    heat = charts(build(tmp_path).parent)["effects-heat-0"]
    assert heat["layout"]["xaxis"]["tickvals"] == heat["data"][0]["x"] == ["0.5", "1", "2"]
    keys = [cell for line in heat["data"][0]["customdata"] for cell in line]
    assert keys.count("") == 2 and json.dumps(keys).count("r") >= 4
