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
from torch import Tensor, nn

from harness.config import RunConfig
from harness.errors import HarnessError, TrainingError
from harness.files import replacing
from harness.model.architectures import entry_of
from harness.model.lora import adapters, merged
from harness.model.new_model import new_model
from harness.model.norm_eps import checked_norm_eps, set_norm_eps
from harness.model.preprocessing import Preprocessing, checked_preprocessing
from harness.model.state_dict_keys import HEAD, POSITIONS
from harness.model.timm_catalog import is_timm
from harness.model.timm_model import check_model_name
from harness.runs.reading import ANOTHER_RUN, START_OVER, kind_of, parse_json
from harness.runs.rules import ADAPTER, is_number

CHECKSUM = "checksum"  # metadata key; files of earlier versions lack it


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Write a safetensors file atomically, with a checksum; each metadata value is stored as JSON."""
    on_cpu = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    texts = {key: json.dumps(value) for key, value in metadata.items()}
    texts[CHECKSUM] = json.dumps(_checksum(on_cpu, texts))
    with replacing(path) as beside:
        save_file(on_cpu, beside, texts)


def load_tensors(path: Path, remedy: str = START_OVER) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors (on the CPU) and metadata of a file written by `save_tensors`; TrainingError if it is damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            texts = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = {key: parse_json(value) for key, value in texts.items()}
    except (SafetensorError, ValueError) as error:
        raise damaged(path, str(error), remedy) from error
    expected = metadata.pop(CHECKSUM, None)
    if expected is not None and expected != _checksum(tensors, texts):
        raise damaged(path, "its content does not match its checksum", remedy)
    return tensors, metadata


def damaged(path: Path, reason: str, remedy: str = START_OVER) -> TrainingError:
    """The error for a checkpoint or a state that cannot be used."""
    return TrainingError(f"{path} is damaged ({reason}). {remedy}")


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
    eps: float | None = None,
) -> None:
    """Write a self-contained checkpoint: weights, merged if a run has LoRA, config, classes and preprocessing.

    `eps` is that of the model's layer norms, if all have the same. LoRA's adapters alone are written beside it.
    """
    metadata: dict[str, Any] = {
        "config": config.to_dict(),
        "classes": list(classes),
        "preprocessing": dataclasses.asdict(preprocessing),
        "scores": dict(scores),
    }
    if eps is not None:
        metadata["norm_eps"] = eps
    # The adapters first: a run that is killed in between still has the earlier scores, so it writes both again.
    if small := adapters(weights):
        save_tensors(path.with_name(ADAPTER), small, {"config": config.to_dict()})
    save_tensors(path, merged(weights), metadata)


def best_scores(path: Path) -> dict[str, float]:
    """The validation scores of a best checkpoint; empty if the file does not exist. TrainingError if damaged."""
    if not path.exists():
        return {}
    stored = load_tensors(path)[1].get("scores")
    scores: dict[str, float] = stored if isinstance(stored, dict) else {}
    for key in ("best/epoch", "best/val_f1", "best/val_loss"):
        if not is_number(value := scores.get(key)):
            raise damaged(path, f"{key} of its scores is {kind_of(value)} instead of a number", START_OVER)
    return scores


@dataclasses.dataclass(frozen=True)
class BestCheckpoint:
    """A run's best checkpoint, ready to predict."""

    model: nn.Module
    config: RunConfig
    classes: tuple[str, ...]
    preprocessing: Preprocessing


def load_best(path: Path) -> BestCheckpoint:
    """The model of `best.safetensors` in evaluation mode, on the CPU in float32. Raises TrainingError."""
    weights, metadata = load_tensors(path, ANOTHER_RUN)
    if missing := [key for key in ("config", "classes", "preprocessing") if key not in metadata]:
        raise TrainingError(f"{path} is not a checkpoint of a run: its metadata lacks {', '.join(missing)}.")
    try:
        config = _checked_config(metadata["config"])
        preprocessing = checked_preprocessing(metadata["preprocessing"])
        classes = checked_classes(metadata["classes"], weights)
        check_model_name(config.model)
        _check_image_size(config.model, preprocessing.crop_size, weights)
        model = new_model(config.model, preprocessing.crop_size, len(classes))
        model.load_state_dict(weights)
        if (eps := metadata.get("norm_eps")) is not None:  # earlier versions do not write it
            set_norm_eps(model, checked_norm_eps(eps))
    except HarnessError as error:
        raise damaged(path, "; ".join(error.problems), ANOTHER_RUN) from error
    except RuntimeError as error:
        raise damaged(path, f"its weights do not fit {config.model}", ANOTHER_RUN) from error
    except ValueError as error:
        raise damaged(path, str(error), ANOTHER_RUN) from error
    return BestCheckpoint(model.eval(), config, classes, preprocessing)


def _checked_config(values: object) -> RunConfig:
    if not isinstance(values, dict):
        raise ValueError(f"config is {kind_of(values)} instead of an object")
    try:
        return RunConfig.from_dict(values)
    except TypeError as error:
        raise ValueError(f"config: {error}") from error


def checked_classes(names: object, weights: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Class names from metadata. Raises ValueError unless they are as many as the head has outputs."""
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
        raise ValueError("classes is not a list of different names")
    head = weights.get(HEAD[0])
    if head is not None and len(head) != len(names):
        raise ValueError(f"it names {len(names)} classes and its head has {len(head)}")
    return tuple(names)


def _check_image_size(model: str, crop_size: int, weights: Mapping[str, Tensor]) -> None:
    """Raise ValueError unless images of this size have as many patches as the weights, before a model is built."""
    entry = entry_of(model)
    patches_per_side, rest = divmod(crop_size, entry.patch_size)
    positions = weights.get("pos_embed" if is_timm(model) else POSITIONS)
    counts = [patches_per_side**2 + prefix for prefix in (0, entry.prefix)]
    if rest or (positions is not None and (positions.dim() != 3 or positions.shape[1] not in counts)):
        raise ValueError(f"images of crop_size {crop_size} do not fit its position embedding")
