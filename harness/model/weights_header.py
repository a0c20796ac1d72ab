"""Names and shapes of the weights in a file, from its header; no weights are read."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import torch
from torch import Tensor

from harness.errors import WeightsError
from harness.model.shards import is_index, shards_of
from harness.model.weights_file import read_torch, read_weights, select


def shapes_of(path: Path, key: str | None) -> dict[str, Tensor] | None:
    """Names and meta tensors of the file; None if its format has no header to read them from."""
    try:
        if is_index(path):
            contents: Any = {}
            for shard in shards_of(path):
                if (part := _header(shard)) is None:
                    return None
                contents |= part
        elif (contents := _header(path)) is None:
            return None
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
        return _npz_header(path)
    if zipfile.is_zipfile(path):
        return read_torch(path, mmap=True)  # memory-mapped: only the table of tensors is read
    return None


def _npz_header(path: Path) -> dict[str, Tensor]:
    tensors = {}
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            with archive.open(name) as file:
                shape, *_ = readers[np.lib.format.read_magic(file)](file)
                tensors[name.removesuffix(".npy")] = _meta(list(shape))
    return tensors


def _meta(shape: list[int]) -> Tensor:
    return torch.empty(shape, device="meta")
