"""The built-in ViT with new weights, and images for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor
from torchvision.models import VisionTransformer

from tests.helpers.built_models import loaded_model


def demo(**options: Any) -> VisionTransformer:
    return loaded_model("vit_demo", **{"head_init": "default"} | options).model


def random_images(count: int = 4) -> Tensor:
    return torch.randn(count, 3, 64, 64, generator=torch.Generator().manual_seed(5))


def save(path: Path, model: VisionTransformer, preprocessing: object = None) -> str:
    text = preprocessing if isinstance(preprocessing, str) else json.dumps(preprocessing)
    metadata = {} if preprocessing is None else {"preprocessing": text}
    safetensors.torch.save_file(model.state_dict(), path, metadata)
    return str(path)
