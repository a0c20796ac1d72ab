"""Small data folders as people have them, and image files with unusual content."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def coloured(seed: int, side: int = 24) -> Image.Image:
    """An RGB image with a random pattern, different for every seed."""
    cells = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(cells).resize((side, side), Image.Resampling.BICUBIC)


def write_image(path: Path, seed: int) -> Path:
    """A PNG at `path`, whatever its extension."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        coloured(seed).save(file, "PNG")
    return path


def write_splits(
    root: Path, *folders: str, classes: tuple[str, ...] = ("cat", "dog"), count: int = 4, seed: int = 0
) -> Path:
    """`count` different images per class in each of the folders, from the seed upwards."""
    for folder in folders:
        for name in classes:
            for number in range(count):
                seed += 1
                write_image(root / folder / name / f"{number:02d}.png", seed)
    return root
