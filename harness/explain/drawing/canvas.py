"""Colour, size and lettering of drawn maps, without a plotting library: one lookup table, whole pixels, real fonts.

Shapes: g x g cells, one per patch. Cells are enlarged by whole factors ("nearest"): a map has one value per patch, and
anything smoother would show detail that was never measured.
"""

from __future__ import annotations

import bisect
import functools
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from harness.runs.attention_maps import FLAT

# Perceptually uniform and told apart with any colour vision: from none (dark) to most, and from less to more.
SEQUENTIAL, DIVERGING = "inferno", "PuOr_r"
NOT_FINITE = (128, 128, 128)
INK, PALE, WARNING = (20, 20, 20), (110, 110, 110), (178, 60, 0)
RIGHT, WRONG, UNKNOWN = (0, 114, 178), (213, 94, 0), (110, 110, 110)  # Okabe & Ito 2008
ELLIPSIS = "…"
# Characters that neither join nor change their order: Latin, Greek and Cyrillic letters, accented ones too, and signs.
UNSHAPED = re.compile(r"[\u0020-\u02ff\u0370-\u0482\u048a-\u052f\u1e00-\u20cf\u2100-\u27bf\ufffd]*")


@functools.cache
def colour_table(name: str) -> np.ndarray:
    """(256, 3) uint8, read-only."""
    import matplotlib

    table = (matplotlib.colormaps[name](np.arange(256))[:, :3] * 255).round().astype(np.uint8)
    table.flags.writeable = False
    return table


def largest(maps: np.ndarray) -> float:
    """The largest finite value, the upper end of a scale; 0 if there is none above."""
    return float(np.max(maps, where=np.isfinite(maps), initial=0.0))


def coloured(cells: np.ndarray, low: float, high: float, table: str = SEQUENTIAL) -> np.ndarray:
    """Cells (...) as colours (..., 3), uint8: `low` and below the first of the table, `high` and above the last."""
    values = np.asarray(cells, dtype=np.float32)
    finite = np.isfinite(values)
    span = high - low if high > low else 1.0
    shares = (np.where(finite, values, low) - low) / span
    colours = colour_table(table)[(shares.clip(0, 1) * 255).round().astype(np.uint8)]
    if not finite.all():
        colours[~finite] = NOT_FINITE
    return colours


def as_grid(maps: np.ndarray) -> np.ndarray:
    """Maps (..., P) as (..., g, g)."""
    side = math.isqrt(maps.shape[-1])
    return maps.reshape(*maps.shape[:-1], side, side)


def enlarged(cells: np.ndarray, factor: int) -> np.ndarray:
    """(g, g, 3) as (g factor, g factor, 3): every cell a square of equal pixels."""
    return cells.repeat(factor, axis=1).repeat(factor, axis=0)


def tile(cells: np.ndarray, factor: int, high: float, low: float = 0.0, table: str = SEQUENTIAL) -> np.ndarray:
    """One map (P,) drawn from `low` to `high`: (g factor, g factor, 3)."""
    return enlarged(coloured(as_grid(cells), low, high, table), factor)


def fitted(image: np.ndarray, side: int) -> np.ndarray:
    """An image (H, W, 3) as (side, side, 3): what the model saw is square."""
    if image.shape[:2] == (side, side):
        return image
    way = cv2.INTER_AREA if side < min(image.shape[:2]) else cv2.INTER_LINEAR
    return cv2.resize(np.ascontiguousarray(image), (side, side), interpolation=way)


def above_mean(cells: np.ndarray) -> tuple[float, float]:
    """The scale of a map (P,) over an image: from its mean to its largest value, or to FLAT times the mean if that is
    more. From 0, as maps alone are drawn, all of the image would be tinted, and little of it told from the rest.
    """
    finite = np.asarray(cells, dtype=np.float32)[np.isfinite(cells)]
    mean = float(finite.mean()) if len(finite) else 0.0
    return mean, max(largest(cells), FLAT * mean)


def overlay(image: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """The part of a map (P,) that is `above_mean`, over the image (side, side, 3) in grey; side is a multiple of g."""
    grey = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)
    low, high = above_mean(cells)
    map_ = tile(cells, len(image) // math.isqrt(len(cells)), high, low)
    return cv2.addWeighted(cv2.merge([grey, grey, grey]), 0.5, map_, 0.6, 0)


def strip(maps: np.ndarray, factor: int) -> np.ndarray:
    """Maps (n, P) side by side, each from 0 to its own largest value."""
    tiles = [tile(cells, factor, largest(cells)) for cells in maps]
    between = np.full((len(tiles[0]), 4, 3), 255, np.uint8)
    return np.concatenate([part for each in tiles for part in (each, between)][:-1], axis=1)


def colour_bar(width: int, height: int, table: str = SEQUENTIAL) -> np.ndarray:
    """From the low end (left) to the high end: (height, width, 3)."""
    return np.broadcast_to(coloured(np.linspace(0, 1, width), 0, 1, table), (height, width, 3))


def percent(share: float) -> str:
    """Three digits: 0.514 %, 12.3 %."""
    return f"{100 * share:.3g} %"


# Lettering


@functools.cache
def _dejavu(bold: bool) -> str:
    import matplotlib

    return str(Path(matplotlib.get_data_path(), "fonts", "ttf", f"DejaVuSans{'-Bold' if bold else ''}.ttf"))


@functools.cache
def _letters(file: str) -> frozenset[int]:
    from matplotlib.ft2font import FT2Font

    try:
        return frozenset(FT2Font(file).get_charmap())
    except (OSError, RuntimeError):
        return frozenset()


@functools.cache
def _font_file(letters: frozenset[int], bold: bool) -> tuple[str, bool]:
    """The font that draws most of these letters, and whether it has all: DejaVu Sans, else the best that is installed.

    DejaVu Sans has Latin, Greek, Cyrillic, Arabic and more, but neither Chinese, Japanese nor Korean.
    """
    default = _dejavu(bold)
    if letters <= _letters(default):
        return default, True
    best = max((default, *_installed_fonts()), key=lambda file: len(letters & _letters(file)))
    return best, letters <= _letters(best)


def _installed_fonts() -> tuple[str, ...]:
    from matplotlib.font_manager import fontManager

    return tuple(sorted({entry.fname for entry in fontManager.ttflist}))


@functools.cache
def _open(file: str, size: int, layout: ImageFont.Layout | None) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(file, size, layout_engine=layout)


def font(size: int, text: str = "", *, bold: bool = False) -> ImageFont.FreeTypeFont:
    """A font of `size` pixels with the letters of `text`."""
    # Other letters need Raqm, which is slower; it is Pillow's own choice where it is installed.
    layout = ImageFont.Layout.BASIC if UNSHAPED.fullmatch(text) else None
    return _open(_font_file(frozenset(map(ord, text)), bold)[0], size, layout)


def printable(text: str) -> str:
    """Text on one line, whatever it holds."""
    return text if text.isprintable() else "".join(letter if letter.isprintable() else "�" for letter in text)


def class_name(classes: Sequence[str] | np.ndarray, index: int) -> str:
    """The name of a class; with its number where no installed font has the letters of the name."""
    if not 0 <= index < len(classes):
        return "unknown"
    name = printable(str(classes[index]))
    return name if _font_file(frozenset(map(ord, name)), False)[1] else f"class {index} {name}"


@functools.lru_cache(maxsize=4096)
def cut(text: str, width: int, size: int, bold: bool = False) -> str:
    """The text, or as much of its beginning as is `width` pixels wide with an ellipsis."""

    def is_wider(shown: str) -> bool:
        return font(size, shown, bold=bold).getlength(shown) > width

    if not is_wider(text):
        return text

    def is_too_wide(letters: int) -> bool:
        return is_wider(text[:letters].rstrip() + ELLIPSIS)

    fitting = bisect.bisect_left(range(1, len(text) + 1), True, key=is_too_wide)
    return text[:fitting].rstrip() + ELLIPSIS


def write(
    image: Image.Image,
    place: tuple[int, int],
    text: str,
    size: int,
    *,
    colour: tuple[int, int, int] = INK,
    bold: bool = False,
    width: int | None = None,
    anchor: str = "la",
) -> None:
    """Text at `place` (x, y of its anchor, see Pillow), cut to `width` pixels."""
    text = printable(text)
    if width is not None:
        text = cut(text, width, size, bold)
    draw: Any = ImageDraw.Draw(image)
    draw.text(place, text, fill=colour, font=font(size, text, bold=bold), anchor=anchor)
