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
# Each map from 0 to its largest value, from its mean to its largest value (over images), or all from 0 to `shared_end`.
SCALES = ("own", "above", "shared")
SHARED = 5  # end of the shared scale, in multiples of an even share (1 / number of tokens)


def shared_end(side: int) -> float:
    """The end of the shared scale, as a share of a map's attention or relevance; the same for all images and runs."""
    return min(1.0, SHARED / (side * side + 1))


def quantised(maps: Maps, scale: str = "own") -> np.ndarray:
    """Palette entries (n, M, P) uint8 in one of SCALES."""
    low, high = _limits(maps, scale)
    finite = np.isfinite(maps.values)
    span = (high - low)[..., None]
    shares = np.divide(maps.values - low[..., None], span, out=np.zeros_like(maps.values), where=finite & (span > 0))
    levels = np.rint(shares.clip(0, 1) * (LEVELS - 1)).astype(np.uint8)
    levels[~finite] = NOT_FINITE
    return levels


def _limits(maps: Maps, scale: str) -> tuple[np.ndarray, np.ndarray]:
    """(n, M) twice: the values of the first and the last colour."""
    if scale == "above":
        return maps.above_mean
    ends = np.full_like(maps.largest, shared_end(maps.side)) if scale == "shared" else maps.largest
    return np.zeros_like(ends), ends


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
