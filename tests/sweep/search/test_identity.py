"""What makes two trials the same: the contents of their files, and the settings."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import pytest
import torch

from harness.config import RunConfig
from harness.errors import WeightsError
from harness.model.shards import digest
from harness.sweep.search.identity import identity, read_contents, recorded_contents


def sharded(folder: Path, value: float) -> Path:
    """A model in one shard and its index; the index of another `value` is the same."""
    folder.mkdir()
    torch.save({"cls_token": torch.full((1,), value)}, folder / "pytorch_model-00001-of-00001.bin")
    index = folder / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"weight_map": {"cls_token": "pytorch_model-00001-of-00001.bin"}}))
    return index


def test_weights_in_several_files_are_identified_by_all_of_them(data_folder: Path, tmp_path: Path) -> None:
    one, other, copy = (sharded(tmp_path / name, value) for name, value in (("1", 1.0), ("2", 2.0), ("3", 1.0)))
    assert one.read_bytes() == other.read_bytes()
    paths = (one, one.parent, other, other.parent, copy)
    configs = [RunConfig(data=str(data_folder), weights=str(path)) for path in paths]
    contents = read_contents(configs)
    first, first_folder, second, second_folder, third = (identity(config, contents) for config in configs)
    assert first == first_folder == third
    assert second == second_folder != first
    for key in (None, "model"):  # a run of these weights is found, and started with --weights-key, too
        config = dataclasses.replace(configs[0], weights_key=key)
        data = {"fingerprint": next(iter(contents.data.values()))}
        recorded = {"data": data, "weights": {"digest": digest(one) + (f" {key}" if key else "")}}
        assert identity(config, recorded_contents(config, recorded)) == identity(config, contents)


def test_a_weights_file_is_identified_by_its_digest_and_a_folder_without_weights_is_refused(
    data_folder: Path, tmp_path: Path
) -> None:
    file = tmp_path / "weights.pth"
    file.write_bytes(b"weights")
    contents = read_contents([RunConfig(data=str(data_folder), weights=str(file))])
    assert contents.weights == {str(file): hashlib.sha256(b"weights").hexdigest()}
    (tmp_path / "empty").mkdir()
    with pytest.raises(WeightsError, match="holds no weights file"):
        read_contents([RunConfig(data=str(data_folder), weights=str(tmp_path / "empty"))])
