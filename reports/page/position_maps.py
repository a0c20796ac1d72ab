"""The data of a run's position embeddings as maps, which the page draws, in `data/positions-<key>.js`.

P = g² patches row by row. A tile is the similarity of one patch with all patches. Cosines are bytes: 0 is -1, 254 is 1,
255 is not finite.
"""

from __future__ import annotations

import base64
from typing import Any

import numpy as np

from harness.runs.attention_files import PositionArchive, read_positions
from harness.runs.embeddings import cosine, movement
from reports.page.site import Site
from reports.runs import Run
from reports.stats.positions import POSITIONS
from reports.values import rounded

LAYOUT = 1  # version of these files: another one writes all of them again
# Of all tiles of a run: of a 24 x 24 grid all patches have a tile, of a finer one those of every second row and column.
MOST_CELLS = 450_000
STEPS = 127  # between a cosine of 0 and one of 1
NOT_FINITE = 255


def write_position_maps(site: Site, key: str, run: Run) -> None:
    """Write the maps of a run that has position embeddings. Raises UnreadableError."""
    about = (run.path / POSITIONS).stat()
    stamp = f"{LAYOUT} {MOST_CELLS} {about.st_mtime_ns} {about.st_size}"
    site.made_data(f"positions-{key}", stamp, lambda: position_maps(read_positions(run.path)))


def position_maps(archive: PositionArchive) -> dict[str, Any]:
    """Tiles, similarities of the class token, and movements of the patches; cosines as bytes in base64."""
    both, side = archive.patches, archive.side
    step = _step(side)
    with_tile = np.arange(side * side).reshape(side, side)[step // 2 :: step, step // 2 :: step].ravel()
    return {
        "side": side,
        "step": step,  # every so many rows and columns, from the row step // 2 on, a patch has a tile
        "tiles": [_bytes(cosine(patches[with_tile], patches)) for patches in both],
        "token": [_bytes(cosine(token, patches)) for token, patches in zip(archive.class_tokens, both, strict=True)],
        # Over the typical length of an embedding before.
        "moved": [rounded(value, 3) for value in movement(*both).tolist()],
    }


def _step(side: int) -> int:
    """The smallest step with which tiles have at most MOST_CELLS cells."""
    steps = range(1, side + 1)
    return next((step for step in steps if len(range(step // 2, side, step)) ** 2 * side**2 <= MOST_CELLS), side)


def _bytes(values: np.ndarray) -> str:
    levels = np.full(values.shape, NOT_FINITE, np.uint8)
    finite = np.isfinite(values)
    levels[finite] = np.rint((values[finite].clip(-1, 1) + 1) * STEPS).astype(np.uint8)
    return base64.b64encode(levels.tobytes()).decode()
