"""Whether a weights file fits a model, from the names and shapes in its header; no weights are read."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import torch
from torch import Tensor

from harness.errors import WeightsError
from harness.model.architectures import ARCHITECTURES, check_architecture
from harness.model.description import description_of
from harness.model.shards import is_index, shards_of
from harness.model.state_dict_keys import HEAD, POSITIONS, to_torchvision
from harness.model.timm_catalog import is_timm
from harness.model.vit import new_model
from harness.model.weights import check_fit, check_grid
from harness.model.weights_file import check_file, read_torch, read_weights, select


def check_header(model: str, path: Path, key: str | None) -> None:
    """WeightsError if the file is unreadable, not a Vision Transformer, or of another architecture than `model`."""
    path = check_file(path)
    state = _shapes(path, key)
    if state is None:
        return  # an old format without a header: the whole file is checked when it is loaded
    try:
        if is_timm(model):
            from harness.model.timm_weights import check_timm_header

            check_timm_header(model, path, state)
            return
        renamed, _ = to_torchvision(state)
        check_architecture(renamed, model, description_of(path).num_heads)
        _check_fit(model, renamed)
    except WeightsError as error:
        raise WeightsError(f"{path}: {problem}" for problem in error.problems) from error


def _check_fit(model: str, state: dict[str, Tensor]) -> None:
    """WeightsError if names and shapes are not those of a model of torchvision; positions may have another grid."""
    with torch.device("meta"):
        own = new_model(model, ARCHITECTURES[model].image_size, num_classes=1).state_dict()
    if (positions := state.get(POSITIONS)) is not None and positions.dim() == 3:
        check_grid(positions)
        state = state | {POSITIONS: _meta([*own[POSITIONS].shape[:2], positions.shape[2]])}
    check_fit(*({name: tensor for name, tensor in each.items() if name not in HEAD} for each in (own, state)))


def _shapes(path: Path, key: str | None) -> dict[str, Tensor] | None:
    """Names and meta tensors of the file; None if its format has no header to read them from."""
    contents: Any = {}
    try:
        for each in shards_of(path) if is_index(path) else [path]:
            part = _header(each)
            if part is None:
                return None
            contents = {**contents, **part} if is_index(path) else part
    except WeightsError:
        raise
    except Exception:
        read_weights(path)  # raises WeightsError that says what is wrong
        return None
    state, _ = select(contents, path, key)
    return {name: _meta(list(value.shape)) for name, value in state.items()}


def _header(path: Path) -> Any:
    """What a file holds, without the numbers; None if its format has no header."""
    if path.suffix.lower() == ".safetensors":
        with safetensors.safe_open(path, framework="pt") as file:
            return {name: _meta(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    if path.suffix.lower() == ".npz":
        return {name: _meta(shape) for name, shape in _npz_shapes(path).items()}
    if zipfile.is_zipfile(path):
        return read_torch(path, mmap=True)  # memory-mapped: only the table of tensors is read
    return None


def _npz_shapes(path: Path) -> dict[str, list[int]]:
    shapes = {}
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            with archive.open(name) as file:
                read = {
                    (1, 0): np.lib.format.read_array_header_1_0,
                    (2, 0): np.lib.format.read_array_header_2_0,
                }[np.lib.format.read_magic(file)]
                shapes[name.removesuffix(".npy")] = list(read(file)[0])
    return shapes


def _meta(shape: list[int]) -> Tensor:
    return torch.empty(shape, device="meta")
