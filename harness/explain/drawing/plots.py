"""Figures of a model: statistics of its heads and attention on the object.

Figures are made without pyplot, as all figures of a run: one that is dropped is freed.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from harness.explain.localization import OnObject, in_percent
from harness.runs.attention_files import Archive
from harness.runs.figures import new_figure
from harness.runs.resampling import Interval
from harness.runs.rules import BLUE, ORANGE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = "viridis"  # perceptually uniform, and told apart with any colour vision
_HEADS = {
    "distance": "mean attention distance (pixels)",
    "entropy": "entropy of a token's attention (nats)",
    "patches_on_class": "attention of patches on the class token (share)",
    "class_on_class": "attention of the class token on itself (share)",
}


def head_plots(archive: Archive) -> dict[str, Figure]:
    """heads: layer x head heatmaps; distance: attention distance of each head by layer. Means over the images."""
    return {"heads": head_heatmaps(archive), "distance": distance_by_depth(archive)}


def head_heatmaps(archive: Archive) -> Figure:
    """Each statistic on its own scale, printed in the cells where there is room."""
    layers, heads, _ = archive.statistics.shape
    cell = min(0.42, 12 / heads)
    width, height = max(cell * heads, 2.6) + 1.9, max(cell * layers, 1.6) + 1.1
    title = f"Statistics of the attention heads, mean over {len(archive)} images"
    figure = new_figure(2 * width, 2 * height + 0.5, title)
    names = archive.statistic_names.tolist()
    for axes, (name, label) in zip(figure.subplots(2, 2).flat, _HEADS.items(), strict=True):
        values = archive.statistics[:, :, names.index(name)]
        image = axes.imshow(values, cmap=_COLOURS, aspect="auto" if layers > 3 * heads else "equal")
        axes.set_title(label, fontsize=10)
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
        # Not in the layout, which would measure each text twice: it is inside its axes.
        axes.text(head, layer, text, ha="center", va="center", fontsize=7, color=colour, in_layout=False)


def distance_by_depth(archive: Archive) -> Figure:
    """A dot per head (Dosovitskiy et al. 2021, arXiv 2010.11929, figure 7 right), and that of uniform attention."""
    from matplotlib.ticker import MaxNLocator

    distances = archive.statistics[:, :, archive.statistic_names.tolist().index("distance")]
    layers, heads = distances.shape
    depth = np.arange(1, layers + 1)
    figure = new_figure(8, 5)
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


def object_figure(found: OnObject) -> Figure:
    """The share of attention on the object by layer and of each aggregate, against chance and a prior at the centre."""
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    figure = new_figure(12, 5.5, f"Attention on the object, {found.n} images with masks")
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
        area = f"chance, the object's area: {in_percent(found.chance)}"
        axes.axhline(found.chance.value, color="0.4", linestyle="--", label=area)
        width = f"centre prior, a Gaussian {found.centre_width:g} of the side wide: {in_percent(found.centre)}"
        axes.axhline(found.centre.value, color=ORANGE, linestyle=":", label=width)
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.grid(axis="y", color="0.9")
        axes.set_axisbelow(True)
    highest = max(measured.share.high for measured in found.maps)
    by_layer.set_ylim(0, min(1, 1.25 * max(highest, found.centre.value, found.chance.value)))
    by_layer.legend(frameon=False, fontsize=9, loc="upper left")
    return figure


def _points(difference: Interval) -> str:
    """In percentage points."""
    value, low, high = (100 * each for each in (difference.value, difference.low, difference.high))
    return f"{value:+.1f} ({low:+.1f} to {high:+.1f})"
