"""Mean maps of right and wrong predictions, their difference, and where it is larger than chance makes it.

P = g² patches, n images.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

from harness.explain.drawing.canvas import DIVERGING, INK, PALE, SEQUENTIAL, largest, percent, tile, write
from harness.explain.maps import comparable_maps
from harness.runs.attention_files import Archive
from harness.runs.rules import p_text

GAP, MARGIN, HEADER = 8, 16, 64
LEAST = 20  # images on either side; of fewer, chance alone makes large differences
PERMUTATIONS = 999
LEVEL = 0.05  # chance that any patch of a map is marked where right and wrong images do not differ


def right_wrong(archive: Archive) -> Image.Image:
    """Mean maps of rightly and wrongly classified images, their difference, where it is beyond chance; numbers."""
    known = archive.labels >= 0
    right = known & (archive.labels == archive.predicted)
    wrong = known & ~right
    maps = {**comparable_maps(archive), "last layer": archive.layers[:, -1].astype(np.float32)}
    grid = math.isqrt(archive.rollout.shape[1])
    factor = max(1, round(168 / grid))
    side, left, top = factor * grid, 150, HEADER + 24
    wide, high = side + GAP, side + 26
    size = (left + len(maps) * wide + MARGIN + 430, top + 4 * high + 2 * MARGIN + 10)
    image = Image.new("RGB", size, "white")
    write(image, (MARGIN, 10), f"{right.sum()} right against {wrong.sum()} wrong images", 18, bold=True)
    words = "Mean maps; relevance and LeGrad of each image divided by their sum. Beyond chance: see below the last row."
    write(image, (MARGIN, 36), words, 13, colour=PALE, width=size[0] - 2 * MARGIN)
    rows = ("right", "wrong", "right − wrong", "beyond chance")
    for row, name in enumerate(rows):
        write(image, (MARGIN, top + row * high + side // 2), name, 14, anchor="lm")
    for column, (name, values) in enumerate(maps.items()):
        x = left + column * wide
        write(image, (x, top - 5), name, 14, anchor="ls")
        difference = beyond_chance(values[right], values[wrong])
        for row, (cells, low, end, table) in enumerate(_compared(values[right], values[wrong], difference)):
            y = top + row * high
            image.paste(Image.fromarray(tile(cells, factor, end, low, table)), (x, y))
            scale = difference.text if row == 3 else f"± {percent(end)}" if row == 2 else f"0 to {percent(end)}"
            write(image, (x, y + side + 3), scale, 12, width=side)
    rule = (
        f"Beyond chance: patches whose difference exceeds the largest of any patch in {1 - LEVEL:.0%} of "
        f"{PERMUTATIONS} permutations of right and wrong. At least {LEAST} images on either side."
    )
    write(image, (MARGIN, size[1] - MARGIN - 10), rule, 13, colour=PALE, width=size[0] - 2 * MARGIN)
    _write_numbers(image, (left + len(maps) * wide + GAP, top), archive, right, wrong)
    return image


@dataclass(frozen=True)
class Difference:
    """Patches in which right and wrong images differ by more than chance makes them."""

    marked: np.ndarray | None  # (P,) bool; None if there are too few images
    p: float  # of the largest difference of any patch; at least 1 / (PERMUTATIONS + 1)

    @property
    def text(self) -> str:
        if self.marked is None:
            return "too few images"
        return f"{self.marked.sum()} of {len(self.marked)} patches, {p_text(self.p, PERMUTATIONS)}"


def beyond_chance(right: np.ndarray, wrong: np.ndarray) -> Difference:
    """Permutation test of right against wrong maps (images, P), by the largest standardised difference of any patch.

    The maximum over patches holds the chance of a false mark anywhere in the map at LEVEL (Westfall and Young 1993).
    """
    if min(len(right), len(wrong)) < LEAST:
        return Difference(None, 1.0)
    values = np.concatenate([right, wrong]).astype(np.float64)
    deviation = values.std(0)
    scaled = np.divide(values - values.mean(0), deviation, out=np.zeros_like(values), where=deviation > 0)
    is_right = np.arange(len(values)) < len(right)
    generator = np.random.Generator(np.random.Philox(0))
    orders = [is_right, *(generator.permutation(is_right) for _ in range(PERMUTATIONS))]
    shares = np.stack([np.where(order, 1 / len(right), -1 / len(wrong)) for order in orders])
    sizes = np.abs(shares @ scaled)  # (1 + PERMUTATIONS, P)
    largest_of_each = sizes.max(1)
    as_far = (largest_of_each >= largest_of_each[0] * (1 - 1e-12)).sum()
    # The observed order is one of the permutations, so the test is exact.
    threshold = np.sort(largest_of_each)[math.ceil((1 - LEVEL) * len(orders)) - 1]
    return Difference(sizes[0] > threshold, float(as_far / len(orders)))


def _compared(
    right: np.ndarray, wrong: np.ndarray, difference: Difference
) -> list[tuple[np.ndarray, float, float, str]]:
    """Four maps (P,), each with the ends of its scale and its colours; from (images, P) of each side.

    NaN, which is drawn grey, where there are too few images.
    """
    means = [part.mean(0) if len(part) else np.full(part.shape[1], np.nan) for part in (right, wrong)]
    apart = means[0] - means[1]
    marked = np.full_like(apart, np.nan) if difference.marked is None else np.where(difference.marked, apart, 0)
    high, most = largest(np.stack(means)), largest(np.abs(apart))
    same = [(mean, 0.0, high, SEQUENTIAL) for mean in means]
    return [*same, (apart, -most, most, DIVERGING), (marked, -most, most, DIVERGING)]


def _write_numbers(
    image: Image.Image, place: tuple[int, int], archive: Archive, right: np.ndarray, wrong: np.ndarray
) -> None:
    """Mean and standard error over images."""
    x, y = place
    whose = "class token" if archive.off_patches == "on itself" else "attention"
    columns = {
        "probability of the prediction": archive.probability,
        "entropy, last layer (nats)": archive.entropy[:, -1],
        "distance, last block (pixels)": archive.block_distance,
        f"{whose} {archive.off_patches}, last layer": archive.class_share[:, -1],
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
