"""A sweep whose trial queue is a PostgreSQL database, on a real server."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.sweep.search.trial_queue import TrialQueue
from harness.sweep.session import sweep_folder
from harness.sweep.spec.sweep_file import read_sweep
from tests.helpers import postgres
from tests.helpers.sweeping import kill_tree, start_sweep, write_sweep
from tests.helpers.waiting import wait_for

WORDS = ("--epochs=8", "--log-every=1", "--checkpoint-every=2")


@pytest.fixture
def url() -> Iterator[str]:
    if reason := postgres.why_not():
        pytest.skip(reason)
    with postgres.server() as url:
        yield url


@pytest.mark.slow
def test_workers_that_start_at_once_run_each_trial_once_though_one_is_killed(
    url: str, data_folder: Path, tmp_path: Path
) -> None:
    """They create the tables at the same moment. One is killed with its trial, and a third one takes its place."""
    lrs = [1e-3, 2e-3, 3e-3, 4e-3, 5e-3, 6e-3]
    file = write_sweep(tmp_path / "tiny.yaml", data_folder, *WORDS, parameters={"lr": {"values": lrs}})
    runs = tmp_path / "runs"

    def task(number: int) -> Callable[[], None]:
        return lambda: os.environ.update(SLURM_JOB_ID="7", SLURM_STEP_ID="0", SLURM_PROCID=str(number))

    workers = [start_sweep(file, runs, before=task(number), storage=url) for number in range(2)]
    try:
        assert wait_for(lambda: len(list(runs.glob("tiny/*/metrics.jsonl"))) >= 2, 120)
        kill_tree(workers[0].pid)
        workers.append(start_sweep(file, runs, before=task(2), storage=url))
        for worker in workers:
            worker.join(240)
        assert [worker.exitcode for worker in workers] == [-9, 0, 0]
    finally:
        for worker in workers:
            if worker.is_alive():
                kill_tree(worker.pid)
    sweep = read_sweep(file)
    queue = TrialQueue.load(sweep, sweep_folder(sweep, runs), url)
    assert [(record.state, record.attempts) for record in queue.records()] == [("finished", 0)] * 6
    assert len(queue.study.get_trials(deepcopy=False)) == 6  # no trial was queued twice
    folders = [path.parent for path in runs.glob("tiny/*/config.json")]
    assert sorted(json.loads((folder / "config.json").read_text())["lr"] for folder in folders) == lrs
    for folder in folders:
        rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        steps = [row["step"] for row in rows if "train/loss" in row]
        assert steps == list(range(1, 41))  # no step is trained by two processes
    queue.study._storage.remove_session()
