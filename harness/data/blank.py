"""Images that decode to nothing: nearly one colour, such as a white drawing on transparency."""

from __future__ import annotations

import collections
from collections.abc import Mapping

import numpy as np
from PIL import Image

from harness.data.dataset import Dataset
from harness.errors import summarise

# Steps of 255 between the darkest and the brightest pixel of each channel. 12-bit values that are read as 16-bit ones
# have 16 steps; the 2,600 images of "100 Sports" have 189 or more.
FEWEST = 17

SAMPLE = 256  # training images that a run looks at
MANY = 0.05  # share of blank images from which a run reports them


def is_blank(image: Image.Image) -> bool:
    """Whether an RGB image is nearly one colour."""
    lowest, highest = np.array(image.getextrema()).T
    return bool((highest - lowest < FEWEST).all())


def blank_by_class(blank: Mapping[str, bool], class_of: Mapping[str, str]) -> str:
    """How many images of each class are blank, "" if none is; whether a file's image is, and its class, by file."""
    names: dict[str, list[str]] = {}
    for file in blank:
        if blank[file]:
            names.setdefault(class_of[file], []).append(file)
    counts = collections.Counter(class_of[file] for file in blank)
    return summarise([f"{label} {len(names[label])} of {counts[label]} ({names[label][0]})" for label in sorted(names)])


def blank_notes(data: Dataset) -> list[str]:
    """A sentence if many training images, of an even sample, are nearly one colour."""
    places = np.unique(np.linspace(0, len(data.train) - 1, min(SAMPLE, len(data.train))).astype(int))
    images = (Image.fromarray(data.pixels.image(int(data.train.positions[place]))) for place in places)
    blank = [place for place, image in zip(places, images, strict=True) if is_blank(image)]
    if not blank or len(blank) < MANY * len(places):
        return []
    return [
        f"{len(blank)} of {len(places)} training images that were looked at are nearly one colour, such as "
        f"{summarise([data.train.files[place] for place in blank], 3)}: harness data check names all."
    ]
