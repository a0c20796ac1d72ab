"""Filters, positions and attention distances of a model in one figure."""

from __future__ import annotations

import numpy as np
import pytest

from harness.explain.drawing.vit_figure import head_distances, principal_filters, vit_figure
from tests.helpers.explained import made_up_archive


def test_the_first_filter_is_the_direction_in_which_projections_differ_most() -> None:
    ramp = np.linspace(-1, 1, 48).reshape(3, 4, 4)
    other = np.cos(np.arange(48)).reshape(3, 4, 4)
    strengths = np.random.default_rng(0).normal(size=(20, 2)) * (10, 0.1)
    first, *rest = principal_filters(np.tensordot(strengths, np.stack([ramp, other]), axes=1))
    assert len(rest) == 19  # 20 projections have 20 components
    scaled = (ramp.transpose(1, 2, 0) + 1) / 2
    assert np.allclose(first, scaled, atol=0.05) or np.allclose(first, 1 - scaled, atol=0.05)
    assert (first.min(), first.max()) == pytest.approx((0, 1))


def test_every_head_is_a_point_at_its_distance() -> None:
    archive = made_up_archive(layers=3, heads=2)
    projection = np.random.default_rng(1).normal(size=(40, 3, 4, 4))
    figure = vit_figure(projection, np.random.default_rng(2).normal(size=(49, 40)), archive)
    distances = next(axes for axes in figure.axes if axes.get_title().startswith("attention distance"))
    drawn = np.column_stack([line.get_ydata() for line in distances.lines])
    assert drawn.shape == (3, 2)
    np.testing.assert_array_equal(drawn, head_distances(archive))
    assert figure.axes[0].get_title() == "patch projection:\nfirst 28 components"
    assert figure.axes[0].images[0].get_array().shape == (4 * 5 - 1, 7 * 5 - 1, 3)


def test_a_model_without_positions_has_the_other_two() -> None:
    figure = vit_figure(np.random.default_rng(1).normal(size=(40, 3, 4, 4)), None, made_up_archive())
    assert figure.axes[1].texts[0].get_text() == "no position embedding"
