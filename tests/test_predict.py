from __future__ import annotations

import csv
import dataclasses
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from harness.cli import main
from harness.evidence import verify
from harness.explain import standalone
from harness.explain.output_folder import OutputFolder
from harness.model.pretrained import DEMO_FILE
from harness.model.weights_file import read_weights
from harness.predict import Predictor, best_of, initial_model
from harness.prediction import Prediction, find_images
from harness.train import Outcome, fit
from harness.training.checkpoint import load_tensors, save_tensors
from tests.conftest import write_folder
from tests.test_train import settings


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, data_folder: Path) -> Outcome:
    patch = pytest.MonkeyPatch()
    home = tmp_path_factory.mktemp("once")
    patch.setenv("WANDB_MODE", "disabled")
    patch.setenv("HARNESS_CACHE_DIR", str(home / "pictures"))
    outcome = fit(settings(data_folder, home / "runs", lr=1e-3, ema=True, drop_path=0.1))
    patch.undo()
    return outcome


def test_evaluating_again_gives_the_same_numbers(finished: Outcome) -> None:
    result = CliRunner().invoke(main.main, ["evaluate", str(finished.folder), "--json"])
    assert result.exit_code == 0, result.output
    again = json.loads(result.stdout)
    assert again == {name: value for name, value in finished.summary.items() if name.startswith("test/")}


def test_a_run_of_a_gpu_in_fp16_can_be_used_on_a_cpu(
    finished: Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = shutil.copytree(finished.folder, tmp_path / "from a GPU")
    tensors, metadata = load_tensors(run / "checkpoints" / "best.safetensors")
    metadata["config"]["precision"] = "fp16"
    save_tensors(run / "checkpoints" / "best.safetensors", tensors, metadata)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    result = CliRunner().invoke(main.main, ["evaluate", str(run), "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["test/f1"] == finished.summary["test/f1"]
    assert best_of(run).config.precision == "fp32"


def test_the_initial_model_has_the_weights_of_the_key_that_the_run_was_given(finished: Outcome, tmp_path: Path) -> None:
    state = dict(read_weights(DEMO_FILE)[0])
    torch.save({"zero": {name: value * 0 for name, value in state.items()}, "demo": state}, tmp_path / "both.pth")
    best = best_of(finished.folder)
    for key in ("zero", "demo"):
        config = dataclasses.replace(best.config, weights=str(tmp_path / "both.pth"), weights_key=key)
        model = initial_model(dataclasses.replace(best, config=config), finished.folder)
        positions = model.state_dict()["encoder.pos_embedding"]
        assert positions.count_nonzero() == (0 if key == "zero" else positions.numel()), key


class _OpenedError(Exception):
    """The run is open; what follows is not tested here."""


def raise_opened() -> None:
    raise _OpenedError


def test_data_that_changed_since_the_run_is_reported(
    data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = Path(shutil.copytree(data_folder, tmp_path / "data"))
    finished = fit(settings(data, tmp_path / "runs", epochs=1))
    arguments = ["evaluate", str(finished.folder)]
    assert CliRunner().invoke(main.main, arguments).stderr.count("have changed since the run") == 0
    # Labels swapped: the counts stay, the scores do not.
    test = data / "test"
    for old, new in (("class 0", "x"), ("class 1", "class 0"), ("x", "class 1")):
        (test / old).rename(test / new)
    result = CliRunner().invoke(main.main, arguments)
    assert result.exit_code == 0
    assert f"Images or labels in {data} have changed since the run" in result.stderr
    (test / "class 2" / "000.png").unlink()
    result = CliRunner().invoke(main.main, [*arguments, "--json"])
    assert json.loads(result.stdout)["test/n"] == 8
    changed = "The numbers of images (now {'train': 21, 'val': 9, 'test': 8}, then"
    assert changed in result.stderr
    # explain and verify say it, too, before they compute anything.
    for module, name in ((standalone, "_model_of"), (verify, "open_for_verifying")):
        monkeypatch.setattr(module, name, lambda *_: raise_opened())
    said: list[str] = []
    with pytest.raises(_OpenedError):
        standalone.explain_run(finished.folder, OutputFolder.of_run(finished.folder), None, None, None, said.append)
    with pytest.raises(_OpenedError):
        verify.verify(finished.folder, 4, None, None, None, said.append)
    assert len(said) == 2 and all(sentence.startswith(changed) for sentence in said)


def test_a_checkpoint_does_not_choose_the_cache_folder(finished: Outcome, data_folder: Path, tmp_path: Path) -> None:
    run = shutil.copytree(finished.folder, tmp_path / "from elsewhere")
    checkpoint = run / "checkpoints" / "best.safetensors"
    tensors, metadata = load_tensors(checkpoint)
    metadata["config"]["cache_dir"] = str(tmp_path / "chosen by the checkpoint")
    save_tensors(checkpoint, tensors, metadata)
    assert CliRunner().invoke(main.main, ["evaluate", str(run)]).exit_code == 0
    assert not (tmp_path / "chosen by the checkpoint").exists()
    assert CliRunner().invoke(main.main, ["evaluate", str(run), "--cache-dir", str(tmp_path / "mine")]).exit_code == 0
    assert any((tmp_path / "mine").iterdir())


def test_other_data_needs_the_same_classes(finished: Outcome, tmp_path: Path, data_folder: Path) -> None:
    other = write_folder(tmp_path / "other", classes=4)
    result = CliRunner().invoke(main.main, ["evaluate", str(finished.folder), "--data", str(other)])
    assert result.exit_code == 1
    assert "differ in their classes: class 3. Give a folder with the 3 classes of the run" in result.output

    moved = shutil.copytree(data_folder, tmp_path / "moved")
    result = CliRunner().invoke(main.main, ["evaluate", str(finished.folder), "--data", str(moved)])
    assert result.exit_code == 0
    assert f"test macro F1           {finished.summary['test/f1']:.4f}" in result.output
    assert f"test balanced accuracy  {finished.summary['test/balanced_accuracy']:.4f}" in result.output


def test_predicting_agrees_with_the_tested_predictions(finished: Outcome, data_folder: Path) -> None:
    with (finished.folder / "predictions.csv").open() as file:
        tested = list(csv.DictReader(file))
    result = CliRunner().invoke(
        main.main, ["predict", str(finished.folder), *(str(data_folder / row["file"]) for row in tested)]
    )
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert len(lines) == 9
    for row, line in zip(tested, lines, strict=True):
        assert line.startswith(f"{data_folder / row['file']}: {row['prediction']} {float(row['probability']):.1%}, ")


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


@pytest.fixture
def mixed(tmp_path: Path, data_folder: Path) -> Path:
    """A folder with two images, one of them below it, and what a folder may hold besides."""
    folder = tmp_path / "mixed"
    (folder / "below").mkdir(parents=True)
    shutil.copy(data_folder / "test" / "class 0" / "000.png", folder / "below" / "a.png")
    shutil.copy(data_folder / "test" / "class 1" / "000.png", folder / "b.PNG")
    (folder / "notes.txt").write_text("not listed")
    (folder / ".hidden.png").write_text("not listed")
    return folder


def predict(finished: Outcome, *arguments: object) -> Result:
    return CliRunner().invoke(main.main, ["predict", str(finished.folder), *map(str, arguments)])


def test_a_folder_and_a_pattern_name_the_images_below_them_once(finished: Outcome, mixed: Path) -> None:
    expected = [str(mixed / "b.PNG"), str(mixed / "below" / "a.png")]
    for paths in ([mixed], [mixed / "**" / "*.[pP][nN][gG]"], [mixed, mixed / "b.PNG"]):
        result = predict(finished, *paths)
        assert (result.exit_code, result.stderr) == (0, "")
        assert [line.partition(": ")[0] for line in result.stdout.splitlines()] == expected


def test_top_sets_how_many_classes_a_line_has(finished: Outcome, mixed: Path) -> None:
    for top, expected in ((1, 1), (2, 2), (9, 3)):
        result = predict(finished, mixed / "b.PNG", "--top", top)
        assert result.stdout.count("%") == expected


def test_what_cannot_be_used_is_named_and_the_rest_is_predicted(finished: Outcome, mixed: Path) -> None:
    (mixed / "broken.png").write_bytes((mixed / "b.PNG").read_bytes()[:200])
    (mixed / "empty").mkdir()
    os.mkfifo(mixed / "pipe.png")
    (mixed / "link.png").symlink_to(mixed / "missing")
    result = predict(finished, mixed, mixed / "empty", mixed / "no.png", mixed / "*.gif", "/dev/zero")
    assert result.exit_code == 1
    assert len(result.stdout.splitlines()) == 2
    problems = dict(line.split(" cannot be used: ") for line in result.stderr.splitlines())
    assert problems.pop(str(mixed / "empty")).startswith("the folder holds no images (.jpg, ")
    assert problems == {
        str(mixed / "broken.png"): "truncated.",
        str(mixed / "pipe.png"): "it is a named pipe, not a file.",
        str(mixed / "link.png"): "the file does not exist.",
        str(mixed / "no.png"): "the file does not exist.",
        str(mixed / "*.gif"): "the pattern matches no file.",
        "/dev/zero": "it is a device, not a file.",
    }


def test_json_and_csv_hold_the_probabilities_of_all_classes(finished: Outcome, mixed: Path, tmp_path: Path) -> None:
    result = predict(finished, mixed, mixed / "no.png", "--json")
    assert result.exit_code == 1
    entries = json.loads(result.stdout)
    table = tmp_path / "out" / "table.csv"
    assert predict(finished, mixed, "--csv", table).exit_code == 0
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    printed = predict(finished, mixed, "--csv", "-")
    assert printed.stdout_bytes == table.read_bytes()
    assert len(rows) == len(entries) == 2
    for row, entry in zip(rows, entries, strict=True):
        probabilities = entry["probabilities"]
        assert list(probabilities) == ["class 0", "class 1", "class 2"]
        assert sum(probabilities.values()) == pytest.approx(1)
        assert entry["probability"] == probabilities[entry["prediction"]] == max(probabilities.values())
        assert (row["file"], row["prediction"]) == (entry["file"], entry["prediction"])
        for name, value in probabilities.items():
            assert float(row[f"probability/{name}"]) == pytest.approx(value, rel=1e-5)


def test_a_table_that_cannot_be_written_is_one_sentence(finished: Outcome, mixed: Path) -> None:
    os.mkfifo(mixed / "pipe")
    for path, reason in (
        (mixed / "pipe", "is not a file"),
        (mixed / "b.PNG" / "table.csv", "cannot be written"),
        ("/proc/table.csv", "cannot be written"),
    ):
        result = predict(finished, mixed / "b.PNG", "--csv", path)
        assert result.exit_code == 1
        assert f"Error: --csv {path} {reason}" in result.stderr
        assert result.stderr.count("\n") == 1


def test_no_batch_size_changes_the_predictions(
    finished: Outcome, data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = sorted((data_folder / "test").rglob("*.png"))
    whole = list(Predictor(finished.folder).predict(images))
    monkeypatch.setattr("harness.predict.CPU_SCORING_BATCH", 2)
    monkeypatch.setattr("harness.predict.GPU_SCORING_BATCH", 2)
    for one, other in zip(whole, Predictor(finished.folder).predict(images), strict=True):
        np.testing.assert_allclose(one.probabilities, other.probabilities, atol=1e-5)


def test_a_batch_that_does_not_fit_memory_is_halved(
    finished: Outcome, data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor, sizes = Predictor(finished.folder), []
    forward = predictor.model.forward

    def limited(images: torch.Tensor) -> torch.Tensor:
        sizes.append(len(images))
        if len(images) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return forward(images)

    monkeypatch.setattr(predictor.model, "forward", limited)
    predictions = list(predictor.predict(sorted((data_folder / "test").rglob("*.png"))))
    assert [prediction.problem for prediction in predictions] == [""] * 9
    assert sizes == [9, 5, 3, 2, 4, 2, 2]


def test_names_are_escaped_for_the_terminal(finished: Outcome, mixed: Path, tmp_path: Path) -> None:
    """Of images, and of the classes in a checkpoint from elsewhere."""
    run = shutil.copytree(finished.folder, tmp_path / "from elsewhere")
    tensors, metadata = load_tensors(run / "checkpoints" / "best.safetensors")
    metadata["classes"] = ["\x1b[2Jcat", "dog\nError: no", "cow"]
    save_tensors(run / "checkpoints" / "best.safetensors", tensors, metadata)
    (mixed / "b.PNG").rename(mixed / "b\x1b[31m\n.png")
    (mixed / "c\x1b[31m\n.png").write_text("broken")
    result = CliRunner().invoke(main.main, ["predict", str(run), str(mixed)])
    assert result.exit_code == 1
    assert "\x1b" not in result.output
    assert len(result.stdout.splitlines()) == 2
    assert len(result.stderr.splitlines()) == 1
    assert "\\x1b[2Jcat" in result.stdout
    assert "dog\\nError: no" in result.stdout
    assert "c\\x1b[31m\\n.png cannot be used" in result.stderr


@pytest.mark.parametrize("command", ["evaluate", "predict", "explain"])
def test_what_is_not_a_run_folder_is_refused(command: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    os.mkfifo(tmp_path / "pipe")
    for name, reason in (("file", "is not a folder"), ("pipe", "is not a folder"), ("missing", "does not exist")):
        result = CliRunner().invoke(main.main, [command, str(tmp_path / name), *(["x.png"] * (command == "predict"))])
        assert result.exit_code == 1
        assert result.output == f"Error: {tmp_path / name} {reason}; give a run folder.\n"


def test_a_second_run_folder_is_not_a_folder_of_images(tmp_path: Path) -> None:
    """`harness predict runs/lr0.0001* images` gives two runs if the pattern matches two."""
    for name in ("config.json", "summary.json", "figures/positions.png"):
        (tmp_path / "run" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "run" / name).touch()
    [found] = find_images([tmp_path / "run"])
    assert isinstance(found, Prediction)
    assert found.problem == "it is a run folder, not a folder of images"
