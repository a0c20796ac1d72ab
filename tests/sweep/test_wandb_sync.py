"""Offline sweeps, sent to a local stand-in for W&B's server by the real client."""

from __future__ import annotations

import contextlib
import io
import json
import multiprocessing
import os
import platform
import shutil
import signal
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from harness import track
from harness.cli import main
from harness.errors import HarnessError
from harness.runs.folder import RunFolder
from harness.runs.rules import Goal
from harness.sweep.retention import keep_best
from harness.sweep.search.settings import Search
from harness.sweep.search.trial_queue import TrialQueue
from harness.sweep.spec.metric import Metric
from harness.sweep.spec.sweep_file import read_sweep
from harness.sweep.wandb_sync import sync_sweep
from harness.sweep.whereabouts import write_whereabouts
from harness.track import server as server_module
from reports.runs import read_runs
from tests.helpers.forked import in_child
from tests.helpers.sweeping import write_sweep
from tests.helpers.wandb_server import API_KEY, ENTITY, WandbServer
from tests.test_train import settings
from tests.track.test_tracked_run import rows, run, signal_at

# A forked child uses nothing of the server's threads and ends before them.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")]

GOOD, POOR = "lr0.001_bs5_none_s0-5eed-0", "lr1e-06_bs5_none_s0-5eed-1"


@pytest.fixture(scope="module")
def finished(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep of two runs of two epochs; the first was preempted in its second epoch and resumed."""
    folder = tmp_path_factory.mktemp("sweeps") / "small"
    patch = pytest.MonkeyPatch()
    patch.setenv("WANDB_MODE", "offline")
    patch.setenv("WANDB_SWEEP_ID", "5eed")
    patch.setenv("HARNESS_SWEEP", "small")
    patch.setenv("WANDB_RUN_GROUP", "small")
    patch.setenv("WANDB_PROJECT", "pictures")
    patch.setenv("HARNESS_CACHE_DIR", str(folder.parent / "pictures"))
    patch.setenv("WANDB_RUN_ID", "5eed-0")
    good = settings(data_folder, folder, lr=1e-3)
    assert run(good, signal_at(7, signal.SIGTERM)) == 143
    assert run(good) == 0
    patch.setenv("WANDB_RUN_ID", "5eed-1")
    assert run(settings(data_folder, folder, lr=1e-6)) == 0
    patch.undo()
    assert sorted(path.name for path in folder.iterdir()) == [GOOD, POOR]
    # Both have the same validation score, so set one.
    for name, value in ((GOOD, 0.9), (POOR, 0.5)):
        path = folder / name / "summary.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"best/val_f1": value}))
    return folder


@pytest.fixture
def sweep(finished: Path, tmp_path: Path) -> Path:
    return shutil.copytree(finished, tmp_path / "small", symlinks=True)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[WandbServer]:
    """A server with a logged-in user."""
    with WandbServer() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        monkeypatch.setenv("WANDB_API_KEY", API_KEY)
        monkeypatch.setenv("WANDB_ERROR_REPORTING", "0")
        yield server
    assert server.refused == []


def send(folder: Path, goal: Goal = "maximize") -> dict[str, Any]:
    """What `sync_sweep` prints, called in a separate process: a line per run, and a summary; and its exit code."""

    def work() -> dict[str, Any]:
        output = io.StringIO()
        try:
            with contextlib.redirect_stdout(output):
                code = sync_sweep(folder, read_runs(folder), {}, metric="best/val_f1", goal=goal)
            *lines, counts, best = output.getvalue().splitlines()
            return {"lines": lines, "text": [counts, best], "exit_code": code}
        except HarnessError as error:
            return {"lines": output.getvalue().splitlines(), "error": str(error)}

    return in_child(work)


def aliases(server: WandbServer) -> dict[str, set[str]]:
    models = [artifact for artifact in server.artifacts if artifact.type == "model"]
    return {artifact.collection: artifact.aliases for artifact in models}


def unsent_folders(sweep: Path) -> list[Path]:
    return [path for folder in sweep.iterdir() for path in track.waiting(folder)]


def test_a_sweep_is_sent_once_and_its_best_model_is_marked(sweep: Path, server: WandbServer) -> None:
    # kill -9 may leave a partial record at the end of the first start's file.
    first, _ = sorted((sweep / GOOD / "wandb").glob("offline-run-*"))
    log = first / "run-5eed-0.wandb"
    log.write_bytes(log.read_bytes()[:-3])

    report = send(sweep)
    assert report["lines"] == [f"{GOOD}: sent", f"{POOR}: sent"]
    assert report["text"] == ["2 runs: 2 sent.", f"{ENTITY}/pictures/{GOOD}-model is marked sweep-best."]
    assert report["exit_code"] == 0
    for name, folder in (("5eed-0", GOOD), ("5eed-1", POOR)):
        received = server.runs[name]
        # A real server refuses runs of a sweep that it does not know: no sweep is named.
        assert (received.sweep, received.fields["groupName"], received.project) == (None, "small", "pictures")
        assert received.config["sweep"] == "small"
        logged = [json.loads(line) for line in (sweep / folder / "metrics.jsonl").read_text().splitlines()]
        assert rows(received, "train/loss") == [row for row in logged if "train/loss" in row]
        assert [row["step"] for row in rows(received, "train/loss")] == list(range(1, 11))
        assert received.summary["test/f1"] == json.loads((sweep / folder / "summary.json").read_text())["test/f1"]
        assert any(path.startswith("media/images/figures/loss_curve") for path in received.files)
    assert aliases(server) == {
        f"{GOOD}-model": {"best", "latest", "sweep-best"},
        f"{POOR}-model": {"best", "latest"},
    }
    assert unsent_folders(sweep) == []

    # The same call again sends nothing; with another goal the alias moves.
    lengths, operations = [len(received.history) for received in server.runs.values()], len(server.operations)
    report = send(sweep, goal="minimize")
    assert report["lines"] == [f"{GOOD}: already sent", f"{POOR}: already sent"]
    assert [len(received.history) for received in server.runs.values()] == lengths
    assert not {"UpsertBucket", "CreateArtifact", "CreateRunFiles"} & set(server.operations[operations:])
    assert aliases(server) == {
        f"{GOOD}-model": {"best", "latest"},
        f"{POOR}-model": {"best", "latest", "sweep-best"},
    }


def test_a_run_without_its_checkpoint_is_sent_without_a_model(sweep: Path, server: WandbServer) -> None:
    assert keep_best(sweep, 1, Metric("best/val_f1", "maximize")) == [sweep / POOR]
    report = send(sweep)
    assert report["exit_code"] == 0
    assert report["lines"] == [f"{GOOD}: sent", f"{POOR}: sent"]
    received = server.runs["5eed-1"]
    assert [row["step"] for row in rows(received, "train/loss")] == list(range(1, 11))
    assert received.exit_code == 0
    assert {path.split("/")[1] for path in received.files if path.startswith("media")} == {"images", "table"}
    assert aliases(server) == {f"{GOOD}-model": {"best", "latest", "sweep-best"}}
    # The artifact stays a draft, which nobody can take for a model.
    [draft] = [artifact for artifact in server.drafts.values() if artifact.version is None]
    assert (draft.collection, draft.files, draft.manifest) == (f"{POOR}-model", {}, {})


def test_runs_that_are_running_or_were_not_recorded_are_reported(sweep: Path, server: WandbServer) -> None:
    shutil.rmtree(sweep / POOR / "wandb")
    held, holding = multiprocessing.Pipe(duplex=False)
    holder = multiprocessing.get_context("fork").Process(target=hold, args=(sweep / GOOD, holding))
    holder.start()
    try:
        assert held.poll(60)
        report = send(sweep)
    finally:
        holder.kill()
        holder.join()
    assert report["lines"] == [
        f"{GOOD}: not sent: it is running (pid {holder.pid})",
        f"{POOR}: not recorded: W&B was disabled",
    ]
    assert report["text"][1] == f"{GOOD}-model is not marked sweep-best: its run is not in W&B."
    assert report["exit_code"] == 1
    assert server.runs == {}


def test_the_best_model_is_that_of_all_machines(
    sweep: Path, data_folder: Path, tmp_path: Path, server: WandbServer
) -> None:
    """Two machines with own disks and one trial queue: here, two --runs-dir and one journal."""
    file = write_sweep(tmp_path / "small.yaml", data_folder, parameters={"lr": {"values": [1e-3, 1e-6]}})
    spec, storage = read_sweep(file), str(tmp_path / "journal.log")
    trial_queue = TrialQueue.open(spec, Search(), tmp_path / "a" / "small", storage)
    for machine, name, value in (("a", GOOD, 0.9), ("b", POOR, 0.5)):
        folder = RunFolder(tmp_path / machine / "small" / name)
        folder.path.parent.mkdir(parents=True, exist_ok=True)
        (sweep / name).rename(folder.path)
        trial = trial_queue.claim()
        assert trial
        write_whereabouts(trial_queue, trial.number, folder, epochs=2)
        trial_queue.end(trial, "finished", value=value)

    def sync(machine: str) -> tuple[int, list[str]]:
        words = ["sweep", "sync", str(file), "--runs-dir", str(tmp_path / machine), "--storage", storage]

        def work() -> tuple[int, list[str]]:
            result = CliRunner().invoke(main.main, words, catch_exceptions=False)
            return result.exit_code, result.output.splitlines()

        return in_child(work)

    there = f"{platform.node()}:{tmp_path / 'a' / 'small' / GOOD}"
    assert sync("b") == (
        1,
        [
            f"{POOR}: sent",
            f"{GOOD}: on another machine: {there}",
            "2 runs: 1 sent, 1 on another machine.",
            f"{GOOD}-model is not marked sweep-best: W&B does not have this model. Its run lies at {there}: repeat the "
            "command there.",
        ],
    )
    for machine in ("a", "b"):
        assert sync(machine)[0] == 0
    assert aliases(server) == {f"{GOOD}-model": {"best", "latest", "sweep-best"}, f"{POOR}-model": {"best", "latest"}}


def hold(folder: Path, ready: Connection) -> None:
    with RunFolder(folder).locked():
        ready.send(True)
        signal.pause()


def test_without_login_or_server_there_is_one_sentence(sweep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "REACH_TIMEOUT", 2)
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    not_logged_in = "Not logged in to W&B. Run `wandb login`, then repeat the command."
    assert send(sweep) == {"lines": [], "error": not_logged_in}
    monkeypatch.setenv("WANDB_API_KEY", API_KEY)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    report = send(sweep)
    assert report["error"].startswith("W&B cannot be reached: ")
    with WandbServer() as server:
        server.wrong_keys.add(API_KEY)
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        report = send(sweep)
        assert report["error"].startswith("W&B cannot be reached: ")
        assert "user is not logged in" in report["error"]
    assert len(unsent_folders(sweep)) == 3
    assert send(sweep / "nothing")["error"].endswith("holds no runs. Start the sweep first: harness sweep run.")


def test_commands_that_need_a_deleted_checkpoint_end_with_a_sentence(sweep: Path) -> None:
    keep_best(sweep, 1, Metric("best/val_f1", "maximize"))
    for command in (["evaluate", str(sweep / POOR)], ["predict", str(sweep / POOR), "x.jpg"]):
        result = CliRunner().invoke(main.main, command)
        assert result.exit_code == 1
        assert result.output.startswith(f"Error: {sweep / POOR} no longer has its best checkpoint: deleted: not among")
