"""The closing leaderboard is the ledger's: it has the runs of all machines, also those whose folders lie elsewhere."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest

from harness.runs.folder import RunFolder
from harness.sweep.results import results_of
from harness.sweep.search.settings import Search
from harness.sweep.search.trial_queue import TrialQueue
from harness.sweep.spec.sweep_file import read_sweep
from harness.sweep.whereabouts import whereabouts_of, write_whereabouts
from tests.helpers.sweeping import sweep_here, trial_queue, write_sweep
from tests.reports.test_runs import write_run

LRS = {"lr": {"values": [1e-4, 1e-3, 1e-2]}}


@pytest.fixture
def file(data_folder: Path, tmp_path: Path) -> Path:
    return write_sweep(tmp_path / "tiny.yaml", data_folder, "--epochs=1", parameters=LRS)


def test_runs_on_another_machine_are_ranked_with_their_scores_and_paths(
    file: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two machines with own disks and one trial queue: here, two --runs-dir and one journal."""
    for name, value in {"JOB_ID": "8", "ARRAY_JOB_ID": "7", "ARRAY_TASK_ID": "2"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    monkeypatch.setenv("SLURMD_NODENAME", "n2")
    storage = str(tmp_path / "journal.log")
    assert sweep_here(file, tmp_path / "there", storage=storage) == 0
    [moved] = (tmp_path / "there" / "tiny").glob("lr=0.01_*-2")
    (tmp_path / "here" / "tiny").mkdir(parents=True)
    for folder in (tmp_path / "there" / "tiny").glob("lr=*"):
        if folder != moved:
            folder.rename(tmp_path / "here" / "tiny" / folder.name)
    capfd.readouterr()

    assert sweep_here(file, tmp_path / "here", storage=storage) == 0
    printed = capfd.readouterr().out
    assert "started" not in printed
    assert f"Runs that lie elsewhere:\n  {moved.name}: n2:{moved}\n" in printed

    sweep = read_sweep(file)
    queue = TrialQueue.load(sweep, tmp_path / "here" / "tiny", storage)
    results = results_of(queue, tmp_path / "here" / "tiny")
    board = results.board
    assert board.settings == ("lr",)
    values = {record.settings["lr"]: record.value for record in queue.records() if record.settings}
    assert {row.settings["lr"]: row.metric for row in board.finished} == values
    assert [row.run.metric("test/f1") is not None for row in board.finished] == [True] * 3
    assert list(results.elsewhere) == [moved.name]
    notes = [note for trial in queue.study.trials if (note := whereabouts_of(trial))]
    assert {(note.machine, note.epochs) for note in notes} == {("n2 (job 7_2)", 1)}
    # Without any folder, the ledger alone has them all.
    shutil.rmtree(tmp_path / "here")
    results = results_of(queue, tmp_path / "here" / "tiny")
    assert {row.settings["lr"]: row.metric for row in results.board.finished} == values
    assert len(results.elsewhere) == 3


def test_runs_elsewhere_do_not_get_the_settings_of_an_added_point(file: Path, tmp_path: Path) -> None:
    """Of four runs, this machine has the one that was added by hand, with a setting that the others do not have."""
    sweep, here = read_sweep(file), tmp_path / "here" / "tiny"
    queue = TrialQueue.open(sweep, Search(), here, str(tmp_path / "journal.log"))
    queue.add([{"lr": 1e-3, "drop_path": 0.1}])
    while claimed := queue.claim():
        is_added = "drop_path" in claimed.settings
        folder = RunFolder((here if is_added else tmp_path / "there") / f"run-{claimed.run_id}")
        if is_added:
            write_run(folder.path, config=sweep.config(claimed.settings).to_dict())
        write_whereabouts(queue, claimed.number, folder, epochs=1)
        queue.end(claimed, "finished", value=0.5)
    rates = sorted((run.config["lr"], run.config["drop_path"]) for run in results_of(queue, here).runs)
    assert rates == [(1e-4, 0.0), (1e-3, 0.0), (1e-3, 0.1), (1e-2, 0.0)]


def test_runs_elsewhere_have_the_paths_of_repeated_seeds(file: Path, tmp_path: Path) -> None:
    """This machine has only seeds that --repeat-best has added: the runs elsewhere read the same folder of images."""
    sweep, here = read_sweep(file), tmp_path / "here" / "tiny"
    queue = TrialQueue.open(sweep, Search(), here, str(tmp_path / "journal.log"))
    queue.add([{"lr": 1e-3, "seed": 1}])
    while claimed := queue.claim():
        is_seed = claimed.settings.get("seed") == 1
        folder = RunFolder((here if is_seed else tmp_path / "there") / f"run-{claimed.run_id}")
        if is_seed:
            write_run(folder.path, config=sweep.config(claimed.settings).to_dict() | {"data": "/resolved"})
        write_whereabouts(queue, claimed.number, folder, epochs=1)
        queue.end(claimed, "finished", value=0.5)
    assert [run.config["data"] for run in results_of(queue, here).runs] == ["/resolved"] * 4


def test_a_leaderboard_of_a_sweep_that_still_runs_says_so(file: Path, tmp_path: Path) -> None:
    assert sweep_here(file, tmp_path / "runs") == 0
    done = results_of(trial_queue(file, tmp_path / "runs"), tmp_path / "runs" / "tiny")
    assert "Not final" not in done.text()
    states = ("running", "waiting", "running")
    running = [dataclasses.replace(record, state=state) for record, state in zip(done.records, states, strict=True)]
    text = dataclasses.replace(done, records=running).text()
    assert text.endswith("\nNot final: 3 of 3 trials have not ended (2 running, 1 waiting).\n")
