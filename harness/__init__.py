"""Fine-tune Vision Transformers, sweep their settings and look inside them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.trained import TrainedModel

__version__ = "0.1.0"
__all__ = ["load"]


def load(run: str | os.PathLike[str]) -> TrainedModel:
    """The best checkpoint of a run folder, to classify images and to see where it attends: for notebooks and scripts.

    model = harness.load("runs/lr0.0001_bs16_standard_s0-b3507653")
    model.predict(["a.jpg", "b.jpg"]).top(3)
    model.attention("a.jpg").over_image(0)

    Images are paths, Pillow images or uint8 arrays, one or a list. Raises HarnessError if there is no checkpoint.
    """
    from harness.trained import TrainedModel  # imports torch, which `import harness` should not

    return TrainedModel(run)
