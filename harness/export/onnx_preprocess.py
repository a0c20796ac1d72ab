"""Images for the ONNX model beside this file, prepared as in training. Needs numpy, Pillow and onnxruntime."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from PIL import Image, ImageOps


def prepare(image: Image.Image, about: dict[str, Any]) -> np.ndarray:
    """The short side to `resize_size`, the centre `crop_size`: (3, S, S), uint8 pixels or normalised float32."""
    image = ImageOps.exif_transpose(image).convert("RGB")
    short, size = min(image.size), about["crop_size"]
    shape = [int(about["resize_size"] * side / short) for side in image.size]
    way = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}[about["interpolation"]]
    resized = image.resize((shape[0], shape[1]), way)
    left, top = (round((side - size) / 2) for side in resized.size)
    pixels = np.asarray(resized)[top : top + size, left : left + size].transpose(2, 0, 1)
    if about["input"] == "uint8":
        return pixels
    mean, std = (np.array(about[name], np.float32).reshape(3, 1, 1) for name in ("mean", "std"))
    return (pixels.astype(np.float32) / 255 - mean) / std


def probabilities(session: Any, images: list[Image.Image]) -> np.ndarray:
    """(N, C) of a list of images; `session` is onnxruntime.InferenceSession("model.onnx")."""
    about = json.loads(session.get_modelmeta().custom_metadata_map["preprocessing"])
    [logits] = session.run(None, {"images": np.stack([prepare(image, about) for image in images])})
    exponentials = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def classes(session: Any) -> list[str]:
    """The names of the C classes, in the order of the probabilities."""
    return json.loads(session.get_modelmeta().custom_metadata_map["classes"])
