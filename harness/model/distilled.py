"""timm's distilled DeiT (Touvron et al. 2021) with its two heads as one.

Its logits are (W₁ x₁ + b₁ + W₂ x₂ + b₂) / 2 of the class token x₁ and the distillation token x₂, which is one linear
layer that reads both. Shapes: B images, N tokens, D hidden size, C classes.
"""

from __future__ import annotations

from typing import Any

import torch
from timm.models.deit import VisionTransformerDistilled
from torch import Tensor, nn

READ = 2  # tokens that the head reads


class OneHead(VisionTransformerDistilled):
    """`head` has weights (C, 2 D); there is no `head_dist`."""

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Logits (B, C) of normed tokens (B, N, D), or what the head reads (B, 2 D)."""
        both = self.head_drop(x[:, :READ].flatten(1))
        return both if pre_logits else self.head(both)


def with_one_head(model: Any) -> Any:
    """A distilled model of timm with a new head in place of its two; any other model as it is."""
    if isinstance(model, VisionTransformerDistilled):
        del model.head_dist
        model.head = nn.Linear(READ * model.embed_dim, model.num_classes) if model.num_classes else nn.Identity()
        model.__class__ = OneHead  # timm cannot be asked for another class
    return model


def join_heads(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state of timm's distilled model as one of OneHead; any other state as it is."""
    if not {"head.weight", "head.bias", "head_dist.weight", "head_dist.bias"} <= state.keys():
        return state
    plain = {name: tensor for name, tensor in state.items() if not name.startswith("head_dist.")}
    plain["head.weight"] = torch.cat([state["head.weight"], state["head_dist.weight"]], dim=1) / 2
    plain["head.bias"] = (state["head.bias"] + state["head_dist.bias"]) / 2
    return plain


def split_heads(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The opposite of `join_heads`, with the same bias in both heads."""
    if "dist_token" not in state:
        return state
    head, head_dist = (2 * half for half in state["head.weight"].chunk(READ, dim=1))
    bias = state["head.bias"]
    return state | {"head.weight": head, "head_dist.weight": head_dist, "head_dist.bias": bias.clone()}
