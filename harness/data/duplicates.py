"""Duplicate images: byte-identical or visually alike."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

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
BLOCK = 2048  # images compared with all others at once
HEAD = 48  # numbers of each image that are compared first
ROUNDING = 1e-3  # more than float16 and float32 lose in a product of two looks

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
    return [group for group in groups.values() if _matters([split for split, _ in group], within)]


def _matters(splits: list[str], within: Sequence[str]) -> bool:
    return len(set(splits)) > 1 or (len(splits) > 1 and splits[0] in within)


def grid_of(image: Image.Image) -> np.ndarray:
    """Brightness of an image's cells, uint8 (GRID * GRID,): all that is compared of it."""
    return np.asarray(image.convert("L").resize((GRID, GRID), Image.Resampling.BILINEAR), np.uint8).ravel()


def looks_of(grids: np.ndarray) -> np.ndarray:
    """Descriptors for visual similarity of grids (N, GRID * GRID): float16 (N, 480) of length 1; zeros for one tone.

    The brightness steps between neighbouring cells, as in a difference hash, but kept as numbers: a hash of signs
    weighs a faint step in the sky like the edge of the subject.
    """
    cells = grids.reshape(-1, GRID, GRID).astype(np.float32)
    steps = np.concatenate(
        [np.diff(cells, axis=axis).reshape(len(cells), GRID * (GRID - 1)) for axis in (1, 2)], axis=1
    )
    return (steps / np.maximum(np.linalg.norm(steps, axis=1, keepdims=True), 1e-6)).astype(np.float16)


def alike(looks: np.ndarray, most: int) -> list[Pair] | None:
    """Pairs of copies among `looks` (N, 480); None if there are more than `most`."""
    pairs: list[Pair] = []
    heads = _heads(looks)
    for start in range(0, len(looks), BLOCK):
        rows = slice(start, start + BLOCK)
        for other in range(start, len(looks), BLOCK):
            columns = slice(other, other + BLOCK)
            possible = heads[rows] @ heads[columns].T >= COPY - ROUNDING
            i, j = np.flatnonzero(possible.any(axis=1)), np.flatnonzero(possible.any(axis=0))
            likeness = looks[rows][i].astype(np.float32) @ looks[columns][j].astype(np.float32).T
            likeness[start + i[:, None] >= other + j] = 0  # each pair once
            where = np.nonzero(likeness >= COPY)
            if len(pairs) + len(where[0]) > most:
                return None
            found = zip((start + i[where[0]]).tolist(), (other + j[where[1]]).tolist(), likeness[where], strict=True)
            pairs += [(one, two, round(float(value), 3)) for one, two, value in found]
    return sorted(pairs)


def _heads(looks: np.ndarray) -> np.ndarray:
    """Short vectors, float32 (N, HEAD + 1), whose products are at least those of `looks` and take a tenth of the time.

    A rotation to the principal axes puts most of each vector into its first HEAD numbers. The product of the rest is
    at most the product of the lengths of the rest (Cauchy-Schwarz), so the length of the rest is one more number.
    """
    vectors = looks.astype(np.float32)
    axes = np.linalg.eigh(vectors.T @ vectors)[1][:, ::-1][:, :HEAD]
    heads = vectors @ axes
    rest = np.maximum((vectors**2).sum(axis=1) - (heads**2).sum(axis=1), 0)
    return np.column_stack([heads, np.sqrt(rest)]).astype(np.float32)
