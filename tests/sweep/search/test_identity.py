"""What makes two trials the same: the contents of their files, and the settings."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from harness.config import RunConfig
from harness.errors import WeightsError
from harness.model.new_model import new_model
from harness.model.shards import digest
from harness.model.vit import build_model
from harness.sweep.search import identity as identity_module
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


@pytest.mark.parametrize("key", [None, "model"])
def test_what_layer_norms_add_is_part_of_the_weights(data_folder: Path, tmp_path: Path, key: str | None) -> None:
    """config.json beside a file changes what it computes, and no byte of it."""
    save_file(new_model("vit_demo", 32, 3).state_dict(), tmp_path / "model.safetensors")
    config = RunConfig(data=str(data_folder), model="vit_demo", weights=str(tmp_path), image_size=32)
    keyed = dataclasses.replace(config, weights_key=key)
    identities = {}
    for eps in (None, 1e-6, 1e-12):
        (tmp_path / "config.json").write_text(json.dumps({"layer_norm_eps": eps} if eps else {}))
        contents = read_contents([config])
        identities[eps] = identity(keyed, contents)
        recorded = str(build_model(config, 3).weights_digest)
        if key:
            recorded = recorded.replace(" eps", f" {key} eps") if " " in recorded else f"{recorded} {key}"
        manifest = {"data": {"fingerprint": next(iter(contents.data.values()))}, "weights": {"digest": recorded}}
        assert identity(keyed, recorded_contents(keyed, manifest)) == identities[eps]
    assert identities[None] == identities[1e-6] != identities[1e-12]


def test_models_that_share_a_file_are_each_compared_with_what_it_says(
    data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a model's own layer norms add decides whether the file changes it."""
    own = {"vit_demo": 1e-6, "vit_ti_16": 1e-5}
    monkeypatch.setattr(identity_module, "_own_norm_eps", own.get)
    save_file({"cls_token": torch.zeros(1)}, tmp_path / "model.safetensors", {"norm_eps": "1e-6"})
    file = tmp_path / "model.safetensors"
    configs = [RunConfig(data=str(data_folder), model=model, weights=str(file)) for model in own]
    hashed: list[Path] = []
    with monkeypatch.context() as patch:
        patch.setattr(identity_module, "_hash_of", lambda file: hashed.append(file) or digest(file))
        together = read_contents(configs)
    assert hashed == [file]
    assert sorted(together.weights.values()) == [digest(file), f"{digest(file)} eps 1e-06"]
    for config in configs:
        assert identity(config, together) == identity(config, read_contents([config]))


def test_a_weights_file_is_identified_by_its_digest_and_a_folder_without_weights_is_refused(
    data_folder: Path, tmp_path: Path
) -> None:
    file = tmp_path / "weights.pth"
    file.write_bytes(b"weights")
    contents = read_contents([RunConfig(data=str(data_folder), weights=str(file))])
    assert contents.weights == {(str(file), "vit_b_16"): hashlib.sha256(b"weights").hexdigest()}
    (tmp_path / "empty").mkdir()
    with pytest.raises(WeightsError, match="holds no weights file"):
        read_contents([RunConfig(data=str(data_folder), weights=str(tmp_path / "empty"))])
