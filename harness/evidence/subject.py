"""What is examined: a model in evaluation mode, and the test images it is examined on.

Shapes: n images, B of them in a batch, S pixels a side, D hidden size, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from torch import Tensor, nn

from harness.model.adapter import parts
from harness.runs.resampling import wilson


@dataclass(frozen=True, eq=False)
class Subject:
    """A model, its test images, and what it predicts for them."""

    model: nn.Module  # in eval mode, on the device; neither compiled nor wrapped
    batches: Callable[[], Iterator[Tensor]]  # normalised images (B, 3, S, S), from the first one on at each call
    labels: np.ndarray  # (n,) int64
    predicted: np.ndarray  # (n,) int64
    num_classes: int

    def __len__(self) -> int:
        return len(self.labels)

    def with_rows(self) -> Iterator[tuple[np.ndarray, Tensor]]:
        """Batches, each with the places (B,) of its images among the n."""
        seen = 0
        for images in self.batches():
            yield np.arange(seen, seen + len(images)), images
            seen += len(images)

    @property
    def beats_guessing(self) -> bool:
        """Whether the lower end of accuracy's interval is above the share of the most frequent class."""
        right = int((self.labels == self.predicted).sum())
        largest_share = np.bincount(self.labels).max() / len(self)
        return bool(wilson(right, len(self))[0] > largest_share)


def logits_from(model: nn.Module, tokens: Tensor, first_block: int = 0) -> Tensor:
    """Logits (B, C) of tokens (B, any number, D) that enter block `first_block` (from 0)."""
    vit = parts(model)
    for block in vit.blocks[first_block:]:
        tokens = block(tokens)
    return vit.head(vit.features(tokens))
