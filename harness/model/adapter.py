"""The parts of a Vision Transformer that training and explanation use; only this file names torchvision's attributes.

timm's are named in timm_parts.py.

Shapes: B images, N tokens (first T prefix tokens, then P patches row by row), D hidden size, p side of a patch.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import VisionTransformer

from harness.errors import HarnessError
from harness.model.vit_parts import NO_POSITIONS, TokenLayout, VitParts

__all__ = ["FAMILIES", "NO_POSITIONS", "TokenLayout", "VitParts", "parts", "torchvision_parts"]


def torchvision_parts(model: VisionTransformer) -> VitParts:
    """Of torchvision.models.VisionTransformer."""
    num_layers = len(model.encoder.layers)

    def embed(images: Tensor) -> Tensor:
        patches = model._process_input(images)
        return torch.cat([model.class_token.expand(len(images), -1, -1), patches], dim=1) + model.encoder.pos_embedding

    def extend_branches(block: Any, module: type[nn.Module]) -> None:
        block.dropout = nn.Sequential(block.dropout, module())
        block.mlp.append(module())

    def depth(name: str) -> int:
        if block := re.match(r"encoder\.layers\.encoder_layer_(\d+)\.", name):
            return int(block[1]) + 1
        if name.startswith(("conv_proj.", "class_token", "encoder.pos_embedding")):
            return 0
        if name.startswith(("encoder.ln.", "heads.")):
            return num_layers + 1
        raise ValueError(f"{name} is not a parameter of a VisionTransformer")

    return VitParts(
        layout=TokenLayout(prefix=1, has_class_token=True, pools_patches=False),
        image_size=model.image_size,
        patch_projection=model.conv_proj,
        class_token=model.class_token,
        positions=model.encoder.pos_embedding,
        positioned_prefix=1,
        block_list=(model.encoder, "layers"),
        embed=embed,
        attention=lambda block: block.self_attention,
        extend_branches=extend_branches,
        final_norm=model.encoder.ln,
        head=model.heads.head,
        head_name="heads.head",
        positions_name="encoder.pos_embedding",
        undecayed=frozenset({"class_token", "encoder.pos_embedding"}),
        depth=depth,
    )


# One function for each family of models.
FAMILIES: dict[type[nn.Module], Callable[[Any], VitParts]] = {VisionTransformer: torchvision_parts}


def parts(model: nn.Module) -> VitParts:
    """The parts of a model of a known family; HarnessError for another one."""
    for family, describe in FAMILIES.items():
        if isinstance(model, family):
            return describe(model)
    if any(kind.__module__.startswith("timm.") for kind in type(model).__mro__):
        from harness.model.timm_parts import timm_parts  # timm is an extra, and slow to import

        return timm_parts(model)
    known = ", ".join(f"{family.__name__} of {family.__module__.partition('.')[0]}" for family in FAMILIES)
    raise HarnessError(
        f"harness/model/adapter.py does not describe the parts of {type(model).__name__}. It describes those of "
        f"{known}."
    )
