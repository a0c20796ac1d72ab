"""Random numbers by name: a counter-based generator per purpose, epoch and image (Salmon et al. 2011, Philox).

A number depends only on the seed, the purpose, the epoch and the image: not on workers, processes, the order
of work or where a run was resumed.
"""

from __future__ import annotations

import numpy as np

# One stream per purpose, so that enabling one option does not change the numbers of the others.
ORDER, IMAGE, MIX, DROP_PATH, CLASS_ORDER = range(5)


def generator(seed: int, stream: int, *, epoch: int, index: int = 0) -> np.random.Generator:
    """The generator of one stream in one epoch; `index` is an image of the train split, or a step."""
    # The lowest word of the counter counts the numbers drawn.
    return np.random.Generator(np.random.Philox(key=[seed, stream], counter=[0, index, epoch, 0]))
