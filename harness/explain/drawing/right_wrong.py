"""Mean maps of right and wrong predictions, and their difference.

P = g² patches, n images.
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from harness.explain.archive import Archive, off_patches
from harness.explain.drawing.canvas import DIVERGING, INK, PALE, SEQUENTIAL, largest, percent, tile, write
from harness.explain.maps import comparable_maps

GAP, MARGIN, HEADER = 8, 16, 64
SCORES = 4.0  # standard errors at the ends of the colours of a difference: below 2, a patch shows none


def right_wrong(archive: Archive) -> Image.Image:
    """Mean maps of rightly and wrongly classified images, their difference, and it in standard errors; numbers."""
    known = archive.labels >= 0
    right = known & (archive.labels == archive.predicted)
    wrong = known & ~right
    maps = {**comparable_maps(archive), "last layer": archive.layers[:, -1].astype(np.float32)}
    grid = math.isqrt(archive.rollout.shape[1])
    factor = max(1, round(168 / grid))
    side, left, top = factor * grid, 150, HEADER + 24
    wide, high = side + GAP, side + 26
    size = (left + len(maps) * wide + MARGIN + 430, top + 4 * high + MARGIN)
    image = Image.new("RGB", size, "white")
    write(image, (MARGIN, 10), f"{right.sum()} right against {wrong.sum()} wrong images", 18, bold=True)
    words = (
        "Mean maps; relevance and LeGrad of each image divided by their sum. Below 2 standard errors a patch shows no "
        "difference."
    )
    write(image, (MARGIN, 36), words, 13, colour=PALE, width=size[0] - 2 * MARGIN)
    rows = ("right", "wrong", "right − wrong", "in standard errors")
    for row, name in enumerate(rows):
        write(image, (MARGIN, top + row * high + side // 2), name, 14, anchor="lm")
    for column, (name, values) in enumerate(maps.items()):
        x = left + column * wide
        write(image, (x, top - 5), name, 14, anchor="ls")
        for row, (cells, low, end, table) in enumerate(_compared(values[right], values[wrong])):
            y = top + row * high
            image.paste(Image.fromarray(tile(cells, factor, end, low, table)), (x, y))
            scale = f"± {end:g}" if row == 3 else f"± {percent(end)}" if row == 2 else f"0 to {percent(end)}"
            write(image, (x, y + side + 3), scale, 12)
    _write_numbers(image, (left + len(maps) * wide + GAP, top), archive, right, wrong)
    return image


def _compared(right: np.ndarray, wrong: np.ndarray) -> list[tuple[np.ndarray, float, float, str]]:
    """Four maps (P,), each with the ends of its scale and its colours; from (images, P) of each side.

    NaN, which is drawn grey, where there are too few images: none for a mean, one for an error.
    """
    means = [part.mean(0) if len(part) else np.full(part.shape[1], np.nan) for part in (right, wrong)]
    difference = means[0] - means[1]
    if min(len(right), len(wrong)) > 1:
        error = np.sqrt(right.var(0, ddof=1) / len(right) + wrong.var(0, ddof=1) / len(wrong))
        scores = np.divide(difference, error, out=np.zeros_like(difference), where=error > 0)
    else:
        scores = np.full_like(difference, np.nan)
    high, most = largest(np.stack(means)), largest(np.abs(difference))
    same = [(mean, 0.0, high, SEQUENTIAL) for mean in means]
    return [*same, (difference, -most, most, DIVERGING), (scores, -SCORES, SCORES, DIVERGING)]


def _write_numbers(
    image: Image.Image, place: tuple[int, int], archive: Archive, right: np.ndarray, wrong: np.ndarray
) -> None:
    """Mean and standard error over images."""
    x, y = place
    whose = "class token" if off_patches(archive) == "on itself" else "attention"
    columns = {
        "probability of the prediction": archive.probability,
        "entropy, last layer (nats)": archive.entropy[:, -1],
        "distance, last layer (pixels)": archive.distance[:, -1],
        f"{whose} {off_patches(archive)}, last layer": archive.class_share[:, -1],
        "maps may mislead (share)": archive.misleading.astype(np.float32),
    }
    for offset, title in ((250, "right"), (340, "wrong")):
        write(image, (x + offset, y), title, 13, bold=True)
    for row, (name, values) in enumerate(columns.items()):
        line = y + 26 + 40 * row
        write(image, (x, line), name, 13, width=245)
        for offset, part in ((250, values[right]), (340, values[wrong])):
            write(image, (x + offset, line), f"{part.mean():.3g}" if len(part) else "none", 13, colour=INK)
            if len(part) > 1:
                error = part.std(ddof=1) / math.sqrt(len(part))
                write(image, (x + offset, line + 16), f"± {error:.2g}", 12, colour=PALE)
    write(image, (x, y + 26 + 40 * len(columns)), "mean ± standard error over images", 12, colour=PALE)
