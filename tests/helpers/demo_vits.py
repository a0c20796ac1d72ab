"""The built-in ViT with new weights, and images for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor
from torchvision.models import VisionTransformer

from harness.model.vit import build_model


def demo(**options: Any) -> VisionTransformer:
    defaults: dict[str, Any] = {"num_classes": 3, "weights": "none", "head_init": "default"}
    return build_model("vit_demo", **defaults | options).model


def random_images(count: int = 4) -> Tensor:
    return torch.randn(count, 3, 64, 64, generator=torch.Generator().manual_seed(5))


def save(path: Path, model: VisionTransformer, preprocessing: object = None) -> str:
    text = preprocessing if isinstance(preprocessing, str) else json.dumps(preprocessing)
    metadata = {} if preprocessing is None else {"preprocessing": text}
    safetensors.torch.save_file(model.state_dict(), path, metadata)
    return str(path)
