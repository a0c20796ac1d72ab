"""Commands on run folders whose files hold valid or invalid JSON of a wrong type: one sentence each, no traceback."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import load_file, safe_open, save_file

from harness.cli.main import main, run
from harness.config import RunConfig
from harness.errors import SurroundingsError, TrainingError
from harness.options import arguments
from harness.predict import open_run
from harness.runs.context import RunContext
from harness.runs.folder import BEST
from harness.train import Outcome, fit
from harness.training import checkpoint
from reports.page.build import build
from tests.helpers.built_models import loaded_model
from tests.helpers.pages import Page
from tests.test_train import settings

WRONG = {
    "null": b"null",
    "list": b"[]",
    "text": b'"text"',
    "number": b"3",
    "step of a wrong type": b'{"step": []}',
    "not UTF-8": b"\xff\xfe{}",
    "deep": b"[" * 10_000,
}
# `{"step": []}` is a valid object: an unknown entry of these files is kept.
OBJECTS = {name: content for name, content in WRONG.items() if name != "step of a wrong type"}
FILES = ("config.json", "manifest.json", "summary.json", "metrics.jsonl")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("damaged")


@pytest.fixture(scope="module")
def patch(home: Path) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "disabled")
        patch.setenv("HARNESS_CACHE_DIR", str(home / "pixels"))
        yield patch


@pytest.fixture(scope="module")
def finished(home: Path, data_folder: Path, patch: pytest.MonkeyPatch) -> Outcome:
    return fit(settings(data_folder, home / "runs"))


@pytest.fixture(scope="module")
def interrupted(home: Path, data_folder: Path, patch: pytest.MonkeyPatch) -> tuple[RunConfig, Path]:
    """A run that stopped after its first epoch, and its settings."""
    config = settings(data_folder, home / "interrupted", checkpoint_every=1)
    with pytest.MonkeyPatch.context() as stop:
        save_best = checkpoint.save_best
        epochs: list[int] = []

        def fail_in_epoch_two(*arguments: Any, **options: Any) -> None:
            if epochs:
                raise RuntimeError("interrupted")
            epochs.append(1)
            save_best(*arguments, **options)

        stop.setattr("harness.train.save_best", fail_in_epoch_two)
        with pytest.raises(RuntimeError, match="interrupted"):
            fit(config)
    [folder] = (home / "interrupted").iterdir()
    return config, folder


def copied(run: Path, tmp_path: Path) -> Path:
    return shutil.copytree(run, tmp_path / run.name)


def invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, list(map(str, arguments)))


def train_again(config: RunConfig, runs_dir: Path) -> Result:
    """The command of a run, as its launcher starts it."""
    return CliRunner().invoke(run, arguments(dataclasses.replace(config, runs_dir=str(runs_dir))))


def commands_on(folder: Path, data_folder: Path) -> list[list[str | Path]]:
    image = next(data_folder.rglob("*.png"))
    return [
        ["evaluate", folder],
        ["predict", folder, image],
        ["explain", folder, image, "--output", folder.parent / "maps"],
    ]


def is_one_sentence(result: Result, *parts: str) -> None:
    """The command ends with exit code 1 or 2 and one error line that holds these parts."""
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code in (1, 2), result.output
    errors = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1, result.output
    assert "Traceback" not in result.output
    for part in parts:
        assert part in errors[0], errors[0]


def test_the_interrupted_run_resumes(interrupted: tuple[RunConfig, Path], tmp_path: Path) -> None:
    """The tests below are about a run that would resume."""
    config, folder = interrupted
    copied(folder, tmp_path)
    outcome = fit(RunConfig.from_dict(config.to_dict() | {"runs_dir": str(tmp_path)}))
    assert outcome.state == "finished"
    rows = [json.loads(line) for line in (outcome.folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows if "val/f1" in row] == [1, 2]


@pytest.mark.parametrize("writes", [0, 1])
def test_a_best_checkpoint_that_could_not_be_written_is_not_in_the_summary(
    data_folder: Path, tmp_path: Path, patch: pytest.MonkeyPatch, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    """Both epochs are better than the one before; the disk has room for the checkpoints of so many."""
    save_best, better = checkpoint.save_best, iter([True, True])

    def save_until_full(*arguments: Any, **options: Any) -> None:
        if options["scores"]["best/epoch"] > writes:
            raise TrainingError("The disk is full.")
        save_best(*arguments, **options)

    monkeypatch.setattr("harness.train.save_best", save_until_full)
    monkeypatch.setattr("harness.train._better", lambda *_: next(better))
    with pytest.raises(TrainingError, match="The disk is full"):
        fit(settings(data_folder, tmp_path))
    [folder] = tmp_path.iterdir()
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["state"] == "failed"
    kept = checkpoint.best_scores(folder / "checkpoints" / "best.safetensors")
    assert {key: summary[key] for key in summary if key.startswith("best/") and summary[key] is not None} == kept
    assert kept.get("best/epoch") == (writes or None)
    assert build(tmp_path).is_file()


def test_a_run_that_fails_for_want_of_memory_ends_as_failed(
    data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if nothing can be read any more."""

    def no_memory(*_: Any) -> None:
        raise MemoryError("no memory is left")

    def fails_after_an_epoch(run: RunContext) -> None:
        best = run.run_logger.folder.checkpoints / BEST
        best.parent.mkdir()
        best.write_bytes(b"weights")
        no_memory()

    monkeypatch.setattr("harness.train._train_and_test", fails_after_an_epoch)
    for reader in ("harness.model.weights_file.read_metadata", "harness.training.checkpoint.load_tensors"):
        monkeypatch.setattr(reader, no_memory)
    with pytest.raises(SurroundingsError):
        fit(settings(data_folder, tmp_path))
    [summary] = tmp_path.glob("*/summary.json")
    assert json.loads(summary.read_text())["state"] == "failed"


@pytest.mark.parametrize("content", WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("name", ["summary.json", "metrics.jsonl"])
def test_the_same_command_on_a_damaged_folder(
    interrupted: tuple[RunConfig, Path], tmp_path: Path, name: str, content: bytes
) -> None:
    config, folder = interrupted
    folder = copied(folder, tmp_path)
    (folder / name).write_bytes(content)
    result = train_again(config, tmp_path)
    if name == "summary.json" and content not in OBJECTS.values():
        assert result.exit_code == 0, result.output
    else:
        is_one_sentence(result, str(folder / name), "is damaged (", "--fresh")


@pytest.mark.parametrize("content", WRONG.values(), ids=WRONG)
def test_what_every_start_writes_again_may_be_damaged(
    interrupted: tuple[RunConfig, Path], tmp_path: Path, content: bytes
) -> None:
    config, folder = interrupted
    folder = copied(folder, tmp_path)
    for name in ("config.json", "manifest.json"):
        (folder / name).write_bytes(content)
    result = train_again(config, tmp_path)
    assert result.exit_code == 0, result.output
    assert json.loads((folder / "config.json").read_text())["lr"] == config.lr
    lost = f"{folder / 'manifest.json'} is damaged ("
    assert (lost in result.output) == (content in OBJECTS.values())


def test_a_finished_run_with_a_damaged_manifest_is_not_run_again(finished: Outcome, tmp_path: Path) -> None:
    folder = copied(finished.folder, tmp_path)
    (folder / "manifest.json").write_text("{")
    result = train_again(RunConfig.from_dict(json.loads((folder / "config.json").read_text())), tmp_path)
    assert result.exit_code == 0 and "This run has finished before" in result.output


def test_a_manifest_whose_entries_are_null_resumes(interrupted: tuple[RunConfig, Path], tmp_path: Path) -> None:
    config, folder = interrupted
    folder = copied(folder, tmp_path)
    names = ("earlier_starts", "started", "wandb_run_id", "data", "notes")
    (folder / "manifest.json").write_text(json.dumps(dict.fromkeys(names)))
    assert train_again(config, tmp_path).exit_code == 0


def test_a_damaged_manifest_costs_only_what_is_read_from_it(finished: Outcome, tmp_path: Path) -> None:
    """Scores, maps, tested claims and exports come from the checkpoint and the images."""
    folder = copied(finished.folder, tmp_path)
    (folder / "manifest.json").write_text('{"data": 1}')
    note = f"{folder / 'manifest.json'} is damaged (data is a number instead of an object): whether the images have"
    evaluated = invoke("evaluate", folder, "--json")
    assert evaluated.exit_code == 0 and note in evaluated.stderr, evaluated.output
    assert json.loads(evaluated.stdout)["test/f1"] == finished.summary["test/f1"]
    said: list[str] = []
    open_run(folder, None, None, said.append)  # as explain and verify do
    assert [sentence.startswith(note) for sentence in said] == [True]
    (folder / "checkpoints" / "best.safetensors").unlink()
    is_one_sentence(invoke("evaluate", folder), f"{folder} holds no best checkpoint")


@pytest.mark.parametrize("content", WRONG.values(), ids=WRONG)
def test_commands_that_use_a_damaged_folder(
    finished: Outcome, data_folder: Path, tmp_path: Path, content: bytes
) -> None:
    folder = copied(finished.folder, tmp_path)
    for name in FILES:
        (folder / name).write_bytes(content)
    for command in commands_on(folder, data_folder):
        result = invoke(*command)
        assert result.exit_code == 0, result.output  # they need the checkpoint alone
    page = Page(build(tmp_path))
    for name in FILES:
        if name == "metrics.jsonl" or content in OBJECTS.values():
            assert f"{name} is damaged (" in page.text_of("")


def write_metadata(path: Path, key: str, text: str) -> None:
    """Replace one entry of the metadata of a checkpoint; without its checksum, as files of earlier versions."""
    with safe_open(path, framework="pt") as file:
        metadata = {**file.metadata(), key: text}
    del metadata["checksum"]
    save_file(load_file(path), path, metadata)


@pytest.mark.parametrize("text", [*(content.decode() for content in WRONG.values() if b"\xff" not in content), "{"])
@pytest.mark.parametrize("key", ["config", "classes", "preprocessing"])
def test_a_checkpoint_with_metadata_of_a_wrong_type(
    finished: Outcome, data_folder: Path, tmp_path: Path, key: str, text: str
) -> None:
    folder = copied(finished.folder, tmp_path)
    write_metadata(folder / "checkpoints" / "best.safetensors", key, text)
    for command in commands_on(folder, data_folder):
        is_one_sentence(invoke(*command), "best.safetensors is damaged (", "give another run folder")
    if text == "{":
        assert build(tmp_path).is_file()


@pytest.mark.parametrize("text", [*(content.decode() for content in WRONG.values() if b"\xff" not in content), "{"])
def test_a_run_does_not_resume_with_damaged_scores(
    interrupted: tuple[RunConfig, Path], tmp_path: Path, text: str
) -> None:
    config, folder = interrupted
    folder = copied(folder, tmp_path)
    write_metadata(folder / "checkpoints" / "best.safetensors", "scores", text)
    result = train_again(config, tmp_path)
    is_one_sentence(result, "best.safetensors is damaged (", "--fresh")


def fewer_classes(metadata: dict[str, Any]) -> None:
    del metadata["classes"][-1]


def unknown_model(metadata: dict[str, Any]) -> None:
    metadata["config"]["model"] = "vit_of_mars"


def a_setting_of_a_wrong_type(metadata: dict[str, Any]) -> None:
    metadata["config"]["lr"] = []


def another_model(metadata: dict[str, Any]) -> None:
    metadata["config"]["model"] = "vit_b_16"


def preprocessing(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda metadata: metadata["preprocessing"].update(changes)


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (fewer_classes, "it names 2 classes and its head has 3"),
        (unknown_model, "--model is 'vit_of_mars'"),
        (a_setting_of_a_wrong_type, "--lr is []"),
        (another_model, "do not fit"),
        (preprocessing(crop_size=0), "crop_size is 0"),
        (preprocessing(crop_size=-8), "crop_size is -8"),
        (preprocessing(crop_size=10**6, resize_size=10**6), "crop_size is 1000000"),
        (preprocessing(crop_size=60_000, resize_size=60_000), "crop_size 60000 do not fit its position embedding"),
        (preprocessing(crop_size="32"), "crop_size is '32'"),
        (preprocessing(crop_size=None), "crop_size is None"),
        (preprocessing(mean=[0.5]), "mean is not a list of three numbers"),
        (preprocessing(mean="abc"), "mean is not a list of three numbers"),
        (preprocessing(std=[0, 0, 0]), "std is [0.0, 0.0, 0.0]"),
        (preprocessing(std=[1, 1, float("nan")]), "std is not a list of three numbers"),
        (preprocessing(interpolation="nearest"), "interpolation is 'nearest'"),
        (preprocessing(interpolation=[]), "interpolation is []"),
    ],
)
def test_a_checkpoint_with_values_out_of_range(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], part: str
) -> None:
    loaded = loaded_model("vit_demo", num_classes=3, weights="none", image_size=32)
    config = RunConfig(data="images", model="vit_demo", weights="none", image_size=32)
    path = tmp_path / "checkpoints" / "best.safetensors"
    checkpoint.save_best(path, loaded.model.state_dict(), config, ("a", "b", "c"), loaded.preprocessing, {})
    tensors, metadata = checkpoint.load_tensors(path)
    change(metadata)
    checkpoint.save_tensors(path, tensors, metadata)
    is_one_sentence(invoke("predict", tmp_path, "x.png"), str(path), "is damaged (", part, "give another run folder")


def test_weights_of_another_shape_are_refused(tmp_path: Path) -> None:
    loaded = loaded_model("vit_demo", num_classes=3, weights="none", image_size=32)
    config = RunConfig(data="images", model="vit_demo", weights="none", image_size=32)
    path = tmp_path / "checkpoints" / "best.safetensors"
    checkpoint.save_best(path, {"a": torch.zeros(1)}, config, ("a", "b", "c"), loaded.preprocessing, {})
    is_one_sentence(invoke("predict", tmp_path, "x.png"), "its weights do not fit vit_demo")
