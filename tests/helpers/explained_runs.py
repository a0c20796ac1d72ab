"""Run folders with attention maps of their test images, made up without a model: for tests of what is reported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from harness.explain.archive import write_archive
from harness.explain.drawing import sprites
from harness.runs.attention_files import Archive
from tests.helpers.explained import made_up_archive, made_up_positions
from tests.reports.test_runs import write_run


def write_explained_run(
    folder: Path,
    maps: Archive | None = None,
    *,
    images: np.ndarray | None = None,
    positions: np.ndarray | None = None,
    **run: Any,
) -> Path:
    """A finished run with predictions, attention, sprites and position embeddings that go together.

    `images` (n, S, S, 3) uint8, by default each of another colour; `positions` (P, D) after training.
    """
    maps = maps if maps is not None else made_up_archive()
    files = [str(file) for file in maps.files]
    write_run(folder, maps.labels, maps.predicted, classes=tuple(map(str, maps.classes)), files=files, **run)
    attention = folder / "attention"
    write_archive(attention / "attention.npz", maps)
    write_archive(attention / "positions.npz", made_up_positions(positions))
    shown = colours(len(maps)) if images is None else images
    sprites.draw_sprites(maps, lambda index: shown[index], attention / "sprites")
    return folder


def colours(count: int, side: int = 16, seed: int = 3) -> np.ndarray:
    """(count, side, side, 3) uint8, each of one colour, neighbours very different ones."""
    values = np.random.default_rng(seed).integers(0, 256, (count, 3), np.uint8)
    return np.broadcast_to(values[:, None, None], (count, side, side, 3)).copy()


def damaged(content: bytes, seed: int) -> bytes:
    """The content with 40 bytes of its middle replaced by random ones."""
    random = np.random.default_rng(seed)
    start = int(random.integers(max(1, len(content) - 40)))
    return content[:start] + random.bytes(40) + content[start + 40 :]
