"""The test images as rows of a table for W&B: small versions of what their pages show."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from PIL import Image

from harness.explain.drawing.canvas import fitted, overlay, strip
from harness.explain.images import Crops, evenly_spaced
from harness.explain.maps import first_map
from harness.runs.attention_files import Archive

COLUMNS = (
    "picture",
    "map",
    "rollout",
    "layers",
    "heads",
    "file",
    "label",
    "prediction",
    "probability",
    "label_probability",
    "entropy",
    "distance",
    "maps_may_mislead",
)

# A row takes about 35 kB in W&B.
MOST_ROWS = 1000

SIDE = 112  # pixels of an image, about
STRIP_SIDE = 56  # pixels of a map in a strip, about


def rows(archive: Archive, crops: Crops) -> Iterator[list[Any]]:
    """COLUMNS of each image, at most MOST_ROWS of them, spread evenly; numbers are those of the last layer."""
    grid = math.isqrt(archive.rollout.shape[1])
    side, factor = grid * math.ceil(SIDE / grid), math.ceil(STRIP_SIDE / grid)
    for index in evenly_spaced(len(archive), MOST_ROWS):
        image, label = fitted(crops(index), side), int(archive.labels[index])
        yield [
            Image.fromarray(image),
            Image.fromarray(overlay(image, first_map(archive, index))),
            Image.fromarray(overlay(image, archive.rollout[index])),
            Image.fromarray(strip(archive.layers[index], factor)),
            Image.fromarray(strip(archive.heads[index], factor)),
            str(archive.files[index]),
            str(archive.classes[label]) if label >= 0 else None,
            str(archive.classes[archive.predicted[index]]),
            float(archive.probability[index]),
            float(archive.label_probability[index]) if label >= 0 else None,
            float(archive.entropy[index, -1]),
            float(archive.block_distance[index]),
            bool(archive.misleading[index]),
        ]
