"""Sweeps that grow, take over results, and are rebuilt, with runs on disk and the commands that users give."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from harness.cli.main import main
from harness.errors import ConfigError
from harness.sweep.results import results_of
from harness.sweep.search.settings import Search
from harness.sweep.search.trial_queue import TrialQueue
from harness.sweep.session import check_inputs, sweep_folder
from harness.sweep.spec.repeats import with_repeats
from harness.sweep.spec.sweep_file import read_sweep
from reports.runs import read_runs
from reports.stats.leaderboard import to_json
from tests.helpers.sweeping import records, sweep_here, trial_queue, write_sweep

LRS = {"lr": {"values": [1e-3, 1e-2]}}


@pytest.fixture(scope="module")
def begun(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a sweep file and, under runs/, its two finished trials."""
    root = tmp_path_factory.mktemp("begun")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "disabled")
        assert (
            sweep_here(write_sweep(root / "tiny.yaml", data_folder, "--epochs=1", parameters=LRS), root / "runs") == 0
        )
    return root


@pytest.fixture
def copy(begun: Path, tmp_path: Path) -> Path:
    """A copy of the runs folder of the finished sweep."""
    shutil.copytree(begun / "runs", tmp_path / "runs")
    return tmp_path / "runs"


def summaries(runs: Path) -> dict[str, int]:
    """When each run folder was finished, by name."""
    return {path.parent.name: path.stat().st_mtime_ns for path in runs.glob("*/*/summary.json")}


def command(*words: Any) -> Any:
    return CliRunner().invoke(main, ["sweep", *map(str, words)])


def test_one_value_more_starts_exactly_one_run(data_folder: Path, copy: Path, tmp_path: Path, capfd: Any) -> None:
    before = summaries(copy)
    grown = write_sweep(
        tmp_path / "tiny.yaml",
        data_folder,
        "--epochs=1",
        "--threads=1",
        parameters={"lr": {"values": [1e-4, 1e-3, 1e-2]}},
    )
    assert sweep_here(grown, copy) == 0
    after = summaries(copy)
    assert before.items() < after.items() and len(after) == 3
    assert "The sweep file has changed: 1 new trial." in capfd.readouterr().out
    assert [(record.number, record.settings["lr"]) for record in records(grown, copy)] == [
        (0, 1e-3),
        (1, 1e-2),
        (2, 1e-4),
    ]


def test_other_epochs_are_accepted_and_the_old_results_stay(data_folder: Path, copy: Path, tmp_path: Path) -> None:
    file = write_sweep(tmp_path / "tiny.yaml", data_folder, "--epochs=2", parameters={"lr": {"values": [1e-3]}})
    with pytest.raises(ConfigError, match="--epochs: 1 -> 2"):
        sweep_here(file, copy)
    assert len(summaries(copy)) == 2
    assert sweep_here(file, copy, accept=True) == 0
    assert [record.in_file for record in records(file, copy)] == [False, False, True]
    status = command("status", file, "--runs-dir", copy).output
    assert status.count("no longer in the file") == 2


def test_the_same_images_elsewhere_change_nothing(data_folder: Path, copy: Path, tmp_path: Path, capfd: Any) -> None:
    shutil.copytree(data_folder, tmp_path / "moved")
    file = write_sweep(tmp_path / "tiny.yaml", tmp_path / "moved", "--epochs=1", parameters=LRS)
    before = summaries(copy)
    assert sweep_here(file, copy) == 0
    assert summaries(copy) == before
    next((tmp_path / "moved" / "train").rglob("*.*")).unlink()
    with pytest.raises(ConfigError, match="the images, classes or splits of --data: fingerprint"):
        sweep_here(file, copy)


@pytest.mark.parametrize("method", ["grid", "bayes"])
def test_results_of_another_sweep_are_taken_over(
    method: str, data_folder: Path, begun: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    lr: dict[str, Any] = {"values": [1e-2, 1e-4, 1e-3]}
    if method == "bayes":
        lr = {"distribution": "log_uniform_values", "min": 1e-5, "max": 5e-3}
    file = write_sweep(tmp_path / "more.yaml", data_folder, "--epochs=1", method=method, parameters={"lr": lr})
    search = Search(count=1 if method == "bayes" else None)
    assert sweep_here(file, tmp_path / "runs", reuse=(begun / "runs",), search=search) == 0
    printed = capfd.readouterr().out
    done = records(file, tmp_path / "runs")
    reused = [record for record in done if record.run_folder]
    assert len(summaries(tmp_path / "runs")) == 1
    if method == "grid":
        assert "Reused runs: 2 results taken over." in printed
        assert [record.settings["lr"] for record in reused] == [1e-2, 1e-3]
    else:  # one of them lies outside the range
        assert "Reused runs: 1 result taken over; 1 of other settings or data." in printed
        assert [record.settings["lr"] for record in reused] == [1e-3]
        study = trial_queue(file, tmp_path / "runs").study
        assert {trial.params["lr"] for trial in study.trials} >= {1e-3}
    earlier = {run.config["lr"]: run.metric("best/val_f1") for run in read_runs(begun / "runs")}
    assert all(record.value == earlier[record.settings["lr"]] for record in reused)
    board = json.loads(command("status", file, "--runs-dir", tmp_path / "runs", "--json").output)
    assert len(board["board"]["runs"]) == len(done)
    assert str(begun) in command("status", file, "--runs-dir", tmp_path / "runs").output
    assert sweep_here(file, tmp_path / "runs", reuse=(begun / "runs",), search=search) == 0
    assert f"{len(reused)} of points that have a result" in capfd.readouterr().out


def test_results_of_other_settings_are_not_taken_over(
    data_folder: Path, begun: Path, tmp_path: Path, capfd: Any
) -> None:
    file = write_sweep(tmp_path / "more.yaml", data_folder, "--epochs=2", parameters={"lr": {"values": [1e-3]}})
    assert sweep_here(file, tmp_path / "runs", reuse=(begun / "runs",)) == 0
    assert "0 results taken over; 2 of other settings or data (they differ in epochs)" in capfd.readouterr().out
    assert len(summaries(tmp_path / "runs")) == 1


def board(file: Path, runs: Path) -> str:
    sweep = read_sweep(file)
    folder = sweep_folder(sweep, runs)
    return to_json(results_of(TrialQueue.load(sweep, folder, None), folder).board)


@pytest.mark.parametrize("storage", ["default", "journal"])
@pytest.mark.parametrize("loss", ["deleted", "damaged"])
def test_a_lost_ledger_is_made_again_from_the_runs(
    loss: str, storage: str, data_folder: Path, copy: Path, tmp_path: Path
) -> None:
    file = write_sweep(tmp_path / "tiny.yaml", data_folder, "--epochs=1", parameters=LRS)
    options = ["--runs-dir", copy, *(["--storage", copy / "journal.log"] if storage == "journal" else [])]
    ledger = copy / ("journal.log" if storage == "journal" else "tiny/study.db")
    before, leaderboard = records(file, copy), board(file, copy)
    if loss == "deleted":
        (copy / "tiny" / "study.db").unlink()
    elif storage == "journal":
        ledger.write_text("{not JSON}\n" * 3)
    else:
        ledger.write_bytes(b"not a database" * 100)
    done = command("rebuild", file, *options)
    assert done.exit_code == 0, done.output
    assert "Trial queue made again: 2 trials from run folders." in done.output
    moved = list(ledger.parent.glob(f"{ledger.name}.damaged-*"))
    assert len(moved) == (loss == "damaged") and ("was moved to" in done.output) == bool(moved)
    if storage == "default":
        assert records(file, copy) == before
        assert board(file, copy) == leaderboard
        study = trial_queue(file, copy).study
        assert study.best_trial.intermediate_values == {1: study.best_value}
    again = command("status", file, *options, "--json").output
    assert [run["settings"] for run in json.loads(again)["board"]["runs"]] == [
        run["settings"] for run in json.loads(leaderboard)["runs"]
    ]
    refused = command("rebuild", file, *options)
    assert refused.exit_code == 1 and "is intact and has 2 trials" in refused.output
    finished = summaries(copy)
    assert sweep_here(file, copy, storage=str(ledger) if storage == "journal" else None) == 0
    assert summaries(copy) == finished


def test_runs_of_all_states_become_trials_with_their_numbers(data_folder: Path, copy: Path, tmp_path: Path) -> None:
    """Of six trials, 0 and 1 have finished; 2 never began; 3 was pruned, 4 interrupted, 5 failed."""
    folder = copy / "tiny"
    [template] = folder.glob("*-1")
    sweep_id = template.name.split("_s0-")[1].partition("-")[0]
    for number, lr, state in ((3, 1e-5, "stopped"), (4, 1e-6, "preempted"), (5, 1e-7, "failed")):
        other = folder / f"lr{lr:g}_bs5_none_s0-{sweep_id}-{number}"
        shutil.copytree(template, other)
        config = json.loads((other / "config.json").read_text()) | {"lr": lr}
        manifest = json.loads((other / "manifest.json").read_text()) | {"wandb_run_id": f"{sweep_id}-{number}"}
        (other / "config.json").write_text(json.dumps(config))
        (other / "manifest.json").write_text(json.dumps(manifest))
        (other / "summary.json").write_text(json.dumps({"state": state, "reason": "a test"}))
    (folder / "study.db").unlink()
    lrs = [1e-3, 1e-2, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8]
    file = write_sweep(tmp_path / "tiny.yaml", data_folder, "--epochs=1", parameters={"lr": {"values": lrs}})
    assert command("rebuild", file, "--runs-dir", copy).exit_code == 0
    rebuilt = records(file, copy)
    assert [record.number for record in rebuilt] == [0, 1, 2, 3, 4, 5, 6]
    assert [record.settings["lr"] for record in rebuilt] == lrs
    assert [record.state for record in rebuilt] == [
        *("finished", "finished", "waiting", "stopped", "waiting", "failed", "waiting")
    ]
    assert rebuilt[4].run_id == f"{sweep_id}-4"
    assert trial_queue(file, copy).sweep_id == sweep_id


def test_a_ledger_is_not_made_of_runs_of_other_settings(data_folder: Path, copy: Path, tmp_path: Path) -> None:
    (copy / "tiny" / "study.db").write_bytes(b"not a database" * 100)
    file = write_sweep(tmp_path / "tiny.yaml", data_folder, "--epochs=2", parameters=LRS)
    refused = command("rebuild", file, "--runs-dir", copy)
    assert refused.exit_code == 2 and "None of the 2 runs in" in refused.output
    assert (copy / "tiny" / "study.db").exists() and not list(copy.glob("tiny/*.damaged*"))


def test_a_point_is_added_on_the_command_line(data_folder: Path, copy: Path, tmp_path: Path) -> None:
    file = write_sweep(tmp_path / "tiny.yaml", data_folder, "--epochs=1", parameters=LRS)

    def add(*words: str) -> Any:
        return command("add", file, "--runs-dir", copy, "--", *words)

    done = add("--lr", "3e-4", "--drop-path=0.1")
    assert done.exit_code == 0 and "Trial 2 is queued." in done.output
    assert records(file, copy)[2].settings == {"drop_path": 0.1, "lr": 3e-4}
    for words, message in [
        (["--lr", "1e-3"], "Trial 0 of the sweep tiny has these settings. It is finished."),
        (["--lr", "3e-4", "--drop-path", "0.1"], "Trial 2 of the sweep tiny has these settings. It is waiting."),
        (["--drop-path", "0.1"], "Give the settings that the file varies after `--`: --lr VALUE."),
        (["--lr", "-1"], "--lr is -1"),
        (["--lr", "1", "--name", "x"], "--name cannot be given for a trial"),
    ]:
        refused = add(*words)
        assert refused.exit_code == 2 and message in refused.output, refused.output
    assert sweep_here(file, copy) == 0
    assert [record.state for record in records(file, copy)] == ["finished"] * 3


def test_only_the_trials_of_an_invalid_value_are_infeasible(data_folder: Path, tmp_path: Path, capfd: Any) -> None:
    parameters = {"augment": {"values": ["nonee", "none"]}, "lr": {"values": [1e-3]}}
    file = write_sweep(tmp_path / "tiny.yaml", data_folder, "--epochs=1", parameters=parameters)
    assert sweep_here(file, tmp_path / "runs") == 0
    assert "Infeasible: Trial 0: --augment is 'nonee'; it must be one of" in capfd.readouterr().out
    done = records(file, tmp_path / "runs")
    assert [record.state for record in done] == ["infeasible", "finished"]
    assert done[0].reason is not None and "--augment is 'nonee'" in done[0].reason


def test_a_point_added_to_a_repeated_sweep_leaves_its_seeds_in_the_file(data_folder: Path, tmp_path: Path) -> None:
    file = write_sweep(tmp_path / "tiny.yaml", data_folder, "--epochs=1", parameters={"lr": {"values": [1e-3]}})
    sweep, search, runs = with_repeats(read_sweep(file), 2), Search(repeats=2), tmp_path / "runs"
    sweep_folder(sweep, runs).mkdir(parents=True)
    TrialQueue.open(sweep, search, sweep_folder(sweep, runs), None, check_inputs(sweep, search))
    added = command("add", file, "--runs-dir", runs, "--", "--lr=3e-4", "--seed=0")
    assert added.exit_code == 0, added.output
    trials = [(record.settings, record.state, record.in_file) for record in records(file, runs)]
    assert trials == [
        ({"lr": 1e-3, "seed": 0}, "waiting", True),
        ({"lr": 1e-3, "seed": 1}, "waiting", True),
        ({"lr": 3e-4, "seed": 0}, "waiting", True),
    ]
