"""Duplicate images: byte-identical or visually alike."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from PIL import Image

from harness.data.cache_build import digest_of

# One image of one split: (split, path relative to the root).
Entry = tuple[str, str]
# Positions i < j of two images and their likeness.
Pair = tuple[int, int, float]

EMPTY = digest_of(b"")
GRID = 16  # cells along each side that an image is reduced to before it is compared
NO_GRID = bytes(GRID * GRID)  # of what cannot be decoded; nothing is a copy of an image of one tone
BLOCK = 512  # images that are compared with as many others at once

# Likeness from which two images are called copies. Measured on 2,600 images: no two different ones come
# above 0.77 (those two share black borders), while every image stays above 0.8 when it is halved, saved as JPEG
# of quality 30, made 30 % brighter or cropped by 2 % on each side, and 83 % do when cropped by 4 %.
COPY = 0.8


def exact(entries: Iterable[Entry], digests: Mapping[str, str], within: Sequence[str] = ()) -> list[list[Entry]]:
    """Groups of byte-identical images that are in two splits, or in one of the splits `within`.

    `digests` by path, "" where it is unknown.
    """
    groups: dict[str, list[Entry]] = {}
    for split, file in entries:
        if digests[file] not in ("", EMPTY):  # decoding reports unreadable and empty files
            groups.setdefault(digests[file], []).append((split, file))
    copies = [group for group in groups.values() if len(group) > 1]
    return [group for group in copies if group[0][0] in within or len({split for split, _ in group}) > 1]


def grid_of(image: Image.Image) -> np.ndarray:
    """Brightness of an image's cells, uint8 (GRID * GRID,): all that is compared of it."""
    return np.asarray(image.convert("L").resize((GRID, GRID), Image.Resampling.BILINEAR), np.uint8).ravel()


def looks_of(grids: np.ndarray) -> np.ndarray:
    """Descriptors for visual similarity of grids (N, GRID * GRID): float16 (N, 480) of length 1; zeros for one tone.

    The brightness steps between neighbouring cells, as in a difference hash, but kept as numbers: a hash of signs
    weighs a faint step in the sky like the edge of the subject.
    """
    cells = grids.reshape(-1, GRID, GRID)
    looks = np.empty((len(cells), 2 * GRID * (GRID - 1)), np.float16)
    for block in _blocks(len(cells)):
        values = cells[block].astype(np.float32)
        steps = np.concatenate([np.diff(values, axis=axis).reshape(len(values), -1) for axis in (1, 2)], axis=1)
        looks[block] = steps / np.maximum(np.linalg.norm(steps, axis=1, keepdims=True), 1e-6)
    return looks


def alike(looks: np.ndarray, most: int) -> list[Pair] | None:
    """Pairs of copies among `looks` (N, 480), each with each compared; None if there are more than `most`."""
    pairs: list[Pair] = []
    vectors = looks.astype(np.float32)
    for rows in _blocks(len(vectors)):
        for columns in _blocks(len(vectors), rows.start):
            likeness = vectors[rows] @ vectors[columns].T
            i, j = np.nonzero(likeness >= COPY)
            values = likeness[i, j]
            i, j = i + rows.start, j + columns.start
            once = i < j
            close = zip(i[once].tolist(), j[once].tolist(), values[once].tolist(), strict=True)
            pairs += [(one, two, round(value, 3)) for one, two, value in close]
            if len(pairs) > most:
                return None
    return sorted(pairs)


def _blocks(count: int, start: int = 0) -> Iterator[slice]:
    """Slices of BLOCK positions, which bound the memory of what is computed at once."""
    return (slice(begin, begin + BLOCK) for begin in range(start, count, BLOCK))
