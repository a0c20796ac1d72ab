"""Figures of the position embedding: similarity of patches and the class token, before and after fine-tuning.

Figures are made without pyplot, as all figures of a run: one that is dropped is freed.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import numpy as np

from harness.explain.positions.measures import Positions, change_map, class_maps
from harness.explain.positions.text import COLUMNS, number_lines, rule_lines, verdict_text
from harness.runs.attention_files import PositionArchive
from harness.runs.figures import new_figure
from harness.runs.rules import without_mathtext
from harness.runs.similarity_tiles import COLOURS, draw_cells, mosaic, tile_step, whole_pixels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DPI = 120
_MONO = "monospace"
_PARTNER = {
    "class_token": "patches",
    "P_0": "patches",
    "class_token + P_0": "centred patches",
}


def position_plots(positions: PositionArchive) -> dict[str, Figure]:
    """positions: similarity before and after, numbers, verdict; position_maps: class token and change by patch."""
    return {"positions": similarity_figure(positions), "position_maps": map_figure(positions)}


def similarity_figure(positions: PositionArchive) -> Figure:
    """g x g tiles of g x g cosines, raw and centred, before and after, all from -1 to 1; numbers and rule beside."""
    from matplotlib.figure import Figure

    both = [found.patches for found in _before_and_after(positions)]
    rows = {
        "raw": [mosaic(patches) for patches in both],
        "centred: minus the mean over patches": [mosaic(patches) for patches in positions.patches],
    }
    panel = whole_pixels(len(rows["raw"][0]), 600)
    gap, left, beside, top, bottom = 30, 60, 640, 90, 30  # pixels
    width, height = left + 2 * panel + gap + beside, top + 2 * panel + gap + bottom
    figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI)
    for row, (name, mosaics) in enumerate(rows.items()):
        for column, (when, cells) in enumerate(zip(("before", "after"), mosaics, strict=True)):
            x, y = left + column * (panel + gap), bottom + (1 - row) * (panel + gap)
            axes = figure.add_axes((x / width, y / height, panel / width, panel / height))
            image = draw_cells(axes, cells)
            if column == 0:
                axes.set_ylabel(name, fontsize=11)
            if row == 0:
                axes.set_title(f"{when} fine-tuning", fontsize=12)
    x = left + 2 * panel + gap + 40
    bar = figure.add_axes((x / width, 1 - (top + 14) / height, 320 / width, 14 / height))
    figure.colorbar(image, cax=bar, orientation="horizontal").ax.tick_params(labelsize=8)
    bar.set_title("cosine similarity, one scale for all", fontsize=10)
    numbers = positions.numbers
    notes = "\n".join([*_about_tiles(positions.side), "", *number_lines(numbers), "", *rule_lines(numbers)])
    place = (x / width, 1 - (top + 60) / height)
    figure.text(*place, _plain(notes), va="top", fontsize=8.5, linespacing=1.5, family=_MONO)
    figure.suptitle(_plain(f"Position embedding: {verdict_text(positions.numbers)}"), fontsize=14, y=1 - 16 / height)
    return figure


def map_figure(positions: PositionArchive) -> Figure:
    """The class token's similarity with each patch, before above after on one scale, and the change of each patch."""
    before, after = _before_and_after(positions)
    figure = new_figure(14, 7)
    grid = figure.subplots(2, 4)
    pairs = zip(class_maps(before).items(), class_maps(after).values(), strict=True)
    for column, ((name, start), end) in enumerate(pairs):
        low, high = float(min(start.min(), end.min())), float(max(start.max(), end.max()))
        for axes, values in zip(grid[:, column], (start, end), strict=True):
            image = axes.imshow(values, cmap=COLOURS, vmin=low, vmax=high, interpolation="nearest")
        grid[0, column].set_title(f"cosine of {name}\nwith {_PARTNER[name]}", fontsize=10)
        figure.colorbar(image, ax=grid[:, column], orientation="horizontal", fraction=0.04, pad=0.02)
    grid[0, 0].set_ylabel("before fine-tuning", fontsize=11)
    grid[1, 0].set_ylabel("after fine-tuning", fontsize=11)
    moved = change_map(before.patches, after.patches)
    image = grid[0, 3].imshow(moved, cmap=COLOURS, vmin=0, interpolation="nearest")
    grid[0, 3].set_title("change of each patch: |ΔP|\ndivided by the typical length before", fontsize=10)
    figure.colorbar(image, ax=grid[:, 3], orientation="horizontal", fraction=0.04, pad=0.02)
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[])
    grid[1, 3].axis("off")
    notes = "\n".join(number_lines(positions.numbers))
    grid[1, 3].text(0, 1, _plain(notes), va="top", fontsize=7, linespacing=1.6, family=_MONO)
    figure.suptitle(_plain(f"Position embedding: {verdict_text(positions.numbers)}"), fontsize=13)
    return figure


def _about_tiles(side: int) -> list[str]:
    text = "Each tile: the similarity of one patch's embedding with those of all patches, at their positions."
    step = tile_step(side)
    return textwrap.wrap(text if step == 1 else f"{text} Every {step} rows and columns, one patch has a tile.", COLUMNS)


def _before_and_after(positions: PositionArchive) -> tuple[Positions, Positions]:
    pairs = ((positions.before, positions.class_token_before), (positions.after, positions.class_token_after))
    before, after = (
        Positions(embedding[1:].astype(np.float64), embedding[0].astype(np.float64), token.astype(np.float64))
        for embedding, token in pairs
    )
    return before, after


def _plain(text: str) -> str:
    """Text as it is: without the `$` that matplotlib takes for mathematics."""
    return without_mathtext("".join(letter if letter.isprintable() or letter == "\n" else "�" for letter in text))
