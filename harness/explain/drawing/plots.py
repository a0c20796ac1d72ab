"""Figures of a model: statistics of its heads, attention on the object, position embedding before and after.

Figures are made without pyplot, as all figures of a run: one that is dropped is freed.
"""

from __future__ import annotations

import math
import textwrap
from typing import TYPE_CHECKING

import numpy as np

from harness.explain.archive import Archive, PositionArchive
from harness.explain.localization import Interval, OnObject
from harness.explain.positions.measures import Positions, centred, change_map, class_maps, similarity_tiles
from harness.explain.positions.text import COLUMNS, number_lines, rule_lines
from harness.runs.rules import BLUE, ORANGE, without_mathtext

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

_COLOURS = "viridis"  # perceptually uniform, and told apart with any colour vision
_DPI = 120
_HEADS = {
    "distance": "mean attention distance (pixels)",
    "entropy": "entropy of a token's attention (nats)",
    "patches_on_class": "attention of patches on the class token (share)",
    "class_on_class": "attention of the class token on itself (share)",
}
_TILES = 16  # at most, each way
_MONO = "monospace"
_PARTNER = {
    "class_token": "patches",
    "P_0": "patches",
    "class_token + P_0": "centred patches",
}


def head_plots(archive: Archive) -> dict[str, Figure]:
    """heads: layer x head heatmaps; distance: attention distance of each head by layer. Means over the images."""
    return {"heads": head_heatmaps(archive), "distance": distance_by_depth(archive)}


def head_heatmaps(archive: Archive) -> Figure:
    """Each statistic on its own scale, printed in the cells where there is room."""
    from matplotlib.figure import Figure

    layers, heads, _ = archive.statistics.shape
    cell = min(0.42, 12 / heads)
    width, height = max(cell * heads, 2.6) + 1.9, max(cell * layers, 1.6) + 1.1
    figure = Figure(figsize=(2 * width, 2 * height + 0.5), dpi=_DPI, layout="constrained")
    figure.suptitle(f"Statistics of the attention heads, mean over {len(archive)} images", fontsize=12)
    names = archive.statistic_names.tolist()
    for axes, (name, title) in zip(figure.subplots(2, 2).flat, _HEADS.items(), strict=True):
        values = archive.statistics[:, :, names.index(name)]
        image = axes.imshow(values, cmap=_COLOURS, aspect="auto" if layers > 3 * heads else "equal")
        axes.set_title(title, fontsize=10)
        axes.set(xlabel="head", ylabel="layer")
        for axis, count in ((axes.xaxis, heads), (axes.yaxis, layers)):
            step = math.ceil(count / 16)
            axis.set_ticks(range(0, count, step), [str(index + 1) for index in range(0, count, step)], fontsize=8)
        bar = figure.colorbar(image, ax=axes, fraction=0.05, pad=0.03)
        bar.ax.tick_params(labelsize=8)
        if cell >= 0.35:
            _write_cells(axes, values)
    return figure


def _write_cells(axes: Axes, values: np.ndarray) -> None:
    finite = values[np.isfinite(values)]
    middle = (finite.min() + finite.max()) / 2 if len(finite) else 0.0
    digits = 0 if len(finite) and finite.max() >= 20 else 1 if len(finite) and finite.max() >= 2 else 2
    for (layer, head), value in np.ndenumerate(values):
        text = f"{value:.{digits}f}" if math.isfinite(value) else "?"
        colour = "black" if value > middle or not math.isfinite(value) else "white"
        axes.text(head, layer, text, ha="center", va="center", fontsize=7, color=colour)


def distance_by_depth(archive: Archive) -> Figure:
    """A dot per head (Dosovitskiy et al. 2021, arXiv 2010.11929, figure 7 right), and that of uniform attention."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    distances = archive.statistics[:, :, archive.statistic_names.tolist().index("distance")]
    layers, heads = distances.shape
    depth = np.arange(1, layers + 1)
    figure = Figure(figsize=(8, 5), dpi=_DPI, layout="constrained")
    axes = figure.subplots()
    axes.scatter(np.repeat(depth, heads), distances.ravel(), s=22, color=BLUE, alpha=0.7, label="one head")
    axes.plot(depth, distances.mean(1), color=ORANGE, label="mean over heads")
    side = math.isqrt(archive.rollout.shape[1])
    even = even_distance(side) * archive.settings["patch_size"]
    axes.axhline(even, color="0.4", linestyle="--", label=f"uniform attention: {even:.0f} px")
    title = f"Attention distance by layer, mean over {len(archive)} images of {archive.settings['image_size']} px"
    axes.set(title=title, xlabel="layer", ylabel="mean attention distance (pixels)")
    farthest = float(np.max(distances, where=np.isfinite(distances), initial=even))
    axes.set_ylim(0, 1.05 * farthest or 1)
    axes.set_xlim(0.5, layers + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(axis="y", color="0.9")
    axes.set_axisbelow(True)
    axes.legend(frameon=False, fontsize=9)
    return figure


def even_distance(side: int) -> float:
    """Mean distance, in patches, between the patches of a grid, each to itself included: (g, g)."""
    apart = np.subtract.outer(np.arange(side), np.arange(side)).ravel()
    return float(np.hypot.outer(apart, apart).mean())


def position_plots(positions: PositionArchive) -> dict[str, Figure]:
    """positions: similarity before and after, numbers, verdict; position_maps: class token and change by patch."""
    return {"positions": similarity_figure(positions), "position_maps": map_figure(positions)}


def similarity_figure(positions: PositionArchive) -> Figure:
    """g x g tiles of g x g cosines, raw and centred, before and after, all from -1 to 1; numbers and rule beside."""
    from matplotlib.figure import Figure

    both = [found.patches for found in _before_and_after(positions)]
    rows = {
        "raw": [_mosaic(patches) for patches in both],
        "centred: minus the mean over patches": [_mosaic(centred(patches)) for patches in both],
    }
    panel = _whole_pixels(len(rows["raw"][0]), 600)
    gap, left, beside, top, bottom = 30, 60, 640, 90, 30  # pixels
    width, height = left + 2 * panel + gap + beside, top + 2 * panel + gap + bottom
    figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI)
    for row, (name, mosaics) in enumerate(rows.items()):
        for column, (when, mosaic) in enumerate(zip(("before", "after"), mosaics, strict=True)):
            x, y = left + column * (panel + gap), bottom + (1 - row) * (panel + gap)
            axes = figure.add_axes((x / width, y / height, panel / width, panel / height))
            image = _draw_tiles(axes, mosaic)
            if column == 0:
                axes.set_ylabel(name, fontsize=11)
            if row == 0:
                axes.set_title(f"{when} fine-tuning", fontsize=12)
    x = left + 2 * panel + gap + 40
    bar = figure.add_axes((x / width, 1 - (top + 14) / height, 320 / width, 14 / height))
    figure.colorbar(image, cax=bar, orientation="horizontal").ax.tick_params(labelsize=8)
    bar.set_title("cosine similarity, one scale for all", fontsize=10)
    numbers, side = positions.numbers, math.isqrt(len(both[0]))
    notes = "\n".join([*_about_tiles(side), "", *number_lines(numbers), "", *rule_lines(numbers)])
    place = (x / width, 1 - (top + 60) / height)
    figure.text(*place, _plain(notes), va="top", fontsize=8.5, linespacing=1.5, family=_MONO)
    figure.suptitle(_plain(f"Position embedding: {positions.numbers['verdict']}"), fontsize=14, y=1 - 16 / height)
    return figure


def map_figure(positions: PositionArchive) -> Figure:
    """The class token's similarity with each patch, before above after on one scale, and the change of each patch."""
    from matplotlib.figure import Figure

    before, after = _before_and_after(positions)
    figure = Figure(figsize=(14, 7), dpi=_DPI, layout="constrained")
    grid = figure.subplots(2, 4)
    pairs = zip(class_maps(before).items(), class_maps(after).values(), strict=True)
    for column, ((name, start), end) in enumerate(pairs):
        low, high = float(min(start.min(), end.min())), float(max(start.max(), end.max()))
        for axes, values in zip(grid[:, column], (start, end), strict=True):
            image = axes.imshow(values, cmap=_COLOURS, vmin=low, vmax=high, interpolation="nearest")
        grid[0, column].set_title(f"cosine of {name}\nwith {_PARTNER[name]}", fontsize=10)
        figure.colorbar(image, ax=grid[:, column], orientation="horizontal", fraction=0.04, pad=0.02)
    grid[0, 0].set_ylabel("before fine-tuning", fontsize=11)
    grid[1, 0].set_ylabel("after fine-tuning", fontsize=11)
    moved = change_map(before.patches, after.patches)
    image = grid[0, 3].imshow(moved, cmap=_COLOURS, vmin=0, interpolation="nearest")
    grid[0, 3].set_title("change of each patch: |ΔP|\ndivided by the typical length before", fontsize=10)
    figure.colorbar(image, ax=grid[:, 3], orientation="horizontal", fraction=0.04, pad=0.02)
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[])
    grid[1, 3].axis("off")
    notes = "\n".join(number_lines(positions.numbers))
    grid[1, 3].text(0, 1, _plain(notes), va="top", fontsize=7, linespacing=1.6, family=_MONO)
    figure.suptitle(_plain(f"Position embedding: {positions.numbers['verdict']}"), fontsize=13)
    return figure


def object_figure(found: OnObject) -> Figure:
    """The share of attention on the object by layer and of each aggregate, against chance and a prior at the centre."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    figure = Figure(figsize=(12, 5.5), dpi=_DPI, layout="constrained")
    by_layer, summed = figure.subplots(1, 2, sharey=True)
    layers = [measured.share for measured in found.maps if measured.name.startswith("layer ")]
    numbers = [int(measured.name.split()[1]) for measured in found.maps if measured.name.startswith("layer ")]
    by_layer.plot(numbers, [share.value for share in layers], color=BLUE, marker="o", markersize=4)
    lows, highs = ([getattr(share, end) for share in layers] for end in ("low", "high"))
    by_layer.fill_between(numbers, lows, highs, color=BLUE, alpha=0.2, linewidth=0)
    by_layer.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    by_layer.set(xlabel="layer, mean over heads", ylabel="share on the object, mean and 95 % interval")
    for place, measured in enumerate(found.aggregates):
        share = measured.share
        errors = [[share.value - share.low], [share.high - share.value]]
        summed.errorbar(place, share.value, yerr=errors, fmt="o", color=BLUE, capsize=4)
    names = [
        f"{measured.name}\n{measured.share.value:.1%}\n\nabove chance\n{_points(measured.above_chance)}\n"
        f"above centre\n{_points(measured.above_centre)}"
        for measured in found.aggregates
    ]
    summed.set_xticks(range(len(names)), names, fontsize=8, linespacing=1.4)
    summed.set_xlim(-0.5, len(names) - 0.5)
    summed.set_xlabel("maps over all layers; differences in percentage points")
    for axes in (by_layer, summed):
        axes.axhline(
            found.chance.value, color="0.4", linestyle="--", label=f"chance, the object's area: {found.chance}"
        )
        width = f"centre prior, a Gaussian {found.centre_width:g} of the side wide: {found.centre}"
        axes.axhline(found.centre.value, color=ORANGE, linestyle=":", label=width)
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.grid(axis="y", color="0.9")
        axes.set_axisbelow(True)
    highest = max(measured.share.high for measured in found.maps)
    by_layer.set_ylim(0, min(1, 1.25 * max(highest, found.centre.value, found.chance.value)))
    by_layer.legend(frameon=False, fontsize=9, loc="upper left")
    figure.suptitle(f"Attention on the object, {found.n} images with masks", fontsize=12)
    return figure


def _points(difference: Interval) -> str:
    """In percentage points."""
    value, low, high = (100 * each for each in (difference.value, difference.low, difference.high))
    return f"{value:+.1f} ({low:+.1f} to {high:+.1f})"


def _about_tiles(side: int) -> list[str]:
    text = "Each tile: the similarity of one patch's embedding with those of all patches, at their positions."
    step = math.ceil(side / _TILES)
    return textwrap.wrap(text if step == 1 else f"{text} Every {step} rows and columns, one patch has a tile.", COLUMNS)


def _before_and_after(positions: PositionArchive) -> tuple[Positions, Positions]:
    pairs = ((positions.before, positions.class_token_before), (positions.after, positions.class_token_after))
    before, after = (
        Positions(embedding[1:].astype(np.float64), embedding[0].astype(np.float64), token.astype(np.float64))
        for embedding, token in pairs
    )
    return before, after


def _mosaic(patches: np.ndarray) -> np.ndarray:
    """Tiles side by side, a line of NaN between them; at most _TILES tiles each way, evenly spread."""
    tiles = similarity_tiles(patches)
    step = math.ceil(len(tiles) / _TILES)
    tiles = tiles[::step, ::step]
    framed = np.pad(tiles, ((0, 0), (0, 0), (0, 1), (0, 1)), constant_values=np.nan)
    count, _, side, _ = framed.shape
    return framed.transpose(0, 2, 1, 3).reshape(count * side, count * side)[:-1, :-1]


def _whole_pixels(cells: int, about: int) -> int:
    """About `wanted` pixels, a multiple of the cells: all of them are the same size then."""
    return max(1, round(about / cells)) * cells


def _draw_tiles(axes: Axes, mosaic: np.ndarray) -> AxesImage:
    image = axes.imshow(mosaic, cmap=_COLOURS, vmin=-1, vmax=1, interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    for side in axes.spines.values():
        side.set_visible(False)
    return image


def _plain(text: str) -> str:
    """Text as it is: without the `$` that matplotlib takes for mathematics."""
    return without_mathtext("".join(letter if letter.isprintable() or letter == "\n" else "�" for letter in text))
