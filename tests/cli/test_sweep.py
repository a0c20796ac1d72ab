"""`harness sweep ...` as its user types it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from harness.cli.main import main
from harness.sweep import session
from harness.sweep.execution.resources import Slot
from harness.sweep.execution.runner_options import RunnerOptions
from harness.sweep.repeat_best import RepeatBest
from harness.sweep.search.settings import Search
from harness.sweep.spec.sweep_file import Sweep
from tests.helpers.sweeping import sweep_here, write_sweep


def harness(*words: str) -> Result:
    return CliRunner().invoke(main, ["sweep", *words])


@pytest.fixture(scope="module")
def done(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a sweep file and, under runs/, all of its sweep but an infeasible trial's scores."""
    root = tmp_path_factory.mktemp("sweep")
    parameters = {"lr": {"values": [1e-3, 1e6]}, "optimizer": {"value": "sgd"}}
    file = write_sweep(root / "tiny.yaml", data_folder, "--epochs=2", parameters=parameters)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "disabled")
        patch.setenv("HARNESS_CACHE_DIR", str(root / "cache"))
        assert sweep_here(file, root / "runs") == 0
    return root


def test_status_shows_every_trial_and_the_leaderboard(done: Path) -> None:
    shown = harness("status", str(done / "tiny.yaml"), "--runs-dir", str(done / "runs"))
    assert shown.exit_code == 0, shown.output
    first, second = [line for line in shown.output.splitlines() if line.split()[:1] in (["0"], ["1"])][:2]
    assert first.split()[1:3] == ["0.001", "finished"]
    assert second.split()[1:3] == ["1e+06", "infeasible"]
    assert "training loss became" in shown.output


def test_status_as_json(done: Path) -> None:
    shown = harness("status", str(done / "tiny.yaml"), "--runs-dir", str(done / "runs"), "--json")
    status = json.loads(shown.output)
    entries = status["trials"]
    assert [(entry["settings"]["lr"], entry["state"]) for entry in entries] == [(1e-3, "finished"), (1e6, "infeasible")]
    assert entries[1]["value"] is None
    assert status["board"]["metric"] == "best/val_f1"
    assert [run["state"] for run in status["board"]["runs"]] == ["finished", "infeasible"]


def test_stop_of_a_sweep_that_does_not_run_is_done_at_once(done: Path) -> None:
    result = harness("stop", str(done / "tiny.yaml"), "--runs-dir", str(done / "runs"))
    assert result.exit_code == 0
    assert "The sweep tiny is stopped" in result.output


@pytest.mark.parametrize("command", ["status", "stop"])
def test_a_sweep_that_has_not_begun(command: str, done: Path, tmp_path: Path) -> None:
    result = harness(command, str(done / "tiny.yaml"), "--runs-dir", str(tmp_path))
    assert result.exit_code == 1
    assert "has not begun" in result.output


@pytest.mark.parametrize("command", ["plan", "run", "status", "stop", "sync"])
def test_a_missing_sweep_file_is_named(command: str, tmp_path: Path) -> None:
    result = harness(command, str(tmp_path / "nothing.yaml"))
    assert result.exit_code == 1
    assert "nothing.yaml" in result.output
    assert "Traceback" not in result.output


def test_options_take_precedence_over_the_file(
    data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_sweep(tmp_path / "tiny.yaml", Path("nowhere"))
    given: list[tuple[Sweep, Search, list[Slot], RunnerOptions]] = []

    def run_sweep(
        sweep: Sweep,
        search: Search,
        folder: Path,
        slots: list[Slot],
        rules: RunnerOptions,
        storage: str | None,
        repeat: RepeatBest | None,
        **options: Any,
    ) -> int:
        assert repeat == RepeatBest(2, 3)
        assert options == {"accept": True, "reuse": (tmp_path,)}
        given.append((sweep, search, slots, rules))
        assert folder == tmp_path / "runs" / "tiny"
        assert storage == "journal.log"
        return 0

    monkeypatch.setattr(session, "run_sweep", run_sweep)
    monkeypatch.setenv("HARNESS_SWEEP_ARGS", "--data 'my images' --epochs 3")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    words = ["--workers=2", "--retries=4", "--timeout=5", "--keep=3", "--seed=1", "--storage=journal.log"]
    words += ["--accept", f"--reuse={tmp_path}", "--max-hours=1.5", "--target=0.9", "--patience=7"]
    words += ["--repeat-best=2", "--repeats=3"]
    done = harness("run", str(file), "--runs-dir", str(tmp_path / "runs"), *words, "--", "--data", str(data_folder))
    assert done.exit_code == 0, done.output
    [(sweep, search, slots, rules)] = given
    config = sweep.config({"lr": 1e-3, "augment": "none"})
    assert (config.data, config.epochs) == (str(data_folder), 3)
    assert (search, rules, len(slots)) == (Search(None, 1), RunnerOptions(4, 5.0, 3, None, 1.5, 0.9, 7), 2)


def test_unknown_options_of_a_run_are_refused(
    data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_sweep(tmp_path / "tiny.yaml", data_folder)
    result = harness("run", str(file), "--runs-dir", str(tmp_path / "runs"), "--", "--learning-rate", "1")
    assert result.exit_code == 2
    assert "--learning-rate" in result.output
    monkeypatch.setenv("HARNESS_SWEEP_ARGS", "--data 'my images")
    result = harness("run", str(file), "--runs-dir", str(tmp_path / "runs"))
    assert result.exit_code == 2
    assert "HARNESS_SWEEP_ARGS" in result.output
    assert not (tmp_path / "runs").exists()
