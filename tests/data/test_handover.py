from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from harness.config import RunConfig
from harness.data import handover
from harness.data.handover import VARIABLE, hand_over, listed_folder
from harness.data.image_folder import fingerprint, load_image_folder
from harness.training.preflight import check_inputs


@pytest.fixture
def config(data_folder: Path, tmp_path: Path) -> RunConfig:
    return RunConfig(
        data=str(data_folder), cache_dir=str(tmp_path / "caches"), model="vit_demo", weights="none", image_size=32
    )


def refuse(config: RunConfig) -> None:
    raise AssertionError("listed again")


def test_a_run_takes_the_list_of_its_launcher(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = load_image_folder(config)
    variables = hand_over(folder, config, tmp_path / "images.json")
    assert variables == {VARIABLE: str(tmp_path / "images.json")}
    monkeypatch.setenv(*next(iter(variables.items())))
    monkeypatch.setattr(handover, "load_image_folder", refuse)
    received, _ = check_inputs(config, tmp_path / "run", [])
    assert fingerprint(received, received.digests) == fingerprint(folder, folder.digests)
    assert received.read(received.train.files[0]) == folder.read(folder.train.files[0])
    for field in dataclasses.fields(folder):
        if field.name not in ("train", "val", "test", "read"):
            assert getattr(received, field.name) == getattr(folder, field.name)
    for split, other in zip(received.splits, folder.splits, strict=True):
        assert (split.name, split.files) == (other.name, other.files)
        assert split.labels.dtype == np.int64 and np.array_equal(split.labels, other.labels)


def test_a_missing_list_or_one_of_other_settings_is_not_used(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "images.json"
    hand_over(load_image_folder(config), config, path)
    content = json.loads(path.read_text())
    content["classes"] = ["not", "these"]
    path.write_text(json.dumps(content))
    monkeypatch.setenv(VARIABLE, str(path))
    assert listed_folder(config).classes == ("not", "these")
    assert listed_folder(dataclasses.replace(config, split_seed=1)).classes == ("class 0", "class 1", "class 2")
    path.unlink()
    assert listed_folder(config).classes == ("class 0", "class 1", "class 2")


def test_images_that_are_no_files_are_listed_by_the_run(config: RunConfig, tmp_path: Path) -> None:
    folder = dataclasses.replace(load_image_folder(config), read=lambda name: b"")
    assert hand_over(folder, config, tmp_path / "images.json") == {}
    assert not (tmp_path / "images.json").exists()
