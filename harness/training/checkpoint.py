"""The best checkpoint and the state to resume from: atomic files with a checksum; reading them runs no code."""

from __future__ import annotations

import dataclasses
import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torchvision.models import VisionTransformer

from harness.config import RunConfig
from harness.errors import TrainingError
from harness.files import replacing
from harness.model.vit import Preprocessing, build_model

CHECKSUM = "checksum"  # metadata key; files of earlier versions lack it


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Write a safetensors file atomically, with a checksum; each metadata value is stored as JSON."""
    on_cpu = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    texts = {key: json.dumps(value) for key, value in metadata.items()}
    texts[CHECKSUM] = json.dumps(_checksum(on_cpu, texts))
    with replacing(path) as beside:
        save_file(on_cpu, beside, texts)


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors (on the CPU) and metadata of a file written by `save_tensors`; TrainingError if it is damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            texts = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = {key: json.loads(value) for key, value in texts.items()}
    except (SafetensorError, json.JSONDecodeError) as error:
        raise _damaged(path, str(error)) from error
    expected = metadata.pop(CHECKSUM, None)
    if expected is not None and expected != _checksum(tensors, texts):
        raise _damaged(path, "its content does not match its checksum")
    return tensors, metadata


def _damaged(path: Path, reason: str) -> TrainingError:
    return TrainingError(f"{path} is damaged ({reason}). Give the same command with --fresh to start over.")


def _checksum(tensors: Mapping[str, Tensor], texts: Mapping[str, str]) -> str:
    """CRC-32 of names, types, shapes, values and metadata. It detects damage, not manipulation.

    CRC-32 detects every single flipped byte and costs a fraction of what writing the file costs.
    """
    crc = 0
    for key in sorted(texts.keys() - {CHECKSUM}):
        crc = zlib.crc32(f"{key}={texts[key]};".encode(), crc)
    for name in sorted(tensors):
        value = tensors[name]
        crc = zlib.crc32(f"{name} {value.dtype} {tuple(value.shape)};".encode(), crc)
        crc = zlib.crc32(value.contiguous().reshape(-1).view(torch.uint8).numpy().data, crc)
    return f"crc32:{crc:08x}"


def flatten_optimizer(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's tensors under flat names, as safetensors requires: `optimizer.3.exp_avg`."""
    return {
        f"optimizer.{index}.{name}": value if isinstance(value, Tensor) else torch.tensor(value)
        for index, values in optimizer.state_dict()["state"].items()
        for name, value in values.items()
        if value is not None
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Load the tensors of `flatten_optimizer`; parameter groups come from the config, not from the file."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimizer."):
            _, index, name = key.split(".", 2)
            state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def with_prefix(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": value for name, value in tensors.items()}


def without_prefix(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(f"{prefix}."): value for name, value in tensors.items() if name.startswith(f"{prefix}.")}


def save_best(
    path: Path,
    weights: Mapping[str, Tensor],
    config: RunConfig,
    classes: Sequence[str],
    preprocessing: Preprocessing,
    scores: Mapping[str, float],
) -> None:
    """Write a self-contained checkpoint: weights under torchvision's names, config, classes and preprocessing."""
    metadata = {
        "config": config.to_dict(),
        "classes": list(classes),
        "preprocessing": dataclasses.asdict(preprocessing),
        "scores": dict(scores),
    }
    save_tensors(path, weights, metadata)


def best_scores(path: Path) -> dict[str, float]:
    """The validation scores of a best checkpoint; empty if the file does not exist."""
    return load_tensors(path)[1]["scores"] if path.exists() else {}


@dataclasses.dataclass(frozen=True)
class BestCheckpoint:
    """A run's best checkpoint, ready to predict."""

    model: VisionTransformer
    config: RunConfig
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    scores: dict[str, float]


def load_best(path: Path) -> BestCheckpoint:
    """The model of `best.safetensors` in evaluation mode, on the CPU in float32."""
    weights, metadata = load_tensors(path)
    try:
        config, classes = RunConfig.from_dict(metadata["config"]), tuple(metadata["classes"])
        stored = metadata["preprocessing"]
        preprocessing = Preprocessing(**stored | {"mean": tuple(stored["mean"]), "std": tuple(stored["std"])})
        scores = metadata["scores"]
    except (KeyError, TypeError) as error:
        raise TrainingError(f"{path} is not a checkpoint of a run: its metadata lacks {error}.") from error
    model = build_model(
        config.model, num_classes=len(classes), weights="none", image_size=preprocessing.crop_size
    ).model
    model.load_state_dict(weights)
    return BestCheckpoint(model.eval(), config, classes, preprocessing, scores)
