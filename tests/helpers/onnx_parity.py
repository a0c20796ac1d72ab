"""A small model of timm through ONNX: its logits by onnxruntime against its own, at several batch sizes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from harness.export.onnx_file import FLOAT, write_onnx
from harness.model import adapter
from harness.model.preprocessing import Preprocessing
from tests.helpers.timm_vits import small_timm

BATCHES = (1, 2, 5)


def onnx_difference(name: str, file: Path, image_size: int = 64) -> float:
    """The largest difference of a logit, as a share of the largest logit; `name` is one of FAMILIES."""
    import onnxruntime

    model = small_timm(name, image_size)
    side = adapter.parts(model).image_size
    write_onnx(
        file, model, ("a", "b", "c", "d", "e"), Preprocessing(side, side, "bilinear", (0.5,) * 3, (0.5,) * 3), FLOAT
    )
    session = onnxruntime.InferenceSession(file)
    differences = []
    for count in BATCHES:
        images = torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(count))
        with torch.no_grad():
            expected = model(images).numpy()
        [logits] = session.run(None, {"images": images.numpy()})
        assert logits.shape == expected.shape
        differences.append(np.abs(logits - expected).max() / np.abs(expected).max())
    return float(max(differences))
