"""Sweeps on a real Slurm cluster of two nodes: each trial once, whatever happens to the tasks."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness.cli.main import main
from harness.errors import HarnessError
from harness.sweep.search.settings import Search
from harness.sweep.search.trial_queue import TrialQueue
from harness.sweep.search.trial_record import TrialRecord
from harness.sweep.session import check_inputs
from harness.sweep.spec.sweep_file import read_sweep
from harness.sweep.whereabouts import Whereabouts, whereabouts_of, write_scores
from tests import ROOT
from tests.helpers.forked import fork_runs
from tests.helpers.slurm_cluster import NODES, Cluster
from tests.helpers.sweeping import TINY, kill_tree, write_sweep
from tests.helpers.waiting import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

# The machine may be busy with other tests: a worker that takes a second alone may take half a minute.
PATIENCE = 240.0

# Workers of the test with random events: all that the two nodes have room for.
WORKERS = 4

# Restarts the batch script in a namespace that has the name of the node as its host name (unshare(1)).
OWN_HOST_NAMES = """\
[ -n "$RENAMED" ] || RENAMED=yes exec unshare --uts bash -c 'hostname "$SLURMD_NODENAME"; exec bash "$0"' "$0"
"""


@dataclass(frozen=True)
class Sweeping:
    """A sweep on the cluster, whose trials are fake runs."""

    cluster: Cluster
    file: Path
    trials: int

    @property
    def folder(self) -> Path:
        return self.file.parent / "runs" / self.file.stem

    def harness(self, *words: str, check: bool = True) -> str:
        command = [sys.executable, "-m", "harness.cli", *words]
        environment = {**self.cluster.environment, **own_variables(self.file.parent), "PYTHONPATH": self.python_path}
        ended = subprocess.run(
            command, cwd=self.file.parent, env=environment, capture_output=True, text=True, check=False, timeout=200
        )
        assert ended.returncode == 0 or not check, ended.stderr
        return ended.stdout

    def submit(self, tasks: int) -> str:
        """Submit workers; returns the id of the job."""
        return self.harness("slurm", "submit", self.file.name, f"--tasks={tasks}", "--time=10", "--cpus=1").split()[2][
            :-1
        ]

    def submit_again(self) -> str:
        """Submit one more worker with the script of the first ones, which is quicker; returns the id of the job."""
        script = self.folder / "slurm" / "submitted.sh"
        environment = {**self.cluster.environment, **own_variables(self.file.parent), "PYTHONPATH": self.python_path}
        command = ["sbatch", "--parsable", "--array=0", str(script)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()

    @property
    def python_path(self) -> str:
        return f"{ROOT / 'tests' / 'helpers' / 'fake_runs'}:{ROOT}"

    def records(self) -> list[TrialRecord]:
        """The trials; none before the first worker has queued all of them."""
        try:
            return TrialQueue.load(read_sweep(self.file), self.folder, None).records()
        except HarnessError:
            return []

    def whereabouts(self) -> dict[int, Whereabouts]:
        """By trial number, for trials that have started."""
        trials = TrialQueue.load(read_sweep(self.file), self.folder, None).study.trials
        return {trial.number: note for trial in trials if (note := whereabouts_of(trial))}

    @property
    def is_finished(self) -> bool:
        return [record.state for record in self.records()] == ["finished"] * self.trials

    def logs(self, job: str) -> list[str]:
        return [path.read_text() for path in sorted(self.folder.glob(f"slurm/{job}_*.log"))]

    def assert_each_trial_ran_once(self) -> None:
        records = self.records()
        assert [record.state for record in records] == ["finished"] * self.trials
        assert {record.attempts for record in records} == {0}
        runs = {path.parent.name: path.read_text() for path in self.folder.glob("*/ends")}
        assert len(runs) == self.trials
        assert set(runs.values()) == {"x"}
        for name in runs:
            rows = (self.folder / name / "metrics.jsonl").read_text().splitlines()
            epochs = [json.loads(row)["epoch"] for row in rows]
            assert epochs == list(range(1, len(epochs) + 1))


def own_variables(folder: Path) -> dict[str, str]:
    """Variables that a job inherits: nothing is written outside of the test's folder."""
    return {"HOME": str(folder / "home"), "HARNESS_CACHE_DIR": str(folder / "cache"), "CUDA_VISIBLE_DEVICES": ""}


@pytest.fixture
def sweep_of(slurm: Cluster, data_folder: Path, tmp_path: Path) -> Iterator[Callable[..., Sweeping]]:
    """A function that writes a sweep of so many fake trials, each of so many epochs of 0.2 s."""

    def write(trials: int, epochs: int) -> Sweeping:
        lrs = [float(f"{1e-4 * (number + 1):.1e}") for number in range(trials)]
        file = write_sweep(
            tmp_path / "tiny.yaml", data_folder, f"--epochs={epochs}", parameters={"lr": {"values": lrs}}
        )
        return Sweeping(slurm, file, trials)

    yield write
    slurm.clear()


@pytest.mark.parametrize("host_names", ["one", "two"])
def test_an_array_runs_each_trial_once(sweep_of: Callable[..., Sweeping], host_names: str) -> None:
    sweeping = sweep_of(10, 10)
    if host_names == "two":
        site = sweeping.file.parent / "home" / ".config" / "vit-harness" / "slurm.toml"
        site.parent.mkdir(parents=True)
        site.write_text(f"lines = [{json.dumps(OWN_HOST_NAMES)}]\n")
    job = sweeping.submit(4)
    assert wait_for(lambda: len(sweeping.cluster.states(job)) == 4, 10)
    assert sweeping.cluster.ended(job, PATIENCE), sweeping.logs(job)
    assert sweeping.cluster.states(job) == {f"{job}_{task}": "COMPLETED" for task in range(4)}
    sweeping.assert_each_trial_ran_once()

    # One leaderboard, of all trials, on every task that ended last; the others say that theirs is not final.
    logs = sweeping.logs(job)
    row = re.compile(r"^ *\d+ +0\.\d+ +0\.\d{4} .*", re.MULTILINE)
    boards = {tuple(row.findall(log)) for log in logs if "Not final" not in log}
    [board] = boards
    assert len(board) == 10
    assert board[0].split()[:3] == ["1", "0.001", "0.1000"]
    shown = sweeping.harness("sweep", "status", sweeping.file.name, "--json")
    assert len(json.loads(shown)["board"]["runs"]) == 10
    # Both nodes worked; with own host names, the ledger has them.
    places = sweeping.whereabouts().values()
    assert {place.host for place in places} == set(NODES)
    assert {place.job for place in places} <= {f"{job}_{task}" for task in range(4)}
    trials = TrialQueue.load(read_sweep(sweeping.file), sweeping.folder, None).study.get_trials()
    # Optuna makes a trial without a point for a worker that asks for one just after another has claimed the last.
    hosts = {trial.user_attrs["owner"]["host"] for trial in trials if "point" in trial.user_attrs}
    assert hosts == (set(NODES) if host_names == "two" else {os.uname().nodename})


def worker_of(cluster: Cluster, number: str) -> int | None:
    """Process id of `harness sweep run` of a job by its number; other clusters have jobs of the same numbers."""
    marks = {f"SLURM_JOB_ID={number}".encode(), f"SLURM_CONF={cluster.environment['SLURM_CONF']}".encode()}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words, environment = ((entry / name).read_bytes().split(b"\0") for name in ("cmdline", "environ"))
            if {b"harness.cli", b"sweep", b"run"} <= set(words) and marks <= set(environment):
                return int(entry.name)
    return None


class Disturbance:
    """Random events that hit tasks of a sweep, and new workers where too few are left."""

    def __init__(self, sweeping: Sweeping, chance: random.Random) -> None:
        self.sweeping, self.cluster, self.chance = sweeping, sweeping.cluster, chance
        self.jobs = [sweeping.submit(WORKERS)]
        self.remaining = chance.sample(EVENTS, len(EVENTS))

    def states(self) -> dict[str, str]:
        return self.cluster.states(*self.jobs)

    def start_pending(self) -> None:
        """Slurm starts a requeued task two minutes later; start it now."""
        for task, state in self.states().items():
            if state == "PENDING":
                self.attempt("scontrol", "update", f"JobId={task}", "StartTime=now")

    def replace_lost_workers(self) -> None:
        """Submit a worker for each that has ended. The next event does not wait for it."""
        left = sum(state in ("RUNNING", "PENDING", "COMPLETING") for state in self.states().values())
        self.jobs += [self.sweeping.submit_again() for _ in range(WORKERS - left)]

    def attempt(self, *command: str) -> None:
        """Run a command whose task may end at the same moment."""
        subprocess.run(command, env=self.cluster.environment, capture_output=True, check=False, timeout=30)

    def busy(self) -> list[str]:
        """Running tasks that work on a trial."""
        records = {record.number for record in self.sweeping.records() if record.state == "running"}
        if not records:
            return []
        jobs = {place.job for number, place in self.sweeping.whereabouts().items() if number in records}
        return sorted(task for task, state in self.states().items() if state == "RUNNING" and task in jobs)

    def event(self) -> None:
        """Hit one task that works on a trial."""

        def found() -> bool:
            self.start_pending()
            self.replace_lost_workers()
            return bool(self.busy()) or self.sweeping.is_finished

        assert wait_for(found, PATIENCE, every=0.2), (self.states(), [self.sweeping.logs(job) for job in self.jobs])
        time.sleep(self.chance.uniform(0.0, 1.0))
        if not (busy := self.busy()):
            return
        task = self.chance.choice(busy)
        match self.remaining.pop():
            case "TERM":
                self.attempt("scancel", "--batch", "--signal=TERM", task)
            case "requeue":
                self.attempt("scontrol", "requeue", task)
            case "kill":
                number = self.cluster.run("scontrol", "show", "job", task).split()[0].removeprefix("JobId=")
                if (pid := worker_of(self.cluster, number)) is not None:
                    kill_tree(pid)
            case "cancel":
                self.attempt("scancel", task)

    def finish(self) -> None:
        """Add workers until all trials have ended."""
        deadline = time.monotonic() + PATIENCE
        while not self.sweeping.is_finished:
            assert time.monotonic() < deadline, (self.states(), self.sweeping.records())
            self.start_pending()
            self.replace_lost_workers()
            time.sleep(0.5)


EVENTS = ("TERM", "requeue", "kill", "cancel") * 2


def test_random_events_lose_and_repeat_no_trial(sweep_of: Callable[..., Sweeping]) -> None:
    """The warning of the time limit, requeueing, kill -9 of a worker with its trial, and scancel, at random moments."""
    sweeping = sweep_of(16, 20)
    disturbance = Disturbance(sweeping, random.Random(20))
    while disturbance.remaining and not sweeping.is_finished:
        disturbance.event()
    assert not disturbance.remaining, "longer trials are needed"
    disturbance.finish()
    sweeping.assert_each_trial_ran_once()
    starts = [len(path.read_text()) for path in sweeping.folder.glob("*/starts")]
    assert sum(starts) > len(starts), "no event has hit a trial"
    # The last workers end well, also those that find nothing to do.
    job = sweeping.submit_again()
    assert sweeping.cluster.ended(job, PATIENCE)
    assert sweeping.cluster.states(job) == {f"{job}_0": "COMPLETED"}
    assert "started" not in sweeping.logs(job)[0]


def test_stop_cancels_the_jobs(sweep_of: Callable[..., Sweeping]) -> None:
    sweeping = sweep_of(4, 1000)
    job = sweeping.submit(6)
    states = sweeping.cluster.states
    assert wait_for(lambda: [record.state for record in sweeping.records()].count("running") == 4, PATIENCE)
    shown = sweeping.harness("sweep", "status", sweeping.file.name)
    assert (
        sum(line.split()[:2] == [f"{job}_{task}", "RUNNING"] for line in shown.splitlines() for task in range(6)) == 4
    )
    assert sum("(job " in line for line in shown.splitlines()) == 4
    assert "n1 (job" in shown

    # One trial alone, on whatever node it runs.
    assert "Trial 2 is stopped." in sweeping.harness("sweep", "stop", sweeping.file.name, "--trial", "2")
    assert sorted(record.state for record in sweeping.records()) == ["running"] * 3 + ["stopped"]

    stopped = sweeping.harness("sweep", "stop", sweeping.file.name)
    assert "The sweep tiny is stopped. Cancelled jobs: " in stopped
    assert sweeping.cluster.ended(job, PATIENCE)
    assert set(states(job).values()) <= {"CANCELLED", "COMPLETED"}
    assert sorted(record.state for record in sweeping.records()) == ["interrupted"] * 3 + ["stopped"]


def test_a_worker_without_enough_time_takes_no_trial(sweep_of: Callable[..., Sweeping]) -> None:
    sweeping = sweep_of(2, 10)
    sweep = read_sweep(sweeping.file)
    sweeping.folder.mkdir(parents=True)
    storage = str(sweeping.folder / "journal.log")
    trial_queue = TrialQueue.open(sweep, Search(), sweeping.folder, storage, check_inputs(sweep, Search()))
    claimed = trial_queue.claim()
    assert claimed is not None
    write_scores(trial_queue, claimed.number, {"seconds/total": 5.0})
    trial_queue.end(claimed, "finished", value=0.5)

    # The limit is 3 minutes, the warning 178 s before it: 2 s are left.
    text = sweeping.harness("slurm", "script", sweeping.file.name, "--time=3", "--cpus=1")
    script = sweeping.file.with_suffix(".sh")
    script.write_text(text.replace("+%s) - 120", "+%s) - 178"))
    assert script.read_text() != text
    script.write_text("\n".join(line for line in script.read_text().splitlines() if " slurm requeue " not in line))
    (sweeping.folder / "slurm").mkdir()
    environment = {
        **sweeping.cluster.environment,
        **own_variables(sweeping.file.parent),
        "PYTHONPATH": sweeping.python_path,
    }
    job = subprocess.run(
        ["sbatch", "--parsable", str(script)], env=environment, capture_output=True, text=True, check=True
    ).stdout.strip()
    assert sweeping.cluster.ended(job, PATIENCE)
    assert sweeping.cluster.exit_code(f"{job}_0") == "0:0"
    [log] = sweeping.logs(job)
    assert "A trial takes about 5" in log
    assert "left of this job: the remaining trials are left to other workers" in log
    assert "started" not in log
    assert [record.state for record in sweeping.records()] == ["finished", "waiting"]


def test_one_run_over_two_nodes_gives_the_scores_of_one_process(
    slurm: Cluster, data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [f"--data={data_folder}", *TINY, "--epochs=2", "--lr=0.001"]
    environment = {**slurm.environment, **own_variables(tmp_path), "PYTHONPATH": str(ROOT), "WANDB_MODE": "disabled"}
    (temporary := tmp_path / "temporary").mkdir()
    environment["TMPDIR"] = str(temporary)
    submit = ["slurm", "submit", "--train", "--nodes=2", "--time=10", "--", *words, "--runs-dir=two"]
    command = [sys.executable, "-m", "harness.cli", *submit]
    submitted = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    job = submitted.stdout.split()[2][:-1]
    fork_runs(monkeypatch)
    alone = CliRunner().invoke(main, ["train", *words, f"--runs-dir={tmp_path / 'one'}"])
    assert alone.exit_code == 0, alone.output
    assert slurm.ended(job, PATIENCE)
    assert slurm.states(job) == {job: "COMPLETED"}, (tmp_path / "two" / "slurm" / f"{job}.log").read_text()
    [one], [two] = (list((tmp_path / runs).glob("*/summary.json")) for runs in ("one", "two"))
    expected, summary = json.loads(one.read_text()), json.loads(two.read_text())
    for key in ("best/val_loss", "test/loss", "best/val_f1", "test/f1"):
        assert summary[key] == pytest.approx(expected[key], rel=1e-3), key
    manifest = json.loads(two.with_name("manifest.json").read_text())
    assert manifest["processes"] == 2
    assert not list(temporary.iterdir())
