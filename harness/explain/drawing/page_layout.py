"""The layout of an image's page: the same for every image of an archive.

L blocks ("layers"), H heads, P = g² patches. Positions are (x, y) of a top left corner, in pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from harness.explain.maps import map_names
from harness.runs.attention_files import Archive

TILE = 112  # pixels of a small map, about; large ones are twice that
OVERLAYS = 3  # combined maps over the image
PER_ROW = 12  # maps of a strip side by side
GAP, MARGIN = 8, 16  # multiples of 8: patches of 8 pixels are then JPEG's own blocks, small and exact
HEADER, CAPTION, TITLE = 72, 24, 32  # heights of the parts of a page

Positions = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Page:
    """Size of a page and positions of its parts."""

    factor: int  # pixels of a patch in a small map
    side: int  # pixels of a small map
    width: int
    height: int
    large: Positions  # the image, then the first combined maps over it
    small: Positions  # all combined maps
    notes: tuple[int, int]
    strips: tuple[Positions, ...]  # layers, layers on one scale, heads, heads on one scale
    right: int  # x of strips that are beside another; the page's width if there are none

    @classmethod
    def of(cls, archive: Archive) -> Page:
        grid = math.isqrt(archive.rollout.shape[1])
        factor = max(1, round(TILE / grid))
        side = factor * grid
        step = side + GAP
        top = HEADER + CAPTION
        combined = len(map_names(archive))
        large = tuple((MARGIN + index * (2 * side + GAP), top) for index in range(1 + OVERLAYS))
        beside = large[-1][0] + 2 * side + 2 * GAP
        small = tuple((beside + index * step, top) for index in range(combined))
        width = small[-1][0] + side + MARGIN
        counts = (archive.layers.shape[1], archive.heads.shape[1])
        # Few maps would leave the right half empty: both strips of a kind then share a row.
        halves = [count for count in counts if 2 * count <= PER_ROW]
        right = max(MARGIN + max(halves, default=0) * step + GAP, width * 13 // 24 // 8 * 8)
        y = top + 2 * side + 2 * CAPTION
        strips: list[Positions] = []
        for count in counts:
            rows = math.ceil(count / PER_ROW)
            columns = math.ceil(count / rows)
            is_half = count in halves
            width = max(width, (right if is_half else MARGIN) + columns * step - GAP + MARGIN)
            for number in range(2):
                if number == 0 or not is_half:
                    y += TITLE
                    strip_top = y
                    y += rows * (side + CAPTION)
                x = right if is_half and number == 1 else MARGIN
                strips.append(
                    tuple(
                        (x + index % columns * step, strip_top + index // columns * (side + CAPTION))
                        for index in range(count)
                    )
                )
        notes = (beside, top + side + CAPTION + GAP)
        return cls(factor, side, width, y + GAP, large, small, notes, tuple(strips), right if halves else width)

    def title_width(self, strip: int) -> int:
        """Room for the title of a strip: up to the strip beside it, or to the end of the page."""
        start = self.strips[strip][0]
        has_neighbour = any(other[0][1] == start[1] and other[0][0] > start[0] for other in self.strips)
        return (self.right - GAP if has_neighbour else self.width - MARGIN) - start[0]
