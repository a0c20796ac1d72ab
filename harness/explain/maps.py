"""The maps of an archive that combine all layers.

n images, P = g² patches.
"""

from __future__ import annotations

import numpy as np

from harness.runs.attention_files import Archive
from harness.runs.attention_maps import as_shares
from harness.runs.rules import AGGREGATES, LEGRAD, MEAN_MAP, RELEVANCE, ROLLOUT

Rows = int | slice | np.ndarray

EVERY = slice(None)


def map_names(archive: Archive) -> tuple[str, ...]:
    """The names in AGGREGATES that an archive has, in their order. Where one map is shown, it is the first."""
    return tuple(combined_maps(archive, slice(0, 0)))


def combined_maps(archive: Archive, rows: Rows = EVERY) -> dict[str, np.ndarray]:
    """The maps by name, of all images (n, P) or of one (P,): float32, as they were computed."""
    maps = {
        RELEVANCE: archive.relevance[rows],
        LEGRAD: None if archive.legrad is None else archive.legrad[rows],
        MEAN_MAP: archive.layers[rows].mean(-2, dtype=np.float32),
        ROLLOUT: archive.rollout[rows],
    }
    return {name: maps[name].astype(np.float32) for name in AGGREGATES if maps[name] is not None}


def comparable_maps(archive: Archive) -> dict[str, np.ndarray]:
    """The same of all images, those whose images differ in scale divided by their sum."""
    return {name: as_shares(maps) if has_own_scale(name) else maps for name, maps in combined_maps(archive).items()}


def first_map(archive: Archive, index: int) -> np.ndarray:
    """The first of an image's maps (P,), for places that show one map."""
    return next(iter(combined_maps(archive, index).values()))


def has_own_scale(name: str) -> bool:
    """Whether a map's values differ in scale between images; otherwise they are shares of attention."""
    return name in (LEGRAD, RELEVANCE)
