"""Features of a frozen backbone: what the head sees, kept by images, weights and preprocessing."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness.config import RunConfig
from harness.data.dataset import Dataset, open_dataset
from harness.data.image_folder import load_image_folder
from harness.model.vit import Loaded, build_model
from harness.probe import features as features_module
from harness.probe.features import features_of, without_head
from harness.training.dataloaders import scoring_batches
from harness.training.distributed import Processes
from tests.test_train import settings


@pytest.fixture
def processes(data_folder: Path, tmp_path: Path) -> Iterator[Processes]:
    processes = Processes(settings(data_folder, tmp_path))
    yield processes
    processes.close()


def opened(data_folder: Path, runs: Path, **changes: Any) -> tuple[RunConfig, Loaded, Dataset]:
    config = settings(data_folder, runs, **changes)
    loaded = build_model(dataclasses.replace(config, head_init="default"), 3)
    folder = load_image_folder(config)
    return config, loaded, open_dataset(folder, loaded.preprocessing, config)


def test_features_through_the_head_are_the_logits(data_folder: Path, tmp_path: Path, processes: Processes) -> None:
    config, loaded, data = opened(data_folder, tmp_path)
    features = features_of(data.train, loaded, config, processes)
    assert features.shape == (21, 128) and features.dtype == np.float32
    expected = torch.empty(21, 3)
    with torch.inference_mode():
        for images, _, positions in scoring_batches(data.train, loaded.preprocessing, config, processes):
            expected[positions] = loaded.model.eval()(images)
        logits = loaded.model.heads(torch.from_numpy(features))
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)


def test_features_are_computed_once(
    data_folder: Path, tmp_path: Path, processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, loaded, data = opened(data_folder, tmp_path)
    first = features_of(data.val, loaded, config, processes)
    monkeypatch.setattr(features_module, "outputs_of", lambda *_: pytest.fail("computed again"))
    np.testing.assert_array_equal(features_of(data.val, loaded, config, processes), first)


@pytest.mark.parametrize("changes", [{"seed": 1}, {"crop_pct": 0.5}, {"image_size": 64}])
def test_other_weights_or_preprocessing_are_other_features(
    data_folder: Path, tmp_path: Path, processes: Processes, changes: dict[str, Any]
) -> None:
    config, loaded, data = opened(data_folder, tmp_path)
    first = features_of(data.val, loaded, config, processes)
    config, loaded, data = opened(data_folder, tmp_path, **changes)
    assert not np.array_equal(features_of(data.val, loaded, config, processes), first)


def test_a_damaged_file_is_computed_again(data_folder: Path, tmp_path: Path, processes: Processes) -> None:
    config, loaded, data = opened(data_folder, tmp_path, cache_dir=str(tmp_path / "cache"))
    first = features_of(data.val, loaded, config, processes)
    (kept,) = (tmp_path / "cache" / "features").iterdir()
    kept.write_bytes(kept.read_bytes()[:100])
    np.testing.assert_array_equal(features_of(data.val, loaded, config, processes), first)


def test_the_head_is_back_afterwards(data_folder: Path, tmp_path: Path) -> None:
    _, loaded, _ = opened(data_folder, tmp_path)
    heads = loaded.model.heads
    with pytest.raises(ZeroDivisionError), without_head(loaded.model):
        raise ZeroDivisionError
    assert loaded.model.heads is heads
