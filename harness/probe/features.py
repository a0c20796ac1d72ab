"""Features of a frozen backbone: what its classification head would see of each image, computed once and kept."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from torch import nn

from harness.config import RunConfig
from harness.data.cache import cache_directory
from harness.data.dataset import CachedImages
from harness.data.store import mark_used
from harness.evaluate import outputs_of
from harness.files import replacing
from harness.model import adapter
from harness.model.vit import Loaded
from harness.training.dataloaders import scoring_batches
from harness.training.distributed import Processes

FORMAT = 1


def features_of(split: CachedImages, loaded: Loaded, config: RunConfig, processes: Processes) -> np.ndarray:
    """Features (N, D) float32 of a split, in its order, on the main process; (0, D) elsewhere. Every rank calls it.

    They are kept in the folder `features` of the image cache, by images, weights and preprocessing, so that all runs
    that start from the same backbone share them. The model is on the run's device, in float32 whatever --precision.
    """
    model = loaded.model
    path = cache_directory(config.cache_dir) / "features" / f"{_key(split, loaded, config)}.safetensors"
    width = adapter.parts(model).head.in_features
    kept = _read(path, len(split), width) if processes.is_main else None
    if processes.from_main(kept is not None):  # a flag: the other ranks have no use for the features
        return np.empty((0, width), np.float32) if kept is None else kept
    batches = scoring_batches(split, loaded.preprocessing, config, processes)
    training = model.training
    with without_head(model):
        features, _ = outputs_of(model.eval(), batches, len(split), width, processes)
    model.train(training)
    processes.on_main(lambda: _write(path, features))  # a full disk is an error on all ranks
    return features


@contextlib.contextmanager
def without_head(model: nn.Module) -> Iterator[None]:
    """Within it, the model returns features (B, D): what its head would read."""
    handle = adapter.parts(model).head.register_forward_hook(lambda head, inputs, output: inputs[0])
    try:
        yield
    finally:
        handle.remove()


def _key(split: CachedImages, loaded: Loaded, config: RunConfig) -> str:
    """Changes with anything that changes a feature: image contents and their order, weights, preprocessing."""
    what = {
        "format": FORMAT,
        "images": [split.cache.digests[position] for position in split.positions],
        "model": config.model,
        "weights": loaded.weights_digest or f"new, seed {config.seed}",
        "preprocessing": dataclasses.asdict(loaded.preprocessing),
    }
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:32]


def _write(path: Path, features: np.ndarray) -> None:
    with replacing(path) as beside:
        save_file({"features": features}, beside)


def _read(path: Path, count: int, width: int) -> np.ndarray | None:
    """Features that are kept, (N, D) float32; None where there are none or the file is damaged."""
    try:
        features = load_file(path)["features"]
    except (OSError, SafetensorError, KeyError):
        return None
    mark_used(path)
    usable = features.shape == (count, width) and features.dtype == np.float32 and np.isfinite(features).all()
    return features if usable else None
