"""The images as the model saw them, small and many to a file: what a report shows maps over, without the data.

In `attention/sprites/`: sheets `000.jpg`, `001.jpg`, ... of COLUMNS x ROWS cells of SIDE pixels, filled row by row, the
last one no taller than its rows; and `sprites.json`, which lists the layout and the images of `attention.npz` that are
shown. It is written last and removed first, so the sheets are complete if it exists.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from harness.explain.drawing.canvas import fitted
from harness.explain.drawing.image_page import save
from harness.explain.images import evenly_spaced
from harness.files import write_atomically
from harness.runs.attention_files import Archive
from harness.runs.rules import SPRITES_FILE, VERSION

SIDE = 160  # pixels of a cell; a multiple of 16, JPEG's largest block: no cell's colours run into the next one's
COLUMNS, ROWS = 10, 5
QUALITY, SUBSAMPLING = 80, 2  # about 6 kB for a photograph; colours at half resolution
MOST = 5000  # images, about 30 MB; of more, as many are chosen, spread evenly


def draw_sprites(archive: Archive, images: Callable[[int], np.ndarray], folder: Path) -> list[Path]:
    """Write the sheets and their description; `images(i)` is uint8 (S, S, 3)."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / SPRITES_FILE).unlink(missing_ok=True)
    chosen = evenly_spaced(len(archive), MOST)
    digest = hashlib.blake2b(digest_size=16)
    sheets: list[Path] = []
    for first in range(0, len(chosen), COLUMNS * ROWS):
        sheet_images = [images(index) for index in chosen[first : first + COLUMNS * ROWS]]
        for image in sheet_images:
            digest.update(np.ascontiguousarray(image).data)
        path = folder / sheet_name(len(sheets))
        save(Image.fromarray(sheet(sheet_images)), path, quality=QUALITY, subsampling=SUBSAMPLING)
        sheets.append(path)
    about: dict[str, Any] = {
        "version": VERSION,
        "side": SIDE,
        "columns": COLUMNS,
        "rows": ROWS,
        "sheets": [path.name for path in sheets],
        "pictures": chosen,
        # Runs that saw the same pixels have the same sheets, which a report then keeps once.
        "pixels": digest.hexdigest(),
    }
    write_atomically(folder / SPRITES_FILE, json.dumps(about).encode())
    return sheets


def sprite_names(archive: Archive) -> list[str]:
    """File names of all sheets of an archive."""
    return [sheet_name(number) for number in range(math.ceil(min(len(archive), MOST) / (COLUMNS * ROWS)))]


def sheet_name(number: int) -> str:
    return f"{number:03}.jpg"


def sheet(images: Sequence[np.ndarray]) -> np.ndarray:
    """Up to COLUMNS x ROWS images (S, S, 3) as cells of one; those that are left over are black."""
    rows = math.ceil(len(images) / COLUMNS)
    cells = np.zeros((rows, COLUMNS, SIDE, SIDE, 3), np.uint8)
    for number, image in enumerate(images):
        cells[divmod(number, COLUMNS)] = fitted(image, SIDE)
    return cells.swapaxes(1, 2).reshape(rows * SIDE, COLUMNS * SIDE, 3)
