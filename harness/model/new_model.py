"""Models by name with new weights."""

from __future__ import annotations

import dataclasses

import torch
from torch import nn
from torchvision.models import VisionTransformer

from harness.model.architectures import ARCHITECTURES
from harness.model.packed_attention import pack_attention
from harness.model.timm_catalog import is_timm
from harness.model.timm_model import new_timm_model


def new_model(name: str, image_size: int | None, num_classes: int, head_init: str = "zero", seed: int = 0) -> nn.Module:
    """The named model with new weights, which depend on the seed alone. The global random state does not change.

    Images are of the architecture's own size unless a side is given. The head is zero, as in the paper, unless
    `head_init` is default.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would also seed the GPUs
        if is_timm(name):
            return new_timm_model(name, image_size, num_classes, head_init)
        sizes = dataclasses.asdict(ARCHITECTURES[name]) | ({"image_size": image_size} if image_size else {})
        model = VisionTransformer(**sizes, num_classes=num_classes)
        if head_init == "default":  # torchvision's is zero
            model.heads.head = nn.Linear(sizes["hidden_dim"], num_classes)
    pack_attention(model)
    return model
