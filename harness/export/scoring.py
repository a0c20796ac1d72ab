"""Scores images from exported files alone: `python scoring.py FORMAT PATH IMAGES.json PROBABILITIES.npy`.

A script for a fresh process. It imports nothing of this package, opens images with Pillow, and prepares them with what
the library of the format makes of the files. IMAGES.json is a list of paths; the result is float64 (N, C).
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

BATCH = 32


def opened(paths: list[str]) -> list[Image.Image]:
    """Images as most programs open them: upright, RGB."""
    images = []
    for path in paths:
        with Image.open(path) as image:
            images.append(ImageOps.exif_transpose(image).convert("RGB"))
    return images


def batches(paths: list[str]) -> Iterator[list[str]]:
    return (paths[start : start + BATCH] for start in range(0, len(paths), BATCH))


def by_timm(folder: str, paths: list[str]) -> np.ndarray:
    """timm's model and timm's evaluation transform."""
    import timm
    import torch

    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval().to(device())
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model), is_training=False)
    scores = []
    with torch.inference_mode():
        for names in batches(paths):
            images = torch.stack([transform(image) for image in opened(names)]).to(device())
            scores.append(model(images).double().softmax(1).cpu().numpy())
    return np.concatenate(scores)


def by_pipeline(folder: str, paths: list[str]) -> np.ndarray:
    """transformers' pipeline, which opens the files itself; its scores come sorted, by name."""
    from transformers import pipeline

    classify = pipeline("image-classification", folder, device=device())
    names = classify.model.config.id2label
    columns = {label: int(index) for index, label in names.items()}
    scores = np.full((len(paths), len(names)), np.nan)
    answers = classify(paths, top_k=len(names), batch_size=BATCH)
    for row, answer in zip(scores, answers, strict=True):
        for entry in answer:
            row[columns[entry["label"]]] = entry["score"]
    return scores


def by_onnxruntime(path: str, paths: list[str]) -> np.ndarray:
    """onnxruntime on the CPU, with the code beside the file."""
    import onnxruntime

    beside = importlib.util.spec_from_file_location("preprocess", Path(path).with_name("preprocess.py"))
    assert beside is not None
    assert beside.loader is not None
    preprocess = importlib.util.module_from_spec(beside)
    beside.loader.exec_module(preprocess)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return np.concatenate([preprocess.probabilities(session, opened(names)) for names in batches(paths)])


def device() -> Any:
    import torch

    torch.backends.cudnn.allow_tf32 = False  # float32 of the patch projection, as in the scores compared with
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


SCORERS: dict[str, Callable[[str, list[str]], np.ndarray]] = {
    "timm": by_timm,
    "hf": by_pipeline,
    "hf-vit": by_pipeline,
    "onnx": by_onnxruntime,
    "onnx-int8": by_onnxruntime,
}

if __name__ == "__main__":
    form, model_path, images_file, result_file = sys.argv[1:]
    np.save(result_file, SCORERS[form](model_path, json.loads(Path(images_file).read_text())))
