"""Sheets of maps: what was put in comes back through the palette, on both scales, at the place that is documented."""

from __future__ import annotations

import io

import matplotlib
import numpy as np
import pytest
from PIL import Image

from harness.explain.drawing import canvas
from harness.runs.attention_maps import Maps
from reports.page import map_sheets

COMBINED = ("relevance", "rollout", "mean")


def some_maps(n: int = 3, layers: int = 2, heads: int = 2, side: int = 7) -> Maps:
    values = np.random.default_rng(1).random((n, 3 + layers + heads, side * side), np.float32)
    return Maps(values / values.sum(-1, keepdims=True), COMBINED, layers, heads, side)


def opened(levels: np.ndarray, side: int) -> Image.Image:
    image = Image.open(io.BytesIO(map_sheets.sheet(levels, side)))
    assert (image.format, image.mode) == ("PNG", "P")
    return image


def cell(image: Image.Image, picture: int, number: int, side: int) -> np.ndarray:
    """Colours (side, side, 4) of a map."""
    left, top = number * (side + 1), picture * (side + 1)
    return np.asarray(image.convert("RGBA"))[top : top + side, left : left + side]


def values_of(colours: np.ndarray) -> np.ndarray:
    """Shares of the scale, by the nearest colour of the map that they were drawn with."""
    table = matplotlib.colormaps["inferno"](np.linspace(0, 1, 1001))[:, :3] * 255
    apart = np.abs(colours[..., None, :3].astype(float) - table).sum(-1)
    assert apart.min(-1).max() < 6  # they are of that map
    return apart.argmin(-1) / 1000


@pytest.mark.parametrize("scale", map_sheets.SCALES)
def test_values_come_back_through_the_palette(scale: str) -> None:
    maps = some_maps()
    maps.values[0, 0] *= 3  # beyond the shared scale
    maps.values[1, 1] = np.linspace(1, 1.1, 49) / 49  # nearly even
    image = opened(map_sheets.quantised(maps, scale), 7)
    assert image.size == (7 * 8, 3 * 8)
    for picture in range(3):
        for number in range(7):
            values = maps.values[picture, number].reshape(7, 7)
            low, high = canvas.above_mean(values) if scale == "above" else (0, values.max())
            high = min(1, 5 / 50) if scale == "shared" else high
            found = values_of(cell(image, picture, number, 7))
            np.testing.assert_allclose(found, ((values - low) / (high - low)).clip(0, 1), atol=0.5 / 127 + 0.005)


def test_between_maps_there_is_nothing() -> None:
    image = np.asarray(opened(map_sheets.quantised(some_maps()), 7).convert("RGBA"))
    assert (image[7::8, :, 3] == 0).all() and (image[:, 7::8, 3] == 0).all()
    assert (cell(Image.fromarray(image), 1, 2, 7)[..., 3] == 255).all()


def test_what_is_not_finite_is_grey_and_moves_no_scale() -> None:
    maps = some_maps()
    maps.values[1, 2, 10], maps.values[1, 2, 11], maps.values[2, 0] = np.nan, np.inf, 0
    for scale in map_sheets.SCALES:
        image = opened(map_sheets.quantised(maps, scale), 7)
        colours = cell(image, 1, 2, 7).reshape(49, 4)
        assert colours[[10, 11]].tolist() == [[128, 128, 128, 255]] * 2
        rest = np.delete(np.arange(49), [10, 11])
        kept = maps.values[1, 2, rest]
        low, high = canvas.above_mean(kept) if scale == "above" else (0, kept.max())
        high = map_sheets.shared_end(7) if scale == "shared" else high
        found = values_of(colours[rest])
        np.testing.assert_allclose(found, ((kept - low) / (high - low)).clip(0, 1), atol=0.01)
        assert not values_of(cell(image, 2, 0, 7)).any()


def test_one_scale_for_all_is_a_multiple_of_an_even_share() -> None:
    assert map_sheets.shared_end(14) == pytest.approx(5 / 197)
    assert map_sheets.shared_end(1) == 1  # never more than all


def test_real_sizes_stay_small() -> None:
    """500 images of a ViT-B/16: 27 maps of 14 x 14, all scales, in less than 8 MB."""
    random = np.random.default_rng(0)
    values = random.gamma(0.5, size=(50, 27, 196)).astype(np.float32)  # noise compresses worse than attention does
    maps = Maps(values / values.sum(-1, keepdims=True), COMBINED, 12, 12, 14)
    size = sum(len(map_sheets.sheet(map_sheets.quantised(maps, scale), 14)) for scale in map_sheets.SCALES)
    assert size * 10 < 8e6
