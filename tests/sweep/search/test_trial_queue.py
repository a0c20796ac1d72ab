"""The trial queue: claims, settings and records of trials, on one machine and on several."""

from __future__ import annotations

import errno
import functools
import itertools
import math
import os
import platform
import time
from pathlib import Path
from typing import Any

import pytest

from harness.errors import ConfigError, HarnessError
from harness.sweep.search import growth as growth_module
from harness.sweep.search import lease as lease_module
from harness.sweep.search import ledger_lock as lock_module
from harness.sweep.search import trial_queue as queue_module
from harness.sweep.search.growth import Growth
from harness.sweep.search.lease import HEARTBEAT_SECONDS, LEASE_TIMEOUT, LeaseWatch
from harness.sweep.search.settings import Search
from harness.sweep.search.trial_queue import TrialQueue
from harness.sweep.spec.repeats import with_repeats
from harness.sweep.spec.sweep_file import Sweep, read_sweep
from tests.helpers.earlier_ledgers import as_earlier_version
from tests.helpers.sweeping import GRID, fork, write_sweep

BAYES = {
    "lr": {"distribution": "log_uniform_values", "min": 1e-5, "max": 1e-1},
    "weight_decay": {"distribution": "q_uniform", "min": 0.0, "max": 0.5, "q": 0.1},
    "epochs": {"min": 1, "max": 9},
    "augment": {"values": ["none", "standard"]},
    "seed": {"value": 7},
}


def sweep_of(tmp_path: Path, **keys: Any) -> Sweep:
    return read_sweep(write_sweep(tmp_path / "tiny.yaml", tmp_path, **keys))


def finish_all(trial_queue: TrialQueue, value: Any) -> list[dict[str, Any]]:
    """Claim every trial and finish it with value(settings); returns the settings."""
    finished = []
    while claimed := trial_queue.claim():
        trial_queue.end(claimed, "finished", value=value(claimed.settings))
        finished.append(claimed.settings)
    return finished


def quality(settings: dict[str, Any]) -> float:
    return -abs(math.log10(settings["lr"]) + 3)


def test_a_grid_is_claimed_in_order_until_it_is_empty(tmp_path: Path) -> None:
    trial_queue = TrialQueue.open(sweep_of(tmp_path), Search(), tmp_path, None)
    assert [record.state for record in trial_queue.records()] == ["waiting"] * 4
    assert finish_all(trial_queue, lambda _: 0.5) == [
        {"augment": augment, "lr": lr} for augment in GRID["augment"]["values"] for lr in GRID["lr"]["values"]
    ]
    assert trial_queue.claim() is None
    assert [(record.state, record.value, record.run_id) for record in trial_queue.records()] == [
        ("finished", 0.5, f"{trial_queue.sweep_id}-{number}") for number in range(4)
    ]
    # Optuna knows the best trial and its parameters, so that its own tools work.
    assert trial_queue.study.best_trial.params == {"augment": "none", "lr": 1e-3}


def test_a_sweep_of_an_earlier_version_resumes_with_the_defaults_it_was_begun_with(tmp_path: Path) -> None:
    file = write_sweep(tmp_path / "tiny.yaml", tmp_path)
    text = file.read_text()
    TrialQueue.open(read_sweep(file), Search(), tmp_path, None)
    as_earlier_version(tmp_path / "study.db", before_recipes=True)
    file.write_text(text.replace("- --recipe=study\n", ""))
    with pytest.raises(ConfigError, match=r"are now those of --recipe=study\. Add `- --recipe=study` to `command`"):
        TrialQueue.open(read_sweep(file), Search(), tmp_path, None)
    file.write_text(text)
    resumed = TrialQueue.open(read_sweep(file), Search(), tmp_path, None)
    assert resumed.growth == Growth(queued=0, removed=0, outside=0, is_first=False)
    assert [record.number for record in resumed.records()] == [0, 1, 2, 3]
    file.write_text(text.replace("vit_demo", "vit_ti_16"))
    with pytest.raises(ConfigError, match="--model: vit_demo -> vit_ti_16"):
        TrialQueue.open(read_sweep(file), Search(), tmp_path, None)


def test_run_cap_ends_a_grid_early(tmp_path: Path) -> None:
    trial_queue = TrialQueue.open(sweep_of(tmp_path, run_cap=3), Search(), tmp_path, None)
    assert len(finish_all(trial_queue, lambda _: 0.0)) == 3


@pytest.mark.parametrize("method", ["random", "bayes"])
def test_the_same_file_and_seed_give_the_same_trials_however_often_interrupted(method: str, tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, method=method, parameters=BAYES)
    search = Search(count=14, seed=3)
    at_once = finish_all(TrialQueue.open(sweep, search, tmp_path / "a", f"{tmp_path}/a.log"), quality)

    in_parts: list[dict[str, Any]] = []
    while True:
        trial_queue = TrialQueue.open(sweep, search, tmp_path / "b", f"{tmp_path}/b.log")
        if (claimed := trial_queue.claim()) is None:
            break
        trial_queue.end(claimed, "finished", value=quality(claimed.settings))
        in_parts.append(claimed.settings)
    assert in_parts == at_once
    assert len({str(settings) for settings in at_once}) == 14
    for settings in at_once:
        assert 1e-5 <= settings["lr"] <= 1e-1
        assert settings["weight_decay"] == pytest.approx(round(settings["weight_decay"] * 10) / 10)
        assert settings["seed"] == 7
        assert settings["epochs"] in range(1, 10)
    other = TrialQueue.open(sweep, Search(count=14, seed=4), tmp_path / "c", f"{tmp_path}/c.log")
    assert finish_all(other, quality) != at_once


def test_a_bayesian_search_finds_better_settings_than_a_random_one(tmp_path: Path) -> None:
    """Mean distance from the best learning rate in the last ten of thirty trials, over three seeds."""
    means = {}
    for method in ("random", "bayes"):
        sweep = sweep_of(tmp_path, method=method, parameters={"lr": BAYES["lr"]})
        values = []
        for seed in range(3):
            url = f"sqlite:///{tmp_path}/{method}{seed}.db"
            trial_queue = TrialQueue.open(sweep, Search(count=30, seed=seed), tmp_path, url)
            values += [quality(settings) for settings in finish_all(trial_queue, quality)[-10:]]
        means[method] = -sum(values) / len(values)
    assert means["bayes"] < 0.6 * means["random"]


def test_a_bayesian_search_avoids_infeasible_settings(tmp_path: Path) -> None:
    """Above 1e-2 trials are infeasible; few of the last ten of forty trials are there."""
    sweep = sweep_of(tmp_path, method="bayes", parameters={"lr": BAYES["lr"]})
    trial_queue = TrialQueue.open(sweep, Search(count=40, seed=0), tmp_path, None)
    tried = []
    while claimed := trial_queue.claim():
        lr = claimed.settings["lr"]
        tried.append(lr)
        if lr > 1e-2:
            trial_queue.end(claimed, "infeasible", reason="the loss became nan")
        else:
            trial_queue.end(claimed, "finished", value=math.log10(lr))  # the best is next to the edge
    assert sum(lr > 1e-2 for lr in tried[-10:]) <= 4
    assert max(lr for lr in tried if lr <= 1e-2) > 5e-3


@pytest.mark.parametrize("repeats", [1, 2])
def test_two_runners_that_claim_at_the_same_moment_try_different_settings(
    repeats: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second runner claims a trial after the first has claimed one and before it has chosen its settings."""
    sweep = with_repeats(sweep_of(tmp_path, method="bayes", parameters={"lr": BAYES["lr"]}), repeats)
    search = Search(count=4, repeats=repeats)
    here, there = (TrialQueue.open(sweep, search, tmp_path, f"{tmp_path}/journal.log") for _ in range(2))
    make_sampler, others = queue_module.make_sampler, []

    def meanwhile(*arguments: Any) -> Any:
        monkeypatch.setattr(queue_module, "make_sampler", make_sampler)
        others.extend(there.claim() for _ in range(repeats))
        return make_sampler(*arguments)

    monkeypatch.setattr(queue_module, "make_sampler", meanwhile)
    claimed = here.claim()
    assert claimed and len({claimed.number, *(other.number for other in others)}) == 1 + repeats
    rates = {each.point // repeats: each.settings["lr"] for each in (claimed, *others)}
    assert len(set(rates.values())) == len(rates) == 2


def test_a_search_without_a_number_of_trials_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Give run_cap in the file, or --count"):
        TrialQueue.open(sweep_of(tmp_path, method="random", parameters=BAYES), Search(), tmp_path, None)


def test_the_trial_of_a_dead_process_is_claimed_again_with_the_same_settings(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, method="bayes", parameters=BAYES)
    search, numbers = Search(count=5), []

    def claim_and_die() -> None:
        claimed = TrialQueue.open(sweep, search, tmp_path, None).claim()
        assert claimed is not None
        (tmp_path / "claimed").write_text(f"{claimed.number} {claimed.settings}")
        os._exit(1)

    child = fork.Process(target=claim_and_die)
    child.start()
    child.join(30)
    trial_queue = TrialQueue.open(sweep, search, tmp_path, None)
    assert trial_queue.records()[0].state == "interrupted"
    claimed = trial_queue.claim()
    assert claimed is not None
    assert f"{claimed.number} {claimed.settings}" == (tmp_path / "claimed").read_text()
    assert trial_queue.records()[0].state == "running"
    assert trial_queue.records()[0].owner == platform.node()
    # It belongs to this process now, so the next claims return the next trials.
    while (following := trial_queue.claim()) is not None:
        numbers.append(following.number)
    assert numbers == [1, 2, 3, 4]
    trial_queue.release(claimed)
    again = trial_queue.claim()
    assert again is not None
    assert (again.number, again.settings) == (claimed.number, claimed.settings)


def test_a_trial_of_another_machine_is_claimed_when_its_lease_expires(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = sweep_of(tmp_path)
    storage = str(tmp_path / "journal.log")
    elsewhere = TrialQueue.open(sweep, Search(), tmp_path / "elsewhere", storage)
    with monkeypatch.context() as there:
        there.setattr(platform, "node", lambda: "another")
        there.setattr(lease_module, "machine", lambda: "another boot/1")
        first = elsewhere.claim()
    here = TrialQueue.open(sweep, Search(), tmp_path / "here", storage)
    assert here.sweep_id == elsewhere.sweep_id
    second = here.claim()
    assert first is not None
    assert second is not None
    assert (first.number, second.number) == (0, 1)
    assert here.records()[0].owner == "another"
    assert here.unsettled() == [0]  # it may be dead: no heartbeat has come yet

    monkeypatch.setattr(queue_module, "TAKE_OVER_SECONDS", 0.0)
    clock = itertools.count(time.monotonic() + HEARTBEAT_SECONDS, HEARTBEAT_SECONDS)
    for _ in range(int(LEASE_TIMEOUT / HEARTBEAT_SECONDS)):
        assert here.records()[0].state == "running"
        now = next(clock)
        here._watch._clock = functools.partial(float, now)
    taken_over = here.claim()
    assert taken_over is not None
    assert taken_over.number == 0
    assert here.records()[0].owner == platform.node()
    assert not elsewhere.heartbeat(first) and here.unsettled() == []


@pytest.mark.parametrize("storage", ["sqlite:///{}/shared.db", "{}/journal.log"])
def test_a_trial_that_another_machine_took_over_and_ended_stays_ended(
    storage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that was suspended loses its trial to another one."""
    sweep, url = sweep_of(tmp_path), storage.format(tmp_path)
    here, elsewhere = (TrialQueue.open(sweep, Search(), tmp_path / name, url) for name in ("here", "elsewhere"))
    claimed = here.claim()
    assert claimed is not None and here.owns(claimed)
    monkeypatch.setattr(queue_module, "TAKE_OVER_SECONDS", 0.0)
    with monkeypatch.context() as there:
        there.setattr(platform, "node", lambda: "another")
        there.setattr(LeaseWatch, "is_abandoned", lambda _, trial: trial.number == claimed.number)
        taken_over = elsewhere.claim()
        assert taken_over is not None and taken_over.number == claimed.number
    assert not here.owns(claimed)
    here.release(claimed)
    assert elsewhere.records()[0].owner == "another"

    # It ends there at the moment when this machine claims it back.
    def end_elsewhere(_: LeaseWatch, trial: Any) -> bool:
        if trial.number == claimed.number:
            elsewhere.end(taken_over, "finished", value=0.5)
        return trial.number == claimed.number

    monkeypatch.setattr(LeaseWatch, "is_abandoned", end_elsewhere)
    following = here.claim()
    assert following is not None and following.number == 1
    assert not here.heartbeat(claimed) and here.records()[0].value == 0.5
    # What this machine records too late changes nothing.
    here.end(here.attempt_failed(claimed), "failed", reason="too late")
    assert not here.report(claimed, 1, 0.1)
    assert (here.records()[0].state, here.records()[0].value) == ("finished", 0.5)


@pytest.mark.parametrize("storage", ["sqlite:///{}/shared.db", "{}/journal.log"])
def test_two_workers_run_each_trial_once(storage: str, tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, parameters={"seed": {"values": list(range(24))}})
    url = storage.format(tmp_path)
    TrialQueue.open(sweep, Search(), tmp_path, url)

    def work(name: str) -> None:
        with (tmp_path / name).open("w") as file:
            for settings in finish_all(TrialQueue.open(sweep, Search(), tmp_path, url), lambda _: 1.0):
                file.write(f"{settings['seed']}\n")

    children = [fork.Process(target=work, args=(name,)) for name in ("one", "two")]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
        assert child.exitcode == 0
    seeds = [[int(line) for line in (tmp_path / name).read_text().split()] for name in ("one", "two")]
    assert sorted(seeds[0] + seeds[1]) == list(range(24))


@pytest.mark.parametrize("storage", ["sqlite:///{}/shared.db", "{}/new/journal.log"])
def test_workers_that_begin_at_the_same_moment_queue_each_trial_once(storage: str, tmp_path: Path) -> None:
    """Three processes wait for each other, then open a queue that does not exist."""
    sweep = sweep_of(tmp_path, parameters={"seed": {"values": list(range(12))}})
    url, barrier, ids = storage.format(tmp_path), fork.Barrier(3), fork.Queue()

    def begin() -> None:
        barrier.wait(60)
        ids.put(TrialQueue.open(sweep, Search(), tmp_path, url).sweep_id)

    children = [fork.Process(target=begin) for _ in range(3)]
    for child in children:
        child.start()
    assert len({ids.get(timeout=60) for _ in children}) == 1
    for child in children:
        child.join(60)
        assert child.exitcode == 0
    trials = TrialQueue.load(sweep, tmp_path, url).study.get_trials(deepcopy=False)
    assert [trial.user_attrs["point"] for trial in trials] == list(range(12))


def test_a_trial_that_two_machines_queued_runs_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a file system without locks. The first copy has failed before a worker claims the second one."""
    monkeypatch.setattr(lock_module.fcntl, "flock", no_locks)
    sweep = sweep_of(tmp_path, parameters={"lr": {"value": 1e-3}})
    trial_queue = TrialQueue.open(sweep, Search(), tmp_path, None)

    def queue_the_same_elsewhere(trial: Any) -> None:
        trial_queue.study.enqueue_trial({}, user_attrs={**trial.user_attrs})

    for attempt in range(2):  # the first time, and when it is queued again
        queue_the_same_elsewhere(trial_queue.study.trials[-1])
        claimed = trial_queue.claim()
        assert claimed is not None
        trial_queue.end(claimed, "failed", reason="a bug")
        [record] = trial_queue.records()
        assert (record.number, record.state) == (2 * attempt, "failed")
        assert trial_queue.claim() is None
        assert trial_queue.records() == [record]
        trial_queue.requeue(record, attempts=0)
    assert trial_queue.claim() is not None


def test_an_error_without_a_lock_on_the_queue_is_not_blamed_on_the_lock(tmp_path: Path) -> None:
    (tmp_path / ".journal.log.queueing").symlink_to("elsewhere")  # O_NOFOLLOW refuses it
    with pytest.raises(KeyError) as error, lock_module.ledger_lock("tiny", tmp_path, str(tmp_path / "journal.log")):
        raise KeyError("unrelated")
    assert error.value.__context__ is None


def no_locks(*_: Any) -> None:
    raise OSError(errno.ENOLCK, "No locks available")


def test_a_study_whose_creator_was_killed_is_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = sweep_of(tmp_path)
    enqueue = growth_module.optuna.Study.enqueue_trial

    def die_at_the_third(study: Any, *arguments: Any, **keywords: Any) -> None:
        if len(study.trials) == 2:
            raise KeyboardInterrupt
        enqueue(study, *arguments, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(growth_module.optuna.Study, "enqueue_trial", die_at_the_third)
        with pytest.raises(KeyboardInterrupt):
            TrialQueue.open(sweep, Search(), tmp_path, None)
    trial_queue = TrialQueue.open(sweep, Search(), tmp_path, None)
    assert [record.point for record in trial_queue.records()] == [0, 1, 2, 3]
    assert len(finish_all(trial_queue, lambda _: 0.0)) == 4


def test_a_sweep_that_has_not_begun(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="has not begun"):
        TrialQueue.load(sweep_of(tmp_path), tmp_path, None)
    assert not (tmp_path / "study.db").exists()


@pytest.mark.parametrize("storage", ["sqlite:////nowhere/at/all.db", "nosuchdb://x/y", "/proc/nowhere/journal.log"])
def test_a_storage_that_cannot_be_opened_is_an_error(storage: str, tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match=r"--storage .* cannot be opened"):
        TrialQueue.open(sweep_of(tmp_path), Search(), tmp_path, storage)


def test_the_gp_algorithm_also_searches(tmp_path: Path) -> None:
    pytest.importorskip("scipy")
    sweep = sweep_of(tmp_path, method="bayes", parameters={"lr": BAYES["lr"]})
    trial_queue = TrialQueue.open(sweep, Search(count=14, algorithm="gp"), tmp_path, None)
    tried = finish_all(trial_queue, quality)
    assert max(quality(settings) for settings in tried) > -0.3
