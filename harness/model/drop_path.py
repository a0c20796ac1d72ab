"""Stochastic depth (Huang et al. 2016, arXiv 1603.09382) with factors that the loader draws for each image.

Shapes: B images, N tokens, D hidden size, L blocks of two residual branches each.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from harness.model import adapter


class DropPath(nn.Module):
    """Multiplies the residual branch (B, N, D) of each image by its factor; returns it unchanged in evaluation mode."""

    def __init__(self) -> None:
        super().__init__()
        self.scale: Tensor | None = None  # (B,)

    def forward(self, branch: Tensor) -> Tensor:
        if self.scale is None or not self.training:
            return branch
        return branch * self.scale[:, None, None]


def add_drop_path(model: nn.Module) -> None:
    """Put a DropPath at the end of both residual branches of every block; the names of weights do not change."""
    parts = adapter.parts(model)
    for block in parts.blocks:
        parts.extend_branches(block, DropPath)


def set_drop_path(model: nn.Module, scale: Tensor | None) -> None:
    """Set the factor of every image and branch (B, 2 L): 0, or 1 / (1 - rate). None keeps every branch unchanged.

    With gradient checkpointing the factors must stay until the backward pass has ended.
    """
    drops = [module for module in model.modules() if isinstance(module, DropPath)]
    columns = [None] * len(drops) if scale is None else scale.unbind(1)
    for drop, column in zip(drops, columns, strict=True):
        drop.scale = column


def drop_path_rates(num_layers: int, rate: float) -> Tensor:
    """Rates of all branches (2 L,), in the order of `set_drop_path`: linear from 0 at the first block to `rate`."""
    return torch.linspace(0.0, rate, num_layers).repeat_interleave(2)
