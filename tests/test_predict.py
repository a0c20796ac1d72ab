from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness.cli import main
from harness.train import Outcome, fit
from tests.conftest import write_folder
from tests.test_train import settings


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Outcome:
    patch = pytest.MonkeyPatch()
    home = tmp_path_factory.mktemp("once")
    patch.setenv("WANDB_MODE", "disabled")
    patch.setenv("HARNESS_CACHE_DIR", str(home / "pictures"))
    outcome = fit(settings(photos, home / "runs", lr=1e-3, ema=True, drop_path=0.1))
    patch.undo()
    return outcome


def test_evaluating_again_gives_the_same_numbers(finished: Outcome) -> None:
    result = CliRunner().invoke(main.main, ["evaluate", str(finished.folder), "--json"])
    assert result.exit_code == 0, result.output
    again = json.loads(result.stdout)
    assert again == {name: value for name, value in finished.summary.items() if name.startswith("test/")}


def test_other_data_needs_the_same_classes(finished: Outcome, tmp_path: Path, photos: Path) -> None:
    other = write_folder(tmp_path / "other", classes=4)
    result = CliRunner().invoke(main.main, ["evaluate", str(finished.folder), "--data", str(other)])
    assert result.exit_code == 1
    assert "differ in their classes: class 3. Give a folder with the 3 classes of the run" in result.output

    moved = shutil.copytree(photos, tmp_path / "moved")
    result = CliRunner().invoke(main.main, ["evaluate", str(finished.folder), "--data", str(moved)])
    assert result.exit_code == 0
    assert f"test macro F1       {finished.summary['test/f1']:.4f}" in result.output


def test_predicting_agrees_with_the_tested_predictions(finished: Outcome, photos: Path) -> None:
    with (finished.folder / "predictions.csv").open() as file:
        tested = list(csv.DictReader(file))
    result = CliRunner().invoke(
        main.main, ["predict", str(finished.folder), *(str(photos / row["file"]) for row in tested)]
    )
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert len(lines) == 9
    for row, line in zip(tested, lines, strict=True):
        assert line.startswith(f"{photos / row['file']}: {row['prediction']} {float(row['probability']):.1%}, ")


@pytest.mark.parametrize("command", [["evaluate"], ["predict"]])
def test_a_folder_without_a_checkpoint_is_refused(command: list[str], tmp_path: Path) -> None:
    result = CliRunner().invoke(main.main, [*command, str(tmp_path), *(["x.png"] if command == ["predict"] else [])])
    assert result.exit_code == 1
    assert f"{tmp_path} holds no best checkpoint" in result.output


def test_a_file_that_is_no_picture_is_named(finished: Outcome, tmp_path: Path) -> None:
    (tmp_path / "notes.jpg").write_text("not an image")
    result = CliRunner().invoke(main.main, ["predict", str(finished.folder), str(tmp_path / "notes.jpg")])
    assert result.exit_code == 1
    assert f"{tmp_path / 'notes.jpg'} cannot be used:" in result.output
