"""Whatever interrupts a sweep: no process stays, and the same command finishes every configuration once."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.launch.proc import is_running
from harness.sweep.search import lease
from harness.sweep.search.settings import Search
from harness.sweep.search.trial_queue import TrialQueue
from harness.sweep.session import still_running, sweep_folder
from harness.sweep.spec.sweep_file import read_sweep
from tests.helpers.containers import skip_without_containers, start_container
from tests.helpers.sweeping import kill_tree, orphans, records, start_sweep, sweep_here, trial_queue, write_sweep
from tests.helpers.waiting import wait_for

pytestmark = pytest.mark.timeout(900)

LRS = [1e-3, 1e-2, 3e-3]
THREE = {"lr": {"values": LRS}}
# Seconds for a fork server to import all that a trial needs, or for a sweep to end, on a machine with other work.
PATIENT = 240

WORDS = ("--epochs=12", "--log-every=1", "--checkpoint-every=6")

# A file-size limit between the size of the trial queue and that of a checkpoint: what a full disk does to a trial.
FULL_AT = 1_000_000


@pytest.fixture
def children() -> Iterator[list[Any]]:
    """Child processes; those that still run are killed at the end."""
    started: list[Any] = []
    yield started
    for child in started:
        if child.is_alive():
            kill_tree(child.pid)


@pytest.fixture
def images(data_folder: Path, tmp_path: Path) -> Path:
    """Images that the test may move away."""
    return Path(shutil.copytree(data_folder, tmp_path / "images"))


def keep_locks_from_trials() -> None:
    """A trial forked from its runner inherits the runner's lock on the sweep; one of the fork server does not."""

    def close_locks() -> None:
        for link in list(Path("/proc/self/fd").iterdir()):
            with contextlib.suppress(OSError):
                if link.readlink().name.startswith(".lock-"):
                    os.close(int(link.name))

    os.register_at_fork(after_in_child=close_locks)


def fill_disk() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (FULL_AT, resource.RLIM_INFINITY))


def training(runs: Path) -> list[Path]:
    """Run folders that have logged a few steps."""
    return [path.parent for path in runs.rglob("metrics.jsonl") if len(path.read_bytes().splitlines()) > 3]


def pid_of_run(folder: Path) -> int:
    return int((folder / ".lock").read_text().removeprefix("pid "))


def finished_once(file: Path, runs: Path, lrs: Sequence[float] = LRS) -> None:
    """Every configuration has finished, in one run folder and one trial."""
    done = records(file, runs)
    assert [record.state for record in done] == ["finished"] * len(lrs), [record.reason for record in done]
    complete = [trial for trial in trial_queue(file, runs).study.trials if trial.state.name == "COMPLETE"]
    assert Counter(trial.user_attrs["point"] for trial in complete) == dict.fromkeys(range(len(lrs)), 1)
    folders = [path.parent for path in runs.glob("tiny/*/config.json")]
    assert sorted(json.loads((path / "config.json").read_text())["lr"] for path in folders) == sorted(lrs)
    for folder in folders:
        steps = [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
        assert steps == sorted(steps) and steps[-1] == 60  # no step is trained by two processes


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "workers"),
    [
        *(("kill runner", 1), ("data away", 1)),
        *((how, 2) for how in ("kill runner", "kill tree", "kill trainer", "TERM", "disk full")),
    ],
)
def test_an_interrupted_sweep_leaves_no_process_and_finishes_every_configuration_once(
    how: str, workers: int, images: Path, tmp_path: Path, children: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    lrs, runs = LRS[: workers + 1], tmp_path / "runs"  # one more than can run
    (temporary := tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr(tempfile, "tempdir", None)
    file = write_sweep(tmp_path / "tiny.yaml", images, *WORDS, parameters={"lr": {"values": lrs}})
    # The fork server is what a killed runner used to leave behind; the other cases need not wait for its imports.
    forkserver = how == "kill runner" and workers == 2
    options = {"workers": workers, "start_method": "forkserver" if forkserver else "fork"}
    with orphans() as left:
        child = start_sweep(file, runs, **options, **({"before": fill_disk} if how == "disk full" else {}))
        children.append(child)
        if how != "disk full":
            assert wait_for(lambda: len(training(runs)) >= workers, PATIENT)
        codes = interrupt(how, child, runs, images)
        child.join(PATIENT)
        assert child.exitcode == codes
        assert wait_for(lambda: not left(), 10), left()
        assert how.startswith("kill") or not list(temporary.iterdir())

        stored = trial_queue(file, runs)
        assert not still_running(sweep_folder(read_sweep(file), runs), stored)
        assert {record.attempts for record in records(file, runs)} <= {0, *([1] if how == "kill trainer" else [])}
        images.with_name("away").exists() and images.with_name("away").rename(images)
        children.append(start_sweep(file, runs, workers=workers))
        children[-1].join(PATIENT)
        assert children[-1].exitcode == 0
        assert wait_for(lambda: not left(), 10), left()
    finished_once(file, runs, lrs)


def interrupt(how: str, child: Any, runs: Path, images: Path) -> int:
    """Interrupt a sweep; returns the exit code that it must have."""
    match how:
        case "kill runner":
            os.kill(child.pid, signal.SIGKILL)
            return -signal.SIGKILL
        case "kill tree":
            kill_tree(child.pid)
            return -signal.SIGKILL
        case "kill trainer":
            os.kill(pid_of_run(training(runs)[0]), signal.SIGKILL)
            return 0  # it is tried again
        case "TERM":
            os.kill(child.pid, signal.SIGTERM)
            return 128 + signal.SIGTERM
        case "data away":
            images.rename(images.with_name("away"))
    return 1


@pytest.mark.slow
def test_a_paused_sweep_names_the_cause_and_the_remedy_in_one_sentence(
    images: Path, tmp_path: Path, children: list[Any], capfd: pytest.CaptureFixture[str]
) -> None:
    file, runs = write_sweep(tmp_path / "tiny.yaml", images, *WORDS, parameters=THREE), tmp_path / "runs"
    children.append(start_sweep(file, runs, before=fill_disk))
    children[-1].join(PATIENT)
    printed = capfd.readouterr()
    [error] = [line for line in printed.err.splitlines() if line.startswith("Error: ")]
    assert error.startswith("Error: The sweep tiny is paused: The file-size limit (ulimit -f) is too small to save ")
    assert error.endswith(
        "The cause is not in its trials, so none was charged. Remove the cause and repeat the command."
    )
    assert [record.state for record in records(file, runs)] == ["interrupted", "waiting", "waiting"]
    assert "Traceback" not in printed.err


@pytest.mark.slow
@pytest.mark.parametrize("storage", ["default", "journal"])
def test_two_containers_with_one_host_name_run_each_trial_once(
    storage: str, images: Path, tmp_path: Path, children: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They begin at the same moment, as process 1 of their namespaces; the clock of one is ten minutes ahead."""
    skip_without_containers()
    monkeypatch.setattr("harness.sweep.execution.runner.HEARTBEAT_SECONDS", 1.0)
    monkeypatch.setattr(lease, "HEARTBEAT_SECONDS", 1.0)
    parameters = {"lr": {"values": [1e-3, 1e-2]}, "seed": {"values": [0, 1]}}
    file = write_sweep(tmp_path / "tiny.yaml", images, "--epochs=1", parameters=parameters)
    path = None if storage == "default" else str(tmp_path / "journal.log")
    now, runs = time.time, tmp_path / "runs"

    def work(ahead: float) -> Callable[[], int]:
        def run() -> int:
            time.time = lambda: now() + ahead
            return sweep_here(file, runs, storage=path)

        return run

    children += [start_container(work(ahead)) for ahead in (0.0, 600.0)]
    for child in children:
        child.join(PATIENT)
    assert [child.exitcode for child in children] == [0, 0]
    folders = list(runs.glob("tiny/*/manifest.json"))
    manifests = [json.loads(folder.read_text()) for folder in folders]
    assert len(manifests) == 4 and not any(manifest["earlier_starts"] for manifest in manifests)
    starts = {(folder.parent / "config.json").read_text() for folder in folders}
    assert len(starts) == 4
    trials = TrialQueue.load(read_sweep(file), sweep_folder(read_sweep(file), runs), path).study.get_trials()
    assert sum("point" in trial.user_attrs for trial in trials) == 4  # none was queued twice


@pytest.mark.slow
def test_a_container_takes_over_the_trials_of_one_that_was_killed(
    images: Path, tmp_path: Path, children: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It cannot look up the other's process: the heartbeats end."""
    skip_without_containers()
    for module in ("harness.sweep.execution.runner", "harness.sweep.search.lease"):
        monkeypatch.setattr(f"{module}.HEARTBEAT_SECONDS", 0.5)
    monkeypatch.setattr(lease, "LEASE_TIMEOUT", 3.0)
    file, runs = write_sweep(tmp_path / "tiny.yaml", images, *WORDS, parameters=THREE), tmp_path / "runs"
    children.append(start_container(lambda: sweep_here(file, runs)))
    assert wait_for(lambda: training(runs), PATIENT)
    kill_tree(children[0].pid)
    children[0].join(10)
    children.append(start_container(lambda: sweep_here(file, runs)))
    children[1].join(PATIENT)
    assert children[1].exitcode == 0
    finished_once(file, runs)
    assert {record.attempts for record in records(file, runs)} == {0}


@pytest.mark.slow
def test_a_run_that_outlives_its_runner_is_waited_for_and_resumed(
    images: Path, tmp_path: Path, children: list[Any]
) -> None:
    """A process that outlives its runner, for whatever reason: the rerun neither fails the trial nor runs it twice."""
    file, runs = write_sweep(tmp_path / "tiny.yaml", images, *WORDS, parameters=THREE), tmp_path / "runs"
    children.append(start_sweep(file, runs, before=keep_locks_from_trials))
    assert wait_for(lambda: training(runs), PATIENT)
    orphan = pid_of_run(training(runs)[0])
    try:
        # A stopped process gets SIGTERM late, as one does that hangs in a driver.
        os.kill(orphan, signal.SIGSTOP)
        os.kill(children[0].pid, signal.SIGKILL)
        children[0].join(10)
        log = tmp_path / "log"
        children.append(start_sweep(file, runs, before=lambda: os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT), 1)))
        assert wait_for(lambda: log.exists() and "its run is in use by another process" in log.read_text(), PATIENT)
        assert is_running(orphan)
        os.kill(orphan, signal.SIGCONT)
        children[-1].join(PATIENT)
        assert children[-1].exitcode == 0 and not is_running(orphan)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(orphan, signal.SIGKILL)
    finished_once(file, runs)
    assert {record.attempts for record in records(file, runs)} == {0}


def test_slurm_tasks_of_one_host_share_a_sweep(images: Path, tmp_path: Path, children: list[Any]) -> None:
    """Each has its lock; a second runner in one task is refused."""
    parameters = {"seed": {"values": list(range(4))}}
    file = write_sweep(tmp_path / "tiny.yaml", images, "--epochs=1", parameters=parameters)
    runs = tmp_path / "runs"

    def task(number: int) -> Callable[[], None]:
        return lambda: os.environ.update(SLURM_JOB_ID="7", SLURM_STEP_ID="0", SLURM_PROCID=str(number))

    children += [start_sweep(file, runs, before=task(number), search=Search()) for number in range(2)]
    for child in children:
        child.join(PATIENT)
    assert [child.exitcode for child in children] == [0, 0]
    assert [record.state for record in records(file, runs)] == ["finished"] * 4
    assert not any(json.loads(path.read_text())["earlier_starts"] for path in runs.glob("tiny/*/manifest.json"))
