"""`harness sweep watch`: what it shows of trials, here and on other machines, and when it ends."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from rich.console import Console

from harness.cli.main import main
from harness.runs.folder import RunFolder
from harness.slurm.queue import QueuedJob
from harness.sweep import watch as watch_module
from harness.sweep.results import results_of
from harness.sweep.search.settings import Search
from harness.sweep.search.trial_queue import TrialQueue
from harness.sweep.spec.sweep_file import Sweep, read_sweep
from harness.sweep.status import status_table
from harness.sweep.trial_table import live_table
from harness.sweep.watch import SweepWatch, watch
from harness.sweep.whereabouts import write_whereabouts
from tests import ROOT
from tests.helpers.sweeping import start_sweep, sweep_here, trial_queue, write_sweep
from tests.helpers.waiting import wait_for

LRS = {"lr": {"values": [1e-4, 1e-3, 1e-2]}}


@pytest.fixture
def begun(data_folder: Path, tmp_path: Path) -> tuple[Sweep, TrialQueue]:
    """Three trials of four epochs; none has started."""
    sweep = read_sweep(write_sweep(tmp_path / "tiny.yaml", data_folder, "--epochs=4", parameters=LRS))
    (tmp_path / "tiny").mkdir()
    return sweep, TrialQueue.open(sweep, Search(), tmp_path / "tiny", None)


def write_rows(folder: Path, count: int) -> None:
    """Metrics of a run: validations after so many epochs, and a step in the middle of the next."""
    rows = [{"step": 5 * epoch, "epoch": epoch, "val/loss": 1.0, "val/f1": epoch / 10} for epoch in range(1, count + 1)]
    rows.append({"step": 5 * count + 2, "epoch": count + 0.4, "train/loss": 1.0})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_rows_of_runs_here_and_elsewhere(begun: tuple[Sweep, TrialQueue], tmp_path: Path) -> None:
    sweep, queue = begun
    here, there = queue.claim(), queue.claim()
    assert here is not None
    assert there is not None
    folder = tmp_path / "tiny" / "run"
    folder.mkdir()
    write_whereabouts(queue, here.number, RunFolder(folder), 4)
    write_whereabouts(queue, there.number, RunFolder(Path("/on/another/disk")), 4)
    write_rows(folder, 1)
    queue.report(there, 1, 0.3)
    queue.report(there, 2, 0.2)
    view = SweepWatch(queue)
    before = time.time()
    first, second, third = view.rows()
    after = time.time()
    assert (first.epoch, first.metric, first.progress) == (1.4, 0.1, "1.4/4")
    assert (second.epoch, second.metric, second.progress) == (2.0, 0.2, "2.0/4")
    assert (third.record.state, third.metric, third.progress) == ("waiting", None, "")
    shown = [line.split() for line in status_table([first, second, third], [], sweep, [], width=120).splitlines()]
    assert [line[4] for line in shown[1:3]] == ["0.1000", "0.2000"]
    # A run that was resumed has not trained since the trial was first claimed.
    assert first.seconds_left is not None
    RunFolder(folder).write("manifest.json", {"earlier_starts": [{}]})
    assert SweepWatch(queue).rows()[0].seconds_left is None
    assert first.place == os.uname().nodename

    # The time left comes from the speed that is seen: since it was first seen it trained 2 epochs, and 0.6 are left.
    time.sleep(0.1)
    write_rows(folder, 3)
    least = (time.time() - after) * 0.6 / 2
    first, second, _ = view.rows()
    assert first.epoch == pytest.approx(3.4)
    assert first.seconds_left is not None
    assert least <= first.seconds_left * 1.001 and first.seconds_left <= (time.time() - before) * 0.6 / 2 * 1.001


def test_a_trial_that_another_machine_has_taken_over_is_followed_there(
    begun: tuple[Sweep, TrialQueue], tmp_path: Path
) -> None:
    _, queue = begun
    claimed = queue.claim()
    assert claimed is not None
    folder = tmp_path / "tiny" / "run"
    folder.mkdir()
    write_rows(folder, 1)
    write_whereabouts(queue, claimed.number, RunFolder(folder), 4)
    view = SweepWatch(queue)
    assert view.rows()[0].epoch == 1.4
    write_whereabouts(queue, claimed.number, RunFolder(Path("/on/another/disk")), 4)
    queue.report(claimed, 3, 0.3)
    assert (view.rows()[0].epoch, view.rows()[0].metric) == (3.0, 0.3)


def test_a_table_of_a_running_sweep(begun: tuple[Sweep, TrialQueue], tmp_path: Path) -> None:
    sweep, queue = begun
    claimed = queue.claim()
    assert claimed is not None
    write_whereabouts(queue, claimed.number, RunFolder(Path("/on/another/disk")), 4)
    queue.report(claimed, 1, 0.25)
    console = Console(file=io.StringIO(), width=100)
    rows = SweepWatch(queue).rows()
    console.print(live_table(rows, sweep, 60.0, 100))
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert lines[0].startswith("tiny: 0 of 3 done, 1 running, about 2 min")
    [row] = [line.split() for line in lines if "running" in line and "1.0/4" in line]
    assert row[:5] == ["0", "0.0001", "running", "1.0/4", "0.2500"]
    assert sum("waiting" in line for line in lines) == 2
    # A trial that draws its figures shares the slot of the next one.
    tested = dataclasses.replace(rows[0], epoch=4.0, seconds_left=0.0)
    console.print(live_table([tested, dataclasses.replace(rows[0], seconds_left=1.0), *rows[1:]], sweep, 60.0, 100))
    assert ", 2 running, about 2 min" in console.file.getvalue()  # type: ignore[attr-defined]


def test_each_change_is_one_line_and_the_end_of_the_sweep_ends_it(
    begun: tuple[Sweep, TrialQueue], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, queue = begun

    def run_trials() -> Iterator[None]:
        """What a runner does, with a look of the watcher after each step."""
        while claimed := queue.claim():
            folder = RunFolder(tmp_path / "tiny" / f"run-{claimed.number}")
            folder.path.mkdir()
            write_whereabouts(queue, claimed.number, folder, 4)
            yield
            for epoch in (1, 2):
                folder.append_metrics({"step": 5 * epoch, "epoch": epoch, "val/loss": 1.0, "val/f1": epoch / 10})
                yield
                yield  # of two looks between two epochs, the second one prints nothing
            queue.end(claimed, "finished", value=0.5)
            yield

    steps = run_trials()
    monkeypatch.setattr(watch_module, "time", SimpleNamespace(time=time.time, sleep=lambda _: next(steps)))
    console = Console(file=io.StringIO(), width=200)
    watch(queue, console)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert lines[-1] == "The sweep tiny has ended: 3 finished."
    assert len(lines) == 3 * 4 + 1
    running = f"[1/3] trial 1 (lr 0.001) running on {os.uname().nodename}: epoch"
    assert lines[4:8] == [
        f"{running} 0/4",
        f"{running} 1/4, best/val_f1 0.1000",
        f"{running} 2/4, best/val_f1 0.2000",
        "[2/3] trial 1 (lr 0.001) finished, best/val_f1 0.5000",
    ]


def test_a_sweep_that_has_ended_is_shown_and_the_command_ends(data_folder: Path, tmp_path: Path) -> None:
    file = write_sweep(tmp_path / "tiny.yaml", data_folder, "--epochs=1", parameters={"lr": {"values": [1e-3]}})
    missing = CliRunner().invoke(main, ["sweep", "watch", str(file), "--runs-dir", str(tmp_path / "runs")])
    assert missing.exit_code == 1
    assert "has not begun" in missing.output
    assert sweep_here(file, tmp_path / "runs") == 0
    shown = CliRunner().invoke(main, ["sweep", "watch", str(file), "--runs-dir", str(tmp_path / "runs")])
    assert shown.exit_code == 0
    assert "trial 0 finished, best/val_f1 " in shown.output


def test_a_sweep_whose_jobs_wait_in_the_queue_is_awaited(
    data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_sweep(tmp_path / "tiny.yaml", data_folder, parameters=LRS)
    looks: list[Path] = []

    def jobs_of(folder: Path) -> list[QueuedJob]:
        looks.append(folder)
        if len(looks) == 3:  # the first worker begins it
            folder.mkdir()
            TrialQueue.open(read_sweep(file), Search(), folder, None)
        return [QueuedJob("7_0", "PENDING", "", "20:00", "Priority")]

    monkeypatch.setattr("harness.slurm.jobs.jobs_of", jobs_of)
    monkeypatch.setattr(watch_module, "REFRESH_SECONDS", 0.01)
    monkeypatch.setattr(watch_module, "has_ended", lambda rows, queue: True)
    shown = CliRunner().invoke(main, ["sweep", "watch", str(file), "--runs-dir", str(tmp_path)])
    assert shown.exit_code == 0, shown.output
    assert shown.output.splitlines()[:2] == [
        "The sweep has not begun. Jobs: 7_0 PENDING.",
        "The sweep tiny is stopped: 3 waiting.",
    ]
    assert looks == [tmp_path / "tiny"] * 3
    assert "Not final: 3 of 3 trials have not ended (3 waiting)." in shown.output


def test_status_has_the_epoch_and_the_time_left_of_running_trials(
    begun: tuple[Sweep, TrialQueue], tmp_path: Path
) -> None:
    """And the value that the leaderboard has, in 80 columns without a cut name or number."""
    sweep, queue = begun
    claimed = queue.claim()
    assert claimed is not None
    folder = RunFolder(tmp_path / "tiny" / f"lr=0.0001_s0-{claimed.run_id}")
    folder.path.mkdir()
    write_whereabouts(queue, claimed.number, folder, 4)
    write_rows(folder.path, 1)
    folder.write("config.json", sweep.config(claimed.settings).to_dict())
    folder.write("summary.json", {"state": "running", "best/val_f1": 0.1})
    results = results_of(queue, tmp_path / "tiny")
    runs = results.runs
    rows = SweepWatch(queue).rows()
    text = status_table(rows, runs, sweep, [], width=80)
    header, first, second, _ = text.splitlines()
    assert header.split() == ["trial", "lr", "state", "epoch", "best/val_f1", "left", "on"]
    assert first.split()[:5] == ["0", "0.0001", "running", "1.4/4", "0.1000"]
    assert float(first.split()[5]) > 0 and first.split()[6] == "s"
    assert os.uname().nodename[:10] in first
    assert second.split() == ["1", "0.001", "waiting"]
    assert max(map(len, text.splitlines())) <= 80
    assert "0.1000" in results.text()
    shown = CliRunner().invoke(main, ["sweep", "status", str(sweep.path), "--runs-dir", str(tmp_path)])
    assert (shown.exit_code, "1.4/4" in shown.output) == (0, True), shown.output

    # With many settings, they share one column.
    names = ("clip_grad", "weight_decay", "label_smoothing", "warmup_epochs", "layer_decay", "drop_path")
    parameters = {name: {"values": [1, 2]} for name in names}
    many = read_sweep(write_sweep(tmp_path / "many.yaml", tmp_path, parameters=parameters))
    wide = [
        dataclasses.replace(row, record=dataclasses.replace(row.record, settings=dict.fromkeys(names, 1)))
        for row in rows
    ]
    lines = status_table(wide, runs, many, [], width=80).splitlines()
    assert lines[0].split()[:3] == ["trial", "settings", "state"]
    assert max(map(len, lines)) <= 80


def test_ctrl_c_ends_the_view_and_not_the_sweep(begun: tuple[Sweep, TrialQueue], tmp_path: Path) -> None:
    sweep, queue = begun
    claimed = queue.claim()
    command = [sys.executable, "-m", "harness.cli", "sweep", "watch", str(sweep.path), "--runs-dir", str(tmp_path)]
    view = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert view.stdout is not None
    assert "trial 0 (lr 0.0001) running" in view.stdout.readline()
    view.send_signal(signal.SIGINT)
    _, said = view.communicate(timeout=30)
    assert (view.returncode, said) == (130, "The view has ended; the sweep keeps running.\n")
    assert claimed is not None
    assert queue.owns(claimed)
    assert not queue.stop_requested


def test_one_trial_is_stopped_and_the_others_run(data_folder: Path, tmp_path: Path) -> None:
    """Through the trial queue, so that it reaches runners on machines whose disk cannot be seen from here."""
    file = write_sweep(tmp_path / "tiny.yaml", data_folder, "--epochs=2000", "--log-every=1", parameters=LRS)
    command = ["sweep", "stop", str(file), "--runs-dir", str(tmp_path / "runs")]
    child = start_sweep(file, tmp_path / "runs")
    try:
        assert wait_for(lambda: any((tmp_path / "runs" / "tiny").glob("*-0/metrics.jsonl")), 60)
        ended = CliRunner().invoke(main, [*command, "--trial", "0"])
        assert (ended.exit_code, ended.output) == (0, "Trial 0 is stopped.\n")
        stopped, following, last = trial_queue(file, tmp_path / "runs").records()
        assert (stopped.state, stopped.reason) == ("stopped", "harness sweep stop --trial")
        assert last.state == "waiting"
        # It may be retried; only a pruned trial loses its state.
        assert len(list((tmp_path / "runs" / "tiny").glob("*-0/checkpoints/state.safetensors"))) == 1
        for number, code, message in (("0", 1, "is stopped: only"), ("2", 1, "is waiting"), ("9", 2, "no trial 9")):
            refused = CliRunner().invoke(main, [*command, "--trial", number])
            assert (refused.exit_code, message in refused.output) == (code, True), refused.output
        assert following.point == 1
    finally:
        CliRunner().invoke(main, command)
        child.join(60)
    assert child.exitcode == 0
