"""What is examined: a model in evaluation mode, and the test images it is examined on.

Shapes: n images, B of them in a batch, S pixels a side, L blocks, N tokens (class token first), P = N - 1 patches,
D hidden size, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torchvision.models import VisionTransformer

from harness.model import adapter
from harness.runs.resampling import wilson


@dataclass(frozen=True, eq=False)
class Subject:
    """A model, its test images, and what it predicts for them."""

    model: VisionTransformer  # in eval mode, on the device; neither compiled nor wrapped
    batches: Callable[[], Iterator[Tensor]]  # normalised images (B, 3, S, S), from the first one on at each call
    labels: np.ndarray  # (n,) int64
    predicted: np.ndarray  # (n,) int64
    num_classes: int

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def beats_guessing(self) -> bool:
        """Whether the lower end of accuracy's interval is above the share of the most frequent class."""
        right = int((self.labels == self.predicted).sum())
        largest_share = np.bincount(self.labels).max() / len(self)
        return bool(wilson(right, len(self))[0] > largest_share)


def embed(model: VisionTransformer, images: Tensor) -> Tensor:
    """The tokens (B, N, D) that enter the first block: class token and patches, with positions added."""
    return patch_tokens(model, images) + adapter.position_embedding(model)


def patch_tokens(model: VisionTransformer, images: Tensor) -> Tensor:
    """The same before positions are added."""
    patches = model._process_input(images)
    return torch.cat([adapter.class_token(model).expand(len(images), -1, -1), patches], dim=1)


def logits_from(model: VisionTransformer, tokens: Tensor, first_block: int = 0) -> Tensor:
    """Logits (B, C) of tokens (B, any number, D) that enter block `first_block` (from 0)."""
    for block in adapter.blocks(model)[first_block:]:
        tokens = block(tokens)
    return classify(model, tokens[:, 0])


def classify(model: VisionTransformer, class_tokens: Tensor) -> Tensor:
    """Logits (B, C) of class tokens (B, D) as they leave a block: the final norm, then the head."""
    return model.heads(adapter.final_norm(model)(class_tokens))
