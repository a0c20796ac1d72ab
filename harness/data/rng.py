"""Random numbers by name: a counter-based generator for every purpose, epoch and image (Salmon et al. 2011, Philox).

A number depends on the seed, what it is for, the epoch and the image alone: never on workers, processes, the order
of work or where a run was resumed.
"""

from __future__ import annotations

import numpy as np

# One stream per purpose, so that switching one thing on leaves the numbers of the others as they were.
ORDER, PICTURE, MIX, DROP_PATH = range(4)


def generator(seed: int, stream: int, *, epoch: int, index: int = 0) -> np.random.Generator:
    """The generator of one stream in one epoch; `index` is an image of the train split, or a step."""
    # The lowest word of the counter counts the numbers drawn.
    return np.random.Generator(np.random.Philox(key=[seed, stream], counter=[0, index, epoch, 0]))
