"""The confusion matrix as a figure, with the top confusions and the classes of the lowest F1 beside it. C classes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.runs.confusion_counts import Confusion
from harness.runs.figures import plain
from harness.training.metrics import Scores

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Along a side, of two pixels each. Of more cells, some would not be drawn, and single errors would be missing: a cell
# then stands for several neighbouring classes.
MOST_CELLS = 1400
MOST_NAMED = 200  # class names along a side


def confusion_matrix(confusion: Confusion, classes: Sequence[str], scores: Scores) -> Figure:
    """Share of each class's images by predicted class, with the top confusions beside it."""
    from matplotlib.figure import Figure

    names = [plain(name) for name in classes]
    notes = _notes(confusion, names, scores)
    side = min(max(0.19 * len(names), 4.5), 19.0)  # inches of the matrix
    scale = 1.6 if side > 8 else 1.0
    label_size = min(max(0.55 * 72 * side / len(names), 4.0), 9.0)  # points of a class name
    room = _inches([names[i] for i in _named(len(names))], label_size)  # for class names
    left = bottom = room + 0.35 * scale  # and for the title of the axis
    below, above, beside = 0.75 * scale, 0.4 * scale, _inches(notes, 7.5 * scale) + 0.5
    width, height = left + side + beside, below + bottom + side + above
    figure = Figure(figsize=(width, height), dpi=150)
    axes = figure.add_axes((left / width, (below + bottom) / height, side / width, side / height))
    bar = figure.add_axes(((left + side / 4) / width, 0.45 * scale / height, side / 2 / width, 0.12 * scale / height))
    _draw_matrix(axes, bar, confusion, scale)
    _write_names(axes, names, label_size, gap=0.04 / side)
    axes.set_xlabel("predicted class", fontsize=10 * scale, labelpad=72 * room + 3)
    axes.set_ylabel("true class", fontsize=10 * scale, labelpad=72 * room + 3)
    heading = f"Test set: macro F1 {scores.f1:.4f}, accuracy {scores.accuracy:.4f}, n = {scores.n}"
    axes.set_title(heading, fontsize=11 * scale, pad=6 * scale)
    corner = ((left + side + 0.25) / width, (height - above) / height)
    figure.text(*corner, "\n".join(notes), va="top", fontsize=7.5 * scale, linespacing=1.4)
    return figure


def _notes(confusion: Confusion, names: Sequence[str], scores: Scores) -> list[str]:
    pairs = ["Top confusions", "(true → predicted, images)", "", *confused_pairs(confusion, names)]
    return [*pairs, "", "Lowest F1", "(class, F1, images)", "", *weakest_classes(scores, names)]


def _inches(lines: Sequence[str], size: float) -> float:
    """Width of the longest line of text, at a font size in points."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(size=size)
    widths = [text_to_path.get_text_width_height_descent(f".{line}", font, ismath=False)[0] for line in lines]
    return float(max(widths)) / 72


def _write_names(axes: Axes, names: Sequence[str], size: float, gap: float) -> None:
    """Class names left of and below the matrix; `gap` is a share of its side.

    Not tick labels: each tick is five artists, and for 100 classes making them takes as long as all else.
    """
    axes.set(xticks=[], yticks=[])
    for i in _named(len(names)):
        across, down = axes.get_xaxis_transform(), axes.get_yaxis_transform()
        axes.text(i, -gap, names[i], transform=across, rotation=90, ha="center", va="top", fontsize=size)
        axes.text(-gap, i, names[i], transform=down, ha="right", va="center", fontsize=size)


def _draw_matrix(axes: Axes, bar: Axes, confusion: Confusion, scale: float) -> None:
    together = math.ceil(confusion.num_classes / MOST_CELLS)
    cells, support = _cells(confusion, together)
    support = support[:, None]
    share = np.divide(cells, support, out=np.zeros(cells.shape), where=support > 0)
    edges = np.arange(len(share) + 1) * together - 0.5
    lines: dict[str, Any] = {"edgecolors": "0.9", "linewidth": 0.4} if len(share) <= MOST_NAMED else {}
    # Zero is white and the smallest shares are the darkest, so that single errors are visible in an empty matrix.
    shown = np.ma.masked_equal(share, 0)
    # Not an image, which would colour each pixel: that takes four times as long.
    mesh = axes.pcolormesh(edges, edges, shown, cmap="cividis", vmin=0, vmax=1, **lines)
    axes.set_ylim(edges[-1], -0.5)
    if len(share) <= 12:
        for row, column in zip(*np.nonzero(cells), strict=True):
            colour = "white" if share[row, column] < 0.5 else "black"
            axes.text(column, row, str(cells[row, column]), ha="center", va="center", color=colour, fontsize=9)
    axes.figure.colorbar(mesh, cax=bar, orientation="horizontal")
    label = "share of the true class's images (white: none)"
    if together > 1:
        whose = f"images of {together} neighbouring true classes"
        label = f"share of the {whose} (white: none; diagonal: right predictions)"
        if not_drawn := int(support.sum() - cells.sum()):
            label += f"; not drawn: {not_drawn} images predicted as a neighbour of these"
    bar.set_xlabel(label, fontsize=8 * scale)
    bar.tick_params(labelsize=7 * scale)


def _cells(confusion: Confusion, together: int) -> tuple[np.ndarray, np.ndarray]:
    """Counts (B, B) of every `together` neighbouring classes, B = ceil(C / together), and images (B,) of these classes.

    The diagonal counts right predictions only: confusions inside a cell of the diagonal would look like right ones.
    """
    row, column = confusion.truth // together, confusion.predicted // together
    drawn = (row != column) | (confusion.truth == confusion.predicted)
    side = math.ceil(confusion.num_classes / together)
    cells = np.zeros((side, side), np.int64)
    np.add.at(cells, (row[drawn], column[drawn]), confusion.count[drawn])
    return cells, np.add.reduceat(confusion.support, np.arange(0, confusion.num_classes, together))


def _named(count: int) -> range:
    """Numbers of the classes that are named along a side, at most MOST_NAMED."""
    return range(0, count, math.ceil(count / MOST_NAMED))


def confused_pairs(confusion: Confusion, names: Sequence[str], limit: int = 15) -> list[str]:
    """The largest counts off the diagonal, as text; of equal ones, the larger share of its class comes first."""
    errors = confusion.errors()
    truth, guess, counts, support = errors.truth, errors.predicted, errors.count, confusion.support[errors.truth]
    order = np.lexsort((guess, truth, -counts / support, -counts))
    lines = [f"{names[truth[i]]} → {names[guess[i]]}  {counts[i]} of {support[i]}" for i in order[:limit]]
    if len(order) > limit:
        lines.append(f"and {len(order) - limit} more pairs, {counts[order[limit:]].sum()} images")
    return lines or ["none: every image is right"]


def weakest_classes(scores: Scores, names: Sequence[str], limit: int = 10) -> list[str]:
    """The classes with images that have the lowest F1 below 1, as text."""
    order = np.argsort(scores.class_f1, kind="stable")
    weakest = [i for i in order if scores.support[i] and scores.class_f1[i] < 1][:limit]
    lines = [f"{names[i]}  {scores.class_f1[i]:.3f}  {scores.support[i]}" for i in weakest] or ["none below 1"]
    absent = int((scores.support == 0).sum())
    return [*lines, f"without images, F1 0: {absent}"] if absent else lines
