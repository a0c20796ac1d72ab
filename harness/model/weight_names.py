"""torchvision's names of weights as those of timm and of Hugging Face's ViTForImageClassification."""

from __future__ import annotations

import re

import torch
from torch import Tensor

from harness.model.state_dict_keys import KEY, QUERY, VALUE, Naming, naming_of


def to_timm(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights under the names of timm's VisionTransformer."""
    return _renamed(state, naming_of("timm"), "blocks")


def to_hugging_face(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights under the names that files of ViTForImageClassification have; queries, keys and values apart."""
    renamed = _renamed(_split_attention(state), naming_of("Hugging Face"), "encoder.layer")
    return {name if name.startswith("classifier.") else f"vit.{name}": tensor for name, tensor in renamed.items()}


def _renamed(state: dict[str, Tensor], naming: Naming, blocks: str) -> dict[str, Tensor]:
    """The state under a library's names; KeyError for a weight that the library does not have."""
    in_block = naming_of("torchvision").block
    # Of two spellings in the table, the first is that of files.
    inside = {ours: theirs for theirs, ours in reversed(naming.inside.items())}
    outside = {ours: theirs for theirs, ours in naming.outside.items()}
    renamed = {}
    for name, tensor in state.items():
        plain = name.replace(".in_proj_", ".in_proj.")  # nn.MultiheadAttention's weight and bias are not in a module
        module, _, part = plain.rpartition(".")
        if block := re.fullmatch(in_block, module):
            renamed[f"{blocks}.{block[1]}.{inside[block[2]]}.{part}"] = tensor
        elif plain in outside:  # a parameter, as the class token
            renamed[outside[plain]] = tensor
        else:
            renamed[f"{outside[module]}.{part}"] = tensor
    return renamed


def _split_attention(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """in_proj, (3 D, D) or (3 D), as the modules of queries, keys and values."""
    split = {}
    for name, tensor in state.items():
        if match := re.fullmatch(r"(.+\.)self_attention\.in_proj_(weight|bias)", name):
            for module, third in zip((QUERY, KEY, VALUE), tensor.chunk(3), strict=True):
                split[f"{match[1]}{module}.{match[2]}"] = third
        else:
            split[name] = tensor
    return {name: torch.clone(tensor).contiguous() for name, tensor in split.items()}
