"""What the parts of a Vision Transformer are called, whatever its family.

Shapes: B images, N tokens (first T prefix tokens, then P patches row by row), D hidden size, p side of a patch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

NO_POSITIONS = "The model has no learned position embedding: its position figures are left out."


@dataclass(frozen=True)
class TokenLayout:
    """Where the class token, registers and patches are among the tokens, and which of them the head reads."""

    prefix: int  # T: class token and registers
    has_class_token: bool  # if so, it is the first token
    pools_patches: bool  # the head reads the mean of all patches; if False, the class token
    pools_by_attention: bool = False  # the head reads what one more attention pools; pools_patches is True as well
    read: int = 1  # leading tokens that the head reads if it does not pool patches: a distillation token is the second

    def pool(self, values: Tensor) -> Tensor:
        """The mean over what the head reads of values of all tokens: (..., N, K) -> (..., 1, K)."""
        if self.pools_patches:
            return values[..., self.prefix :, :].mean(-2, keepdim=True)
        return values[..., :1, :] if self.read == 1 else values[..., : self.read, :].mean(-2, keepdim=True)


@dataclass(frozen=True, eq=False)
class VitParts:
    """The parts of one model. Tensors and modules are the model's own, not copies."""

    layout: TokenLayout
    image_size: int  # pixels of a side
    patch_projection: nn.Conv2d  # weights (D, 3, p, p); it makes the patches. Behind a stem, the last convolution
    class_token: Tensor | None  # (1, 1, D)
    positions: Tensor | None  # (1, Q + P, D), learned and added to the tokens; None if a family has none
    positioned_prefix: int  # Q: how many of the prefix tokens have a position
    block_list: tuple[nn.Module, str]  # the module and its attribute that hold the blocks, an nn.Sequential
    embed: Callable[[Tensor], Tensor]  # images (B, 3, S, S) -> tokens (B, N, D) that enter the first block
    attention: Callable[[Any], Any]  # the self-attention module of a block, with its number of heads as num_heads
    extend_branches: Callable[[Any, type[nn.Module]], None]  # adds a module at the end of both branches of a block
    final_norm: nn.Module  # its input is what leaves the last block
    head: nn.Linear  # its input (B, D), of two tokens (B, 2 D), is what the probe calls features
    head_name: str  # of the head in the model's state
    positions_name: str | None
    undecayed: frozenset[str]  # parameters of two or more dimensions that have no weight decay
    depth: Callable[[str], int]  # distance of a parameter from the input, for layer-wise decay; ValueError if unknown
    # What only families of timm have.
    relative_positions: bool = False  # blocks take positions besides tokens, so that `embed` alone is not their input
    attention_bias: bool = False  # of these positions, those that are added to the attention before its softmax
    pool: Callable[[Tensor], Tensor] | None = None  # attention pooling: normed tokens (B, N, D) -> (B, D), in one call
    pooled_norm: Callable[[Tensor], Tensor] | None = None  # of what was pooled (B, D), before the head
    grid_side: int | None = None  # patches per row, where the stem does more than the patch projection
    last_depth: int | None = None  # the largest depth, if it is not the number of blocks + 1
    recompute: Callable[[bool], None] | None = None  # turns the family's own gradient checkpointing on or off
    no_positions: str = NO_POSITIONS  # why there are no position figures, if there are none

    @property
    def blocks(self) -> list[nn.Module]:
        """From input to output."""
        holder, name = self.block_list
        return list(getattr(holder, name))

    @property
    def attentions(self) -> list[Any]:
        """The self-attention of each block, from input to output."""
        return [self.attention(block) for block in self.blocks]

    @property
    def patch_size(self) -> int:
        """Pixels of a side of a patch, p."""
        return self.image_size // self.grid

    @property
    def grid(self) -> int:
        """Patches per row and per column; P is its square."""
        return self.grid_side or self.image_size // self.patch_projection.kernel_size[0]

    @property
    def head_depth(self) -> int:
        """The depth of the head, for layer-wise decay."""
        return self.last_depth or len(self.blocks) + 1

    def features(self, tokens: Tensor) -> Tensor:
        """What the head reads (B, D) of tokens (B, N, D) as they leave the last block."""
        normed = self.final_norm(tokens)
        if self.layout.read > 1:
            return normed[:, : self.layout.read].flatten(1)
        pooled = self.layout.pool(normed)[:, 0] if self.pool is None else self.pool(normed)
        return pooled if self.pooled_norm is None else self.pooled_norm(pooled)

    def logits_of_one(self, token: Tensor) -> Tensor:
        """Logits (B, C) that the head gives to single tokens (B, D), as if each was all that leaves the last block."""
        normed = self.final_norm(token).tile(1, self.layout.read)
        # Attention over equal tokens gives what it gives for one; timm's leaves out as many as are prefix tokens.
        pooled = normed if self.pool is None else self.pool(normed[:, None].expand(-1, self.layout.prefix + 1, -1))
        return self.head(pooled if self.pooled_norm is None else self.pooled_norm(pooled))

    def patch_positions(self) -> Tensor | None:
        """(1, P, D)."""
        return None if self.positions is None else self.positions[:, self.positioned_prefix :]

    def class_position(self) -> Tensor | None:
        """(1, 1, D): what is added to the class token; 0 if it has no position."""
        if self.positions is None:
            return None
        first = self.positions[:, :1]
        return first if self.positioned_prefix and self.layout.has_class_token else torch.zeros_like(first)
