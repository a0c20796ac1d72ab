"""Similarity of position embeddings as tiles: one for each patch, which shows how alike it is to every patch.

(Dosovitskiy et al. 2021, arXiv 2010.11929, figure 7 centre.) P = g² patches row by row, D hidden size. Numpy only;
what draws gets the axes of a matplotlib figure.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from harness.runs.embeddings import cosine

COLOURS = "viridis"  # perceptually uniform, and told apart with any colour vision


def similarity_tiles(patches: np.ndarray) -> np.ndarray:
    """Cosine similarity of every patch with every other, as g x g tiles of g x g: (g, g, g, g); patches (P, D).

    Give `centred(patches)` for tiles that can be compared between models.
    """
    side = math.isqrt(len(patches))
    return cosine(patches, patches).reshape(side, side, side, side)


def mosaic(patches: np.ndarray, most: int = 16) -> np.ndarray:
    """Tiles side by side, a line of NaN between them; at most that many each way, evenly spread."""
    tiles = similarity_tiles(patches)
    step = tile_step(len(tiles), most)
    tiles = tiles[step // 2 :: step, step // 2 :: step]
    framed = np.pad(tiles, ((0, 0), (0, 0), (0, 1), (0, 1)), constant_values=np.nan)
    count, _, side, _ = framed.shape
    return framed.transpose(0, 2, 1, 3).reshape(count * side, count * side)[:-1, :-1]


def tile_step(side: int, most: int = 16) -> int:
    """Every so many rows and columns, a patch has a tile in `mosaic`."""
    return math.ceil(side / most)


def whole_pixels(cells: int, about: int) -> int:
    """About that many pixels, a multiple of the cells: all of them have the same size then."""
    return max(1, round(about / cells)) * cells


def draw_cells(axes: Any, cells: np.ndarray, low: float = -1, high: float = 1) -> Any:
    """The image of cells (rows, columns) in axes without ticks and frame."""
    image = axes.imshow(cells, cmap=COLOURS, vmin=low, vmax=high, interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    return image
