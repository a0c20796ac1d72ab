"""A run whose head starts from the probe of its backbone."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness import train as train_module
from harness.config import RunConfig
from harness.model.pretrained import DEMO_FILE
from harness.probe import head as head_module
from harness.train import Outcome, fit
from harness.training.checkpoint import load_tensors
from tests.conftest import write_folder
from tests.test_train import (
    in_child,
    kill_at_first_call,
    kill_at_first_validation,
    losses_of,
    on_ranks,
    rows_of,
    same_bits,
    settings,
    weights_of,
)


def probed(data_folder: Path, runs: Path, **changes: Any) -> RunConfig:
    return settings(data_folder, runs, head_init="probe", weights="demo", image_size=64, **changes)


@pytest.fixture(scope="module")
def whole(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Outcome]:
    """A run that starts from the probe; called in a test, whose environment it has."""
    return functools.cache(lambda: fit(probed(data_folder, tmp_path_factory.mktemp("whole"))))


def test_the_run_starts_from_the_probe_and_says_what_it_scored(
    data_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # At a learning rate of almost 0, training keeps the probe: its scores are those of the model.
    run = fit(probed(data_folder, tmp_path, lr=1e-30))
    summary = run.summary
    assert summary["probe/val_f1"] == pytest.approx(summary["best/val_f1"])
    assert summary["probe/val_loss"] == pytest.approx(summary["best/val_loss"], abs=1e-4)
    assert summary["probe/test_f1"] == pytest.approx(summary["test/f1"])
    assert summary["probe/gain"] == pytest.approx(0, abs=1e-12)
    assert summary["probe/gain_low"] <= 0 <= summary["probe/gain_high"]
    assert f"linear probe  val loss {summary['probe/val_loss']:.4f}" in capsys.readouterr().out
    tensors, _ = load_tensors(run.folder / "checkpoints" / "probe.safetensors")
    torch.testing.assert_close(weights_of(run)["heads.head.weight"].double(), tensors["weight"], atol=1e-6, rtol=1e-6)
    assert losses_of(run)[0] < 0.5 * np.log(3)  # a head of zeros would start at log 3


def test_a_killed_run_ends_with_the_same_bits(data_folder: Path, tmp_path: Path) -> None:
    whole = fit(probed(data_folder, tmp_path / "whole", augment="standard", ema=True))
    config = probed(data_folder, tmp_path / "killed", augment="standard", ema=True, checkpoint_every=2)
    kill_at_first_validation(config)
    resumed = fit(config)
    assert same_bits(weights_of(resumed), weights_of(whole))
    assert {key: value for key, value in resumed.summary.items() if key.startswith("probe/")} == {
        key: value for key, value in whole.summary.items() if key.startswith("probe/")
    }
    assert [row["step"] for row in rows_of(resumed) if "train/loss" in row] == list(range(1, 11))


def test_after_its_start_a_run_needs_no_weights_file(
    data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: Callable[[], Outcome]
) -> None:
    weights = tmp_path / "demo.safetensors"
    shutil.copy(DEMO_FILE, weights)
    expected = whole()
    take_step = train_module.training_step

    def step_without_weights(*arguments: Any) -> torch.Tensor:
        weights.unlink(missing_ok=True)
        return take_step(*arguments)

    monkeypatch.setattr(train_module, "training_step", step_without_weights)
    run = fit(dataclasses.replace(probed(data_folder, tmp_path / "deleted"), weights=str(weights)))
    assert not weights.exists()
    for key in ("probe/test_f1", "probe/gain", "probe/gain_low", "test/f1"):
        assert run.summary[key] == expected.summary[key]


def test_a_signal_while_features_are_computed_stops_the_run_and_it_resumes(data_folder: Path, tmp_path: Path) -> None:
    config = probed(data_folder, tmp_path)

    def stopped() -> None:
        compute = head_module.features_of

        def signal_at_test(split: Any, *rest: Any) -> np.ndarray:
            if split.files[0].startswith("test"):
                os.kill(os.getpid(), signal.SIGTERM)
            return compute(split, *rest)

        head_module.features_of = signal_at_test
        assert fit(config).state == "preempted"

    in_child(stopped)
    [folder] = tmp_path.iterdir()
    assert not (folder / "checkpoints" / "probe.safetensors").exists()
    outcome = fit(config)
    assert (outcome.state, outcome.folder) == ("finished", folder)


def test_a_probe_of_other_images_is_fitted_again(tmp_path: Path) -> None:
    data_folder = write_folder(tmp_path / "images")
    config = probed(data_folder, tmp_path / "runs")
    kill_at_first_call(config, "TrainState")
    [folder] = (tmp_path / "runs").iterdir()
    assert len(load_tensors(folder / "checkpoints" / "probe.safetensors")[0]["test_predicted"]) == 9
    (data_folder / "test" / "class 0" / "000.png").unlink()
    assert fit(config).state == "finished"
    assert len(load_tensors(folder / "checkpoints" / "probe.safetensors")[0]["test_predicted"]) == 8


def test_two_processes_give_the_same_run(data_folder: Path, tmp_path: Path, whole: Callable[[], Outcome]) -> None:
    one = whole()
    on_ranks(2, lambda: fit(probed(data_folder, tmp_path)))
    [folder] = tmp_path.iterdir()
    assert losses_of(folder) == pytest.approx(losses_of(one), rel=1e-3, abs=1e-4)
    summary = json.loads((folder / "summary.json").read_text())
    for key in ("probe/val_f1", "probe/val_loss", "probe/test_f1", "test/f1"):
        assert summary[key] == pytest.approx(one.summary[key], rel=1e-3), key
