"""What training and explanation need from a model's parts: the one file that names torchvision's attributes.

Another model family needs these functions for its class. Shapes: P patches, D hidden size, p patch side.
"""

from __future__ import annotations

from torch import Tensor, nn
from torchvision.models import VisionTransformer

# Parameters that weight decay leaves alone although they have two or more dimensions.
UNDECAYED = ("class_token", "encoder.pos_embedding")


def blocks(model: VisionTransformer) -> list[nn.Module]:
    """The encoder blocks, from input to output."""
    return list(model.encoder.layers)


def attention_modules(model: VisionTransformer) -> list[nn.MultiheadAttention]:
    """The self-attention module of each block, from input to output."""
    return [block.self_attention for block in model.encoder.layers]


def final_norm(model: VisionTransformer) -> nn.Module:
    """The norm whose input is the output of the last block."""
    return model.encoder.ln


def position_embedding(model: VisionTransformer) -> Tensor:
    """(1, 1 + P, D): class token first, then the patches row by row."""
    return model.encoder.pos_embedding


def class_token(model: VisionTransformer) -> Tensor:
    """(1, 1, D)."""
    return model.class_token


def patch_projection(model: VisionTransformer) -> Tensor:
    """(D, 3, p, p): the weights that turn patches into tokens."""
    return model.conv_proj.weight


def attention_input(block: nn.Module, tokens: Tensor) -> Tensor:
    """What a block's attention sees (B, N, D) of the tokens (B, N, D) that enter the block."""
    return block.get_submodule("ln_1")(tokens)
