"""Whole runs against a local stand-in for W&B's server: finished, killed, preempted and infeasible ones."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from harness import track
from harness import train as train_module
from harness.cli import main
from harness.config import RunConfig
from harness.options import arguments
from reports.wandb_report.panels import COSTS, CURVES, IMAGES, PINNED, SCORES, TABLES
from tests.helpers.wandb_server import API_KEY, ENTITY, Run, WandbServer
from tests.test_train import settings

# A forked child uses nothing of the server's threads and ends before them.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.figures,
    pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning"),
]

TRAIN_KEYS = {"step", "epoch", "train/loss", "train/lr", "train/images_per_second"}
EPOCH_KEYS = {"step", "epoch", "val/loss", "val/accuracy", "val/balanced_accuracy", "val/f1"}
BEST_KEYS = {
    "step",
    "best/epoch",
    "best/val_f1",
    "best/val_accuracy",
    "best/val_balanced_accuracy",
    "best/val_loss",
}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[WandbServer]:
    """A server with a logged-in user; no other variable of W&B is set."""
    with WandbServer() as server:
        for name in [name for name in os.environ if name.startswith("WANDB_")]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        monkeypatch.setenv("WANDB_API_KEY", API_KEY)
        monkeypatch.setenv("WANDB_ERROR_REPORTING", "0")
        monkeypatch.setenv("WANDB_INIT_TIMEOUT", "100")
        yield server
    assert server.refused == []


def run(config: RunConfig, prepare: Callable[[], None] = lambda: None) -> int:
    """Exit code of the run's command in a separate process, in which `prepare` may change the program first."""

    def command() -> None:
        prepare()
        main.run(arguments(config))

    child = multiprocessing.get_context("fork").Process(target=command)
    child.start()
    child.join(600)
    code = child.exitcode
    child.kill()
    assert code is not None, "the run did not end"
    return code


def signal_at(step: int, signum: int, *, first: Callable[[], None] = lambda: None) -> Callable[[], None]:
    """Make the program call `first` and then send itself a signal, at the end of a step."""

    def prepare() -> None:
        training_step = train_module.training_step

        def step_and_signal(state: Any, *rest: Any) -> Any:
            loss = training_step(state, *rest)
            if state.progress.step == step:
                first()
                os.kill(os.getpid(), signum)
            return loss

        train_module.training_step = step_and_signal

    return prepare


def die_before_test(*, first: Callable[[], None]) -> Callable[[], None]:
    """Make the program kill itself after the last validation, before the test."""

    def prepare() -> None:
        def die(*_: object) -> None:
            first()
            os.kill(os.getpid(), signal.SIGKILL)

        train_module.finish_run = die

    return prepare


def wait_for_rows(runs: Path, count: int) -> None:
    """Wait until wandb's log file holds so many rows. It is written once per second; kill -9 loses the rest."""
    newest = max(runs.glob("*/wandb/offline-run-*/*.wandb"))
    deadline = time.monotonic() + 30
    # Each row holds wandb's own step, and so does the summary that follows it.
    while newest.read_bytes().count(b"_step") < 2 * count:
        assert time.monotonic() < deadline, f"fewer than {count} rows in {newest}"
        time.sleep(0.02)


def numbers(path: Path) -> list[list[Any]]:
    """Rows of a CSV file without its header, numbers as floats."""

    def value(cell: str) -> Any:
        try:
            return float(cell)
        except ValueError:
            return cell

    with path.open() as file:
        return [[value(cell) for cell in row] for row in csv.reader(file)][1:]


def rows(received: Run, key: str) -> list[dict[str, Any]]:
    """History rows with the key, without the keys that W&B adds."""
    selected = [row for row in received.history if key in row]
    return [{name: value for name, value in row.items() if not name.startswith("_")} for row in selected]


def assert_everything_arrived(server: WandbServer, folder: Path, config: RunConfig, twice: Sequence[int] = ()) -> Run:
    """W&B has one run, with everything from the folder of a finished run of two epochs of five steps.

    `twice` are steps that were logged and trained again, because the process was killed after them.
    """
    summary, manifest = (json.loads((folder / name).read_text()) for name in ("summary.json", "manifest.json"))
    [received] = server.runs.values()
    assert received.name == manifest["wandb_run_id"]
    assert received.config == config.resolved().to_dict()
    labels = [received.fields.get(key) for key in ("displayName", "groupName", "jobType", "tags")]
    assert labels == [config.run_name, "small runs", "train", ["one", "two"]]
    assert (received.entity, received.project, received.exit_code) == (ENTITY, track.PROJECT, 0)

    logged = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    trained = rows(received, "train/loss")
    assert sorted(row["step"] for row in trained) == sorted([*range(1, 11), *twice])
    assert list({row["step"]: row for row in trained}.values()) == [row for row in logged if "train/loss" in row]
    assert {frozenset(row) for row in trained} == {frozenset(TRAIN_KEYS)}
    assert rows(received, "val/loss") == [row for row in logged if "val/loss" in row]
    assert [(row["step"], set(row)) for row in rows(received, "val/loss")] == [(5, EPOCH_KEYS), (10, EPOCH_KEYS)]
    assert [(row["step"], set(row)) for row in rows(received, "best/epoch")] == [(5, BEST_KEYS), (10, BEST_KEYS)]

    assert summary["state"] == "finished"
    assert summary["test/f1_low"] <= summary["test/f1"] <= summary["test/f1_high"]
    assert {key: received.summary.get(key) for key in summary} == summary
    assert received.summary["step"] == 10
    for key in ("train/loss", "val/f1"):
        assert received.summary.get(key) == rows(received, key)[-1][key]

    assert_files_arrived(server, received, folder, summary, manifest)
    return received


def assert_files_arrived(
    server: WandbServer, received: Run, folder: Path, summary: dict[str, Any], manifest: dict[str, Any]
) -> None:
    """Figures, tables, the data set and one version of one model."""
    for name in ("loss_curve", "confusion_matrix"):
        [figure] = rows(received, f"figures/{name}")
        assert figure["step"] == 10
        assert received.files[figure[f"figures/{name}"]["path"]] == (folder / "figures" / f"{name}.png").read_bytes()
    for name, count in (("predictions", 9), ("per_class", 3)):
        [table] = rows(received, f"test/{name}")
        assert table["step"] == 10
        content = json.loads(received.files[table[f"test/{name}"]["path"]])
        assert len(content["data"]) == count
        # The table in W&B leaves out the columns of the top five classes.
        assert content["data"] == [row[:5] for row in numbers(folder / f"{name}.csv")]
        [artifact] = [item for item in server.artifacts if f"test/{name}.table.json" in item.files]
        assert json.loads(artifact.files[f"test/{name}.table.json"])["data"] == content["data"]

    [model] = [artifact for artifact in server.artifacts if artifact.type == "model"]
    assert (model.collection, model.version, model.aliases) == (f"{folder.name}-model", 0, {"best", "latest"})
    assert model.creator == received.name
    assert model.files == {"best.safetensors": (folder / "checkpoints" / "best.safetensors").read_bytes()}
    assert model.metadata["data_fingerprint"] == manifest["data"]["fingerprint"]
    assert model.metadata["classes"] == ["class 0", "class 1", "class 2"]
    assert model.metadata["config"] == received.config
    for key in ("test/f1", "best/val_f1", "best/epoch"):
        assert model.metadata[key] == summary[key]

    [data] = [artifact for artifact in server.artifacts if artifact.type == "dataset"]
    assert data.collection == Path(manifest["data"]["root"]).name
    assert data.metadata == {key: value for key, value in manifest["data"].items() if key != "root"}


def assert_attention_arrived(server: WandbServer, received: Run, folder: Path) -> None:
    """Maps and statistics of nine test images as figures and one table."""
    assert received.summary["positions/verdict"] == "none to keep"
    assert received.summary["attention/n"] == 9

    images = {key: row for row in received.history for key in row if key.startswith(("attention/", "figures/"))}
    class_means = [f"class_means_{name}" for name in ("legrad", "relevance", "rollout")]
    sheets = ("pictures", "confidence", "error", *class_means, "right_wrong")
    plots = (
        *("loss_curve", "confusion_matrix", "reliability"),
        *("attention_heads", "attention_distance", "positions", "position_maps"),
    )
    assert images.keys() == {f"attention/{name}" for name in sheets} | {f"figures/{name}" for name in plots}
    # The panels of a W&B report show exactly these keys.
    assert {key for keys in IMAGES.values() for key in keys} == images.keys() - {"attention/pictures"}
    assert {key for keys in TABLES.values() for key in keys} <= received.summary.keys()
    assert {*CURVES, *SCORES, *COSTS, *PINNED} <= received.summary.keys()
    drawn = [*(folder / "figures").iterdir(), *(folder / "attention" / "sheets").iterdir()]
    everything = {path.read_bytes() for path in drawn}
    for key in images.keys() - {"attention/pictures"}:
        assert received.files[images[key][key]["path"]] in everything, key

    with (folder / "predictions.csv").open() as file:
        predictions = list(csv.DictReader(file))
    [artifact] = [item for item in server.artifacts if "attention/pictures.table.json" in item.files]
    assert images["attention/pictures"]["attention/pictures"]["artifact_path"].endswith("attention/pictures.table.json")
    content = json.loads(artifact.files["attention/pictures.table.json"])
    table = [dict(zip(content["columns"], row, strict=True)) for row in content["data"]]
    for row, prediction in zip(table, predictions, strict=True):
        assert [row[key] for key in ("file", "label", "prediction")] == [
            prediction[key] for key in ("file", "label", "prediction")
        ]
        assert row["probability"] == pytest.approx(float(prediction["probability"]), abs=1e-5)
    for row in table:
        for column, width in (
            ("picture", 112),
            ("map", 112),
            ("rollout", 112),
            ("layers", 6 * 56 + 5 * 4),
            ("heads", 4 * 56 + 3 * 4),
        ):
            with Image.open(io.BytesIO(artifact.files[row[column]["path"]])) as image:
                assert (image.format, image.width) == ("JPEG", width)
    assert len(artifact.files) == 1 + 5 * 9


def labelled(data_folder: Path, runs: Path, **changes: Any) -> RunConfig:
    return settings(data_folder, runs, group="small runs", tags="one, two", **changes)


def test_a_run_online(
    data_folder: Path, tmp_path: Path, server: WandbServer, capfd: pytest.CaptureFixture[str]
) -> None:
    config = labelled(data_folder, tmp_path, explain="all")
    assert run(config) == 0
    [folder] = tmp_path.iterdir()
    received = assert_everything_arrived(server, folder, config)
    assert_attention_arrived(server, received, folder)
    assert [artifact.type for artifact in received.used] == ["dataset"]
    output = capfd.readouterr()
    assert f"W&B: {server.url}/{ENTITY}/{track.PROJECT}/runs/{received.name}" in output.out.splitlines()
    assert "wandb" not in output.err
    # W&B measures the hardware by default.
    assert any("system" in key for line in received.lines["wandb-events.jsonl"] for key in json.loads(line))


def test_a_run_offline_that_was_killed_twice_and_moved(
    data_folder: Path, tmp_path: Path, server: WandbServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = labelled(data_folder, tmp_path / "runs")
    monkeypatch.setenv("WANDB_MODE", "offline")
    # Nine rows: seven steps, a validation and its best values. The last save is at step 5: two steps are repeated.
    killed = signal_at(8, signal.SIGKILL, first=lambda: wait_for_rows(tmp_path / "runs", 9))
    assert run(config, killed) == -signal.SIGKILL
    # After this kill nothing is left to train: the last process only tests.
    assert run(config, die_before_test(first=lambda: wait_for_rows(tmp_path / "runs", 7))) == -signal.SIGKILL
    config = dataclasses.replace(config, explain="all")
    assert run(config) == 0
    assert server.operations == []

    [folder] = (tmp_path / "runs").iterdir()
    copy = tmp_path / "elsewhere" / folder.name
    shutil.copytree(folder, copy, symlinks=True)
    shutil.rmtree(folder)
    monkeypatch.delenv("WANDB_MODE")
    with pytest.raises(SystemExit) as end:
        main.main(["sync", str(copy)])
    assert end.value.code == 0
    received = assert_everything_arrived(server, copy, config, twice=(6, 7))
    assert_attention_arrived(server, received, copy)


@pytest.mark.parametrize(("sweep", "code"), [(None, 1), ("abc", 0)])
def test_an_infeasible_run(
    data_folder: Path,
    tmp_path: Path,
    server: WandbServer,
    sweep: str | None,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if sweep:
        server.add_sweep(sweep)
        monkeypatch.setenv("WANDB_SWEEP_ID", sweep)
    assert run(labelled(data_folder, tmp_path, lr=1e6, optimizer="sgd")) == code
    [received] = server.runs.values()
    assert (received.exit_code, received.preempting, received.summary["state"]) == (code, False, "infeasible")
    assert received.summary["reason"].startswith("The training loss became ")
    assert "test/f1" not in received.summary
    assert {artifact.type for artifact in server.artifacts} == {"dataset"}


def test_a_preempted_run_resumes_as_the_same_run(data_folder: Path, tmp_path: Path, server: WandbServer) -> None:
    config = labelled(data_folder, tmp_path)
    assert run(config, signal_at(7, signal.SIGTERM)) == 143
    [received] = server.runs.values()
    assert (received.exit_code, received.preempting, received.summary["state"]) == (143, True, "preempted")
    assert [row["step"] for row in rows(received, "train/loss")] == list(range(1, 8))
    assert run(config) == 0
    [folder] = tmp_path.iterdir()
    assert_everything_arrived(server, folder, config)


def test_a_run_that_stops_too_slowly_is_still_queued_again(
    data_folder: Path, tmp_path: Path, server: WandbServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = labelled(data_folder, tmp_path)
    monkeypatch.setattr("harness.training.signals.SECONDS_TO_STOP", 0.2)

    def prepare() -> None:
        training_step = train_module.training_step

        def never_end(state: Any, *rest: Any) -> Any:
            if state.progress.step == 7:
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(60)
            return training_step(state, *rest)

        train_module.training_step = never_end

    assert run(config, prepare) == 143
    [received] = server.runs.values()
    # W&B marks a preempting run as preempted when its heartbeats end.
    assert (received.exit_code, received.preempting) == (None, True)
    assert run(config) == 0
    [folder] = tmp_path.iterdir()
    assert_everything_arrived(server, folder, config, twice=(6, 7))
