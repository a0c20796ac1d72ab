"""Whether the classes of a data set are unbalanced, and which options correct it."""

from __future__ import annotations

import numpy as np

from harness.data.image_folder import ImageFolder
from harness.runs.rules import printable

# Classes are called unbalanced if the largest has at least this many times the training images of the smallest. The
# prior alone then prefers the one to the other by log 3 = 1.1 nats.
RATIO = 3


def imbalance_notes(folder: ImageFolder) -> list[str]:
    """A note if the classes in train are unbalanced; else empty."""
    counts = np.bincount(folder.train.labels, minlength=len(folder.classes))
    if not len(counts) or not counts.min() or counts.max() < RATIO * counts.min():
        return []
    most, fewest = (
        f"{printable(folder.classes[index])}: {counts[index]}" for index in (counts.argmax(), counts.argmin())
    )
    ratio = counts.max() / counts.min()
    return [
        f"classes of the training images are unbalanced: the largest ({most}) has {ratio:.3g} times the images of the "
        f"smallest ({fewest}); below {RATIO} they count as balanced. Compare --class-weights balanced, --sampler "
        "balanced and --logit-adjust 1 on validation; see docs/guides/unbalanced-classes.md"
    ]
