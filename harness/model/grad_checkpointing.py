"""Gradient checkpointing (Chen et al. 2016, arXiv 1604.06174): activations are computed twice and need less memory."""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Iterator

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from harness.model import adapter


class RecomputedBlocks(nn.Sequential):
    """Encoder blocks whose activations are computed again in the backward pass."""

    def forward(self, tokens: Tensor) -> Tensor:
        for block in self:
            if self.training:  # blocks draw no random numbers, so the RNG state needs no saving
                tokens = checkpoint(block, tokens, use_reentrant=False, preserve_rng_state=False)
            else:
                tokens = block(tokens)
        return tokens


def enable_grad_checkpointing(model: nn.Module) -> None:
    """Compute every encoder block again in the backward pass; the names of weights do not change."""
    parts = adapter.parts(model)
    if parts.recompute:
        parts.recompute(True)
        return
    holder, name = parts.block_list
    blocks = RecomputedBlocks(OrderedDict(getattr(holder, name).named_children()))
    setattr(holder, name, blocks.train(model.training))


@contextlib.contextmanager
def without_grad_checkpointing(model: nn.Module) -> Iterator[None]:
    """For gradients in eval mode, in which timm's models recompute as well."""
    recompute = adapter.parts(model).recompute
    if recompute is None or not getattr(model, "grad_checkpointing", False):
        yield
        return
    recompute(False)
    try:
        yield
    finally:
        recompute(True)
