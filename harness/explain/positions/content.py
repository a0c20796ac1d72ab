"""How strong patch content is beside the position embedding that is added to it."""

from __future__ import annotations

import torch
from torch import Tensor


def content_length(images: Tensor, weight: Tensor) -> Tensor:
    """Root mean square length of what patches put into the sum with their position: the projection without its bias.

    Images (B, 3, g p, g p), normalised; `weight` of the patch projection (D, 3, p, p).
    """
    with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
        content = torch.nn.functional.conv2d(images.float(), weight.float(), stride=weight.shape[-1])
        return content.square().sum(1).mean().sqrt()
