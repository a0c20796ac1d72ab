"""Sheets of attention maps, of which the page shows parts: a row per image, in it a square per map, a pixel per patch.

They are PNGs with a palette from dark (0) to bright (the end of the scale). They are coloured here, because a page that
was opened from a file may not read pixels. The page enlarges them to whole squares and lays them over images.
"""

from __future__ import annotations

import functools
import io

import numpy as np
from PIL import Image

from harness.runs.attention_maps import Maps

COLOURS = "inferno"  # perceptually uniform, and readable with any colour vision; as on the pages of a run
LEVELS = 128  # per map: less than 1 L* apart, finer than the eye; more levels compress worse
NOT_FINITE, GAP = LEVELS, LEVELS + 1  # further palette entries: grey, and transparent between maps
PER_SHEET = 50  # images
SHARED = 5  # end of the shared scale, in multiples of an even share (1 / number of tokens)


def shared_end(side: int) -> float:
    """The end of the shared scale, as a share of a map's attention or relevance; the same for all images and runs."""
    return min(1.0, SHARED / (side * side + 1))


def quantised(maps: Maps, *, shared: bool = False) -> np.ndarray:
    """Palette entries (n, M, P) uint8; the scale ends at each map's largest value, or at `shared_end` for all maps."""
    ends = np.float32(shared_end(maps.side)) if shared else maps.largest[..., None]
    finite = np.isfinite(maps.values)
    shares = np.divide(maps.values, ends, out=np.zeros_like(maps.values), where=finite & (ends > 0))
    levels = np.rint(shares.clip(0, 1) * (LEVELS - 1)).astype(np.uint8)
    levels[~finite] = NOT_FINITE
    return levels


def sheet(levels: np.ndarray, side: int) -> bytes:
    """A PNG of `levels` (up to PER_SHEET, M, P = side²): map m of image i begins at x = m (side+1), y = i (side+1)."""
    count, maps, _ = levels.shape
    framed = np.full((count, side + 1, maps, side + 1), GAP, np.uint8)
    framed[:, :side, :, :side] = levels.reshape(count, maps, side, side).swapaxes(1, 2)
    image = Image.fromarray(framed.reshape(count * (side + 1), maps * (side + 1)))
    image.putpalette(_palette())
    content = io.BytesIO()
    image.save(content, format="PNG", transparency=GAP, compress_level=6)
    return content.getvalue()


@functools.cache
def _palette() -> bytes:
    import matplotlib

    colours = matplotlib.colormaps[COLOURS](np.linspace(0, 1, LEVELS))[:, :3]
    table = np.zeros((256, 3), np.uint8)
    table[:LEVELS] = (colours * 255).round()
    table[NOT_FINITE] = 128
    return table.tobytes()
