"""Maps of many images as images that a page shows parts of: one row of maps per image, one pixel per patch.

PNGs with a palette: dark is nothing, bright the end of the scale. A page enlarges them in whole squares and lays them
over photographs, where it could not colour them itself: one opened from a file may not read pixels.
"""

from __future__ import annotations

import functools
import io

import numpy as np
from PIL import Image

from harness.runs.attention_files import Maps

COLOURS = "inferno"  # perceptually uniform and told apart with any colour vision; as on the run's own pages
LEVELS = 128  # of a map: less than 1 L* apart, finer than eyes tell; more would be noise that does not compress
NOT_FINITE, GAP = LEVELS, LEVELS + 1  # two more entries of the palette: grey, and transparent between maps
PER_SHEET = 50  # images
SHARED = 5  # the end of the shared scale, in even shares: what each patch had if attention were spread evenly


def shared_end(side: int) -> float:
    """The end of the shared scale: the same share of attention, or of relevance, on all maps of any image or run."""
    return min(1.0, SHARED / (side * side + 1))


def quantised(maps: Maps, *, shared: bool = False) -> np.ndarray:
    """Palette entries (n, M, P) uint8: from 0 to each map's own largest value, or to the `shared_end` for all."""
    ends = np.float32(shared_end(maps.side)) if shared else maps.largest[..., None]
    finite = np.isfinite(maps.values)
    shares = np.divide(maps.values, ends, out=np.zeros_like(maps.values), where=finite & (ends > 0))
    levels = np.rint(shares.clip(0, 1) * (LEVELS - 1)).astype(np.uint8)
    levels[~finite] = NOT_FINITE
    return levels


def sheet(levels: np.ndarray, side: int) -> bytes:
    """A PNG of images (up to PER_SHEET, M, P): map m of image i begins at pixel (m (g + 1), i (g + 1))."""
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
