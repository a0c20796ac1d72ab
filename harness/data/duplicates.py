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
HEAD = 48  # numbers of each image that are compared first
MATRIX_GAIN = 20  # a product in a matrix takes a twentieth of the time of a single one
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
    cells = grids.reshape(-1, GRID, GRID)
    looks = np.empty((len(cells), 2 * GRID * (GRID - 1)), np.float16)
    for block in _blocks(len(cells)):
        values = cells[block].astype(np.float32)
        steps = np.concatenate([np.diff(values, axis=axis).reshape(len(values), -1) for axis in (1, 2)], axis=1)
        looks[block] = steps / np.maximum(np.linalg.norm(steps, axis=1, keepdims=True), 1e-6)
    return looks


def alike(looks: np.ndarray, most: int) -> list[Pair] | None:
    """Pairs of copies among `looks` (N, 480); None if there are more than `most`.

    Every image is compared with every other by a short vector; few pairs are left to be compared whole.
    """
    pairs: list[Pair] = []
    # Finding the axes of a rotation takes longer than comparing few images whole.
    heads = _heads(looks) if len(looks) > BLOCK else looks.astype(np.float32)
    for rows in _blocks(len(looks)):
        for columns in _blocks(len(looks), rows.start):
            i, j = np.nonzero(heads[rows] @ heads[columns].T >= COPY - ROUNDING)
            i, j = i + rows.start, j + columns.start
            i, j = i[i < j], j[i < j]  # each pair once
            likeness = _products(looks, i, j)
            copies = likeness >= COPY
            if len(pairs) + copies.sum() > most:
                return None
            close = zip(i[copies].tolist(), j[copies].tolist(), likeness[copies].tolist(), strict=True)
            pairs += [(one, two, round(value, 3)) for one, two, value in close]
    return sorted(pairs)


def _heads(looks: np.ndarray) -> np.ndarray:
    """Short vectors, float32 (N, HEAD + 1), whose products are at least those of `looks` and take a tenth of the time.

    A rotation to the principal axes puts most of each vector into its first HEAD numbers. The product of the rest is
    at most the product of the lengths of the rest (Cauchy-Schwarz), so the length of the rest is one more number.
    """
    size = looks.shape[1]
    moments = np.zeros((size, size), np.float32)
    for block in _blocks(len(looks)):
        vectors = looks[block].astype(np.float32)
        moments += vectors.T @ vectors
    axes = np.linalg.eigh(moments)[1][:, ::-1][:, :HEAD]
    heads = np.empty((len(looks), HEAD + 1), np.float32)
    for block in _blocks(len(looks)):
        vectors = looks[block].astype(np.float32)
        heads[block, :HEAD] = vectors @ axes
        rest = (vectors**2).sum(axis=1) - (heads[block, :HEAD] ** 2).sum(axis=1)
        heads[block, HEAD] = np.sqrt(np.maximum(rest, 0))
    return heads


def _products(looks: np.ndarray, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """Likeness of the pairs i, j: float32."""
    rows, i = np.unique(i, return_inverse=True)
    columns, j = np.unique(j, return_inverse=True)
    first, second = looks[rows].astype(np.float32), looks[columns].astype(np.float32)
    if len(i) * MATRIX_GAIN > len(rows) * len(columns):
        return (first @ second.T)[i, j]
    products = np.empty(len(i), np.float32)
    for block in _blocks(len(i)):
        products[block] = np.einsum("nd,nd->n", first[i[block]], second[j[block]])
    return products


def _blocks(count: int, start: int = 0) -> Iterator[slice]:
    """Slices of BLOCK positions, which bound the memory of what is computed at once."""
    return (slice(begin, begin + BLOCK) for begin in range(start, count, BLOCK))
