"""Figures of heads and position embeddings: the numbers in them, their scales, and what is written beside."""

from __future__ import annotations

import importlib
import io
import math
import sys

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from harness.explain import localization
from harness.explain.drawing import plots, position_plots
from harness.explain.positions import text
from harness.explain.positions.measures import change_map
from harness.runs.embeddings import centred, cosine
from harness.runs.rules import AGGREGATES
from tests.helpers.explained import made_up_archive, made_up_positions, place_embedding
from tests.helpers.forked import in_child


def pixels(figure: Figure) -> np.ndarray:
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return np.asarray(Image.open(file).convert("RGB"))


def shown(axes: Axes) -> np.ndarray:
    """What an image shows, NaN where it is masked."""
    array = axes.get_images()[0].get_array()
    assert array is not None
    return np.ma.filled(np.ma.asarray(array, dtype=float), np.nan)


def maps_of(figure: Figure) -> list[Axes]:
    return [axes for axes in figure.axes if axes.get_images()]


def destroyed(grid: int = 7) -> np.ndarray:
    return np.random.default_rng(3).normal(size=(grid**2, 32))


def test_heatmaps_show_every_statistic() -> None:
    archive = made_up_archive(layers=5, heads=4)
    archive.statistics[..., 0] *= 100
    figure = plots.head_heatmaps(archive)
    names = archive.statistic_names.tolist()
    for axes, name in zip(maps_of(figure), ("distance", "entropy", "patches_on_class", "class_on_class"), strict=True):
        values = archive.statistics[:, :, names.index(name)]
        np.testing.assert_array_equal(shown(axes), values)
        assert [tick.get_text() for tick in axes.get_yticklabels()] == ["1", "2", "3", "4", "5"]
        digits = 0 if name == "distance" else 2
        assert [text.get_text() for text in axes.texts] == [f"{value:.{digits}f}" for value in values.ravel()]
        assert axes.get_images()[0].get_clim() == (values.min(), values.max())
    titles = " ".join(axes.get_title() for axes in maps_of(figure))
    assert "(pixels)" in titles and "(nats)" in titles and titles.count("(share)") == 2
    assert figure.get_suptitle() == "Statistics of the attention heads, mean over 6 images"


@pytest.mark.parametrize(("layers", "heads"), [(1, 1), (12, 3), (32, 48)])
def test_any_number_of_heads_fits(layers: int, heads: int) -> None:
    figures = plots.head_plots(made_up_archive(layers=layers, heads=heads, n=1))
    assert list(figures) == ["heads", "distance"]
    image = pixels(figures["heads"])
    assert max(image.shape) < 3600 and (image[0] == 255).all() and (image[:, 0] == 255).all()
    assert bool(maps_of(figures["heads"])[0].texts) == (heads <= 12)


def test_numbers_in_cells_contrast_with_their_background() -> None:
    archive = made_up_archive(layers=2, heads=2)
    archive.statistics[..., 1] = [[0, 1], [0.4, math.nan]]
    axes = maps_of(plots.head_heatmaps(archive))[1]
    found = [(text.get_text(), text.get_color()) for text in axes.texts]
    assert found == [("0.00", "white"), ("1.00", "black"), ("0.40", "white"), ("?", "black")]


def test_the_distance_figure_has_a_dot_per_head_and_layer() -> None:
    archive = made_up_archive(layers=3, heads=2, patch_size=16)
    archive.statistics[:, :, 0] = [[10, 30], [50, 60], [20, 70]]
    axes = plots.distance_by_depth(archive).axes[0]
    dots = np.asarray(axes.collections[0].get_offsets())
    assert dots.tolist() == [[1, 10], [1, 30], [2, 50], [2, 60], [3, 20], [3, 70]]
    lines = {line.get_label(): np.asarray(line.get_ydata()).tolist() for line in axes.get_lines()}
    assert lines["mean over heads"] == [20, 55, 45]
    even = plots.even_distance(7) * 16
    assert lines[f"uniform attention: {even:.0f} px"] == [even, even]
    assert axes.get_ylim()[0] == 0 and axes.get_ylim()[1] > 70
    assert axes.get_title() == "Attention distance by layer, mean over 6 images of 112 px"


def test_the_distance_of_uniform_attention_is_that_worked_out_by_hand() -> None:
    assert plots.even_distance(1) == 0
    # Of a patch among 2 x 2: itself, two at 1, one at √2.
    assert plots.even_distance(2) == pytest.approx((2 + math.sqrt(2)) / 4)


def test_similarity_is_drawn_before_and_after_on_one_scale() -> None:
    after = destroyed()
    figure = position_plots.similarity_figure(made_up_positions(after))
    patches = [each.astype(np.float32).astype(float) for each in (place_embedding(), after)]
    expected = [*patches, *(centred(each) for each in patches)]
    panels = maps_of(figure)
    for axes, embedding in zip(panels, expected, strict=True):
        mosaic = shown(axes)
        assert mosaic.shape == (7 * 8 - 1, 7 * 8 - 1)
        assert axes.get_images()[0].get_clim() == (-1, 1)
        similar = cosine(embedding, embedding)
        for row, column in ((0, 0), (2, 5), (6, 6)):
            part = mosaic[8 * row : 8 * row + 7, 8 * column : 8 * column + 7]
            np.testing.assert_allclose(part, similar[7 * row + column].reshape(7, 7), atol=1e-12)
        assert np.isnan(mosaic[7::8]).all() and np.isnan(mosaic[:, 7::8]).all()
    assert [axes.get_title() for axes in panels[:2]] == ["before fine-tuning", "after fine-tuning"]


@pytest.mark.parametrize(("grid", "tiles"), [(2, 2), (7, 7), (14, 14), (24, 12)])
def test_tiles_have_whole_pixels(grid: int, tiles: int) -> None:
    """Every cell of a mosaic is as large as every other, and large grids show some of their tiles."""
    figure = position_plots.similarity_figure(made_up_positions(grid=grid))
    for axes in maps_of(figure):
        cells = len(shown(axes))
        assert cells == tiles * (grid + 1) - 1
        box = axes.get_window_extent()
        assert box.width == pytest.approx(round(box.width / cells) * cells) and box.width >= cells
        assert box.width == pytest.approx(box.height) and 400 < box.width < 900
        assert abs(box.x0 - round(box.x0)) < 1e-6 and abs(box.y0 - round(box.y0)) < 1e-6
    words = figure.texts[0].get_text()
    assert ("one patch has a tile" in " ".join(words.split())) == (tiles < grid)


def test_numbers_verdict_and_rule_stand_beside() -> None:
    positions = made_up_positions(destroyed())
    figure = position_plots.similarity_figure(positions)
    text, numbers = figure.texts[0].get_text(), positions.numbers
    assert figure.get_suptitle() == "Position embedding: lost"
    for when in ("before", "after"):
        for name in ("locality", "decoding", "effective_rank"):
            value = numbers[when][name]
            for part in (value["value"], value["low"], value["high"]):
                digits = ".3g" if abs(part) >= 10 else ".2f" if abs(part) >= 0.1 else ".2g"
                assert f"{part:{digits}}" in text
    assert f"{numbers['change']['value']:.2f}" in text and "0.90" in text
    for word in ("lost:", "retained:", "altered:", "none to keep:"):
        assert word in text
    image = pixels(figure)
    assert all((edge == 255).all() for edge in (image[0], image[-1], image[:, 0], image[:, -1]))
    assert figure.texts[0].get_window_extent().x1 < image.shape[1]


def test_rule_is_a_sentence_to_a_line() -> None:
    rule = "lost: below 0.5 of what it was. altered: " + "anything else " * 10 + "."
    lines = text.rule_lines({"rule": rule})
    assert lines[0] == "lost: below 0.5 of what it was."
    assert lines[1].startswith("altered: anything") and lines[2].startswith("  anything")
    assert max(map(len, lines)) <= text.COLUMNS
    assert " ".join(line.strip() for line in lines) == rule


def test_class_token_and_change_by_patch() -> None:
    after = place_embedding()
    after[10] += 3
    positions = made_up_positions(after)
    figure = position_plots.map_figure(positions)
    panels = {}
    for axes in maps_of(figure):
        place = axes.get_subplotspec()
        assert place is not None
        panels[place.rowspan.start, place.colspan.start] = axes
    assert len(panels) == 7
    token, patches = positions.class_token_after.astype(float), positions.after[1:].astype(float)
    np.testing.assert_allclose(shown(panels[1, 0]).ravel(), cosine(token[None], patches)[0])
    whole = token + positions.after[0]
    np.testing.assert_allclose(shown(panels[1, 2]).ravel(), cosine(whole[None], centred(patches))[0])
    for column in range(3):
        start, end = (panels[row, column].get_images()[0] for row in (0, 1))
        both = np.stack([shown(panels[row, column]) for row in (0, 1)])
        assert start.get_clim() == end.get_clim() == (both.min(), both.max())
    moved = shown(panels[0, 3])
    np.testing.assert_allclose(moved, change_map(positions.before[1:].astype(float), patches))
    assert moved.argmax() == 10 and panels[0, 3].get_images()[0].get_clim()[0] == 0


def test_object_figure_shows_every_share() -> None:
    random = np.random.default_rng(0)
    covered = random.random((20, 49))
    names = [*AGGREGATES, "layer 1", "layer 2"]
    found = localization.measure({name: random.random((20, 49)) * covered for name in names}, covered)
    figure = plots.object_figure(found)
    by_layer, summed = figure.axes
    np.testing.assert_array_equal(
        by_layer.lines[0].get_ydata(), [one.share.value for one in found.maps[len(AGGREGATES) :]]
    )
    ticks = [tick.get_text() for tick in summed.get_xticklabels()]
    for tick, one in zip(ticks, found.aggregates, strict=True):
        assert tick.startswith(f"{one.name}\n{one.share.value:.1%}")
        assert f"above chance\n{100 * one.above_chance.value:+.1f} (" in tick
    assert localization.in_percent(found.chance) in by_layer.get_legend_handles_labels()[1][0]
    figure.draw_without_rendering()
    boxes = [tick.get_window_extent() for tick in summed.get_xticklabels()]
    assert not any(one.overlaps(other) for index, one in enumerate(boxes) for other in boxes[:index])


def test_importing_the_plots_does_not_import_matplotlib() -> None:
    def imports_matplotlib() -> bool:
        for name in list(sys.modules):
            if name.partition(".")[0] in ("matplotlib", "harness"):
                del sys.modules[name]
        importlib.import_module("harness.explain.drawing.plots")
        return "matplotlib" in sys.modules

    assert not in_child(imports_matplotlib)  # in which other packages are imported already
