"""The figure by which the ViT paper looks inside a model (Dosovitskiy et al. 2021, arXiv 2010.11929, figure 7).

Filters of the patch projection, similarity of position embeddings, attention distance. D hidden size, p side of a
patch, P patches, L layers, H heads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from harness.runs.attention_files import Archive
from harness.runs.embeddings import centred
from harness.runs.figures import new_figure
from harness.runs.rules import BLUE
from harness.runs.similarity_tiles import draw_cells, mosaic

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COMPONENTS = 28  # as in the paper
COLUMNS = 7


def vit_figure(projection: np.ndarray, patches: np.ndarray | None, archive: Archive) -> Figure:
    """Of the weights (D, 3, p, p), the position embeddings (P, D) if there are any, and the heads of all layers."""
    figure = new_figure(7.2, 2.6, dpi=300)
    filters, tiles, distances = figure.subplots(1, 3)
    filters.imshow(_side_by_side(principal_filters(projection)), interpolation="nearest")
    filters.set_title(f"patch projection:\nfirst {len(principal_filters(projection))} components", fontsize=8)
    filters.set_axis_off()
    if patches is None:
        tiles.text(0.5, 0.5, "no position embedding", ha="center", va="center", fontsize=8)
        tiles.set_axis_off()
    else:
        image = draw_cells(tiles, mosaic(centred(patches)))
        figure.colorbar(image, ax=tiles, shrink=0.8).ax.tick_params(labelsize=7)
    tiles.set_title("position embeddings:\ncosine similarity", fontsize=8)
    by_head = head_distances(archive)
    for head in range(by_head.shape[1]):
        distances.plot(range(1, len(by_head) + 1), by_head[:, head], ".", color=BLUE, markersize=5)
    distances.set_title("attention distance\nof each head", fontsize=8)
    distances.set_xlabel("layer", fontsize=8)
    distances.set_ylabel("mean distance (pixels)", fontsize=8)
    distances.set_ylim(bottom=0)
    distances.tick_params(labelsize=7)
    distances.grid(color="0.92")
    distances.spines[["top", "right"]].set_visible(False)
    return figure


def principal_filters(projection: np.ndarray) -> np.ndarray:
    """The first principal components of the D filters as RGB, (up to COMPONENTS, p, p, 3), each from 0 to 1."""
    flat = projection.reshape(len(projection), -1).astype(np.float64)
    components = np.linalg.svd(flat - flat.mean(0), full_matrices=False)[2][:COMPONENTS]
    lowest, highest = (end(axis=1, keepdims=True) for end in (components.min, components.max))
    scaled = (components - lowest) / np.maximum(highest - lowest, np.finfo(np.float64).tiny)
    return scaled.reshape(-1, *projection.shape[1:]).transpose(0, 2, 3, 1)


def head_distances(archive: Archive) -> np.ndarray:
    """Mean attention distance (L, H) in pixels, over the images."""
    return archive.statistics[..., archive.statistic_names.tolist().index("distance")]


def _side_by_side(filters: np.ndarray) -> np.ndarray:
    """Rows of COLUMNS filters with a white line between them; a short last row ends in white."""
    side = filters.shape[1] + 1
    rows = -(-len(filters) // COLUMNS)
    sheet = np.ones((rows * side - 1, COLUMNS * side - 1, 3))
    for number, cells in enumerate(filters):
        row, column = divmod(number, COLUMNS)
        sheet[row * side : (row + 1) * side - 1, column * side : (column + 1) * side - 1] = cells
    return sheet
