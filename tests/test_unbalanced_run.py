"""Runs on unbalanced classes: the same on any number of processes, resumed to the bit, checked before they start."""

from __future__ import annotations

import dataclasses
import functools
import json
from pathlib import Path
from typing import Any

import pytest

from harness.errors import HarnessError, TrainingError
from harness.train import fit
from tests.conftest import write_images
from tests.test_train import RANDOM, kill_after_step, losses_of, on_ranks, same_bits, settings, stop_after, weights_of

CORRECTIONS = {
    "weights": {"class_weights": "balanced", "label_smoothing": 0.1},
    "sampler": {"sampler": "balanced"},
    "adjusted": {"logit_adjust": 1.0},
}


@pytest.fixture(scope="module")
def unbalanced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine, four and two training images of three classes, three of each to validate and to test."""
    root = tmp_path_factory.mktemp("unbalanced")
    for number, (split, counts) in enumerate({"train": (9, 4, 2), "valid": (3, 3, 3), "test": (3, 3, 3)}.items()):
        for hue, count in enumerate(counts):
            write_images(root / split / f"class {hue}", count, hue=hue, seed=number)
    return root


def only_folder(runs: Path) -> Path:
    [folder] = (path for path in runs.iterdir() if not path.name.startswith("."))
    return folder


MIXED: dict[str, Any] = {"batch_size": 4, "mixup": 0.4}


@functools.cache
def losses_without_correction(data: Path) -> list[float]:
    return losses_of(fit(settings(data, data.with_name("uncorrected"), **MIXED)))


@pytest.mark.parametrize("name", CORRECTIONS)
def test_processes_and_micro_batches_do_not_change_the_run(unbalanced: Path, tmp_path: Path, name: str) -> None:
    """Of two processes, each has two images of a batch of four, one after the other."""
    changes = MIXED | CORRECTIONS[name]
    one = losses_of(fit(settings(unbalanced, tmp_path / "1", **changes)))
    on_ranks(2, lambda: fit(settings(unbalanced, tmp_path / "2", micro_batch=1, **changes)))
    assert losses_of(only_folder(tmp_path / "2")) == pytest.approx(one, rel=1e-4, abs=1e-5)
    assert losses_without_correction(unbalanced) != pytest.approx(one, rel=1e-3)


@pytest.mark.parametrize("name", ["weights", "sampler"])
def test_killed_in_an_epoch_the_same_command_ends_with_the_same_bits(
    unbalanced: Path, tmp_path: Path, name: str
) -> None:
    changes = {"batch_size": 4, **RANDOM, **CORRECTIONS[name]}  # four steps an epoch
    config = settings(unbalanced, tmp_path / "killed", checkpoint_every=1, **changes)
    whole = fit(dataclasses.replace(config, runs_dir=str(tmp_path / "whole")))
    for step in (2, 6):  # in the first and, resumed, in the second epoch
        kill_after_step(config, step, 1)
    resumed = fit(config)
    assert same_bits(weights_of(resumed), weights_of(whole))
    assert losses_of(resumed) == losses_of(whole)


def test_a_file_of_weights_is_recorded_and_must_not_change_before_a_run_resumes(
    unbalanced: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "weights.csv"
    file.write_text("class 0,0.5\nclass 1,1\nclass 2,2\n")
    config = settings(unbalanced, tmp_path / "runs", class_weights=str(file), batch_size=4)
    stop_after(config, 2)
    folder = only_folder(tmp_path / "runs")
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["class_weights"] == {"class 0": 0.5, "class 1": 1.0, "class 2": 2.0}

    file.write_text("class 0,0.5\nclass 1,1\nclass 2,3\n")
    with pytest.raises(TrainingError, match="The class weights changed since this run was interrupted"):
        fit(config)
    file.write_text("class 0,0.5\nclass 1,1\nclass 2,2\n")
    assert fit(config).state == "finished"
    assert "Class weights: 0.5 (class 0) to 2 (class 2)." in capsys.readouterr().out


def test_a_file_that_does_not_fit_is_refused_with_the_other_problems(unbalanced: Path, tmp_path: Path) -> None:
    file = tmp_path / "weights.json"
    file.write_text(json.dumps({"class 0": 1, "class 3": 1}))
    with pytest.raises(HarnessError) as error:
        fit(settings(unbalanced, tmp_path / "runs", class_weights=str(file), explain_layer=99))
    assert error.value.exit_code == 2
    assert not (tmp_path / "runs").exists()
    unknown, missing, layer = error.value.problems
    assert layer.startswith("--explain-layer is 99")
    assert unknown == f"--class-weights {file} has classes that the data does not have: class 3."
    assert missing == f"--class-weights {file} has no weight for 2 of 3 classes: class 1, class 2."
