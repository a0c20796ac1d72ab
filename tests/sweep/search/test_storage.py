"""The cache of a database: what it reads again, and that it misses no change by another machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import sqlalchemy.exc
from optuna.trial import TrialState

from harness.sweep.search import storage as storage_module
from harness.sweep.search.storage import open_storage
from tests.helpers.sweeping import fork

QUEUED = 5


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A database with a study of queued trials."""
    url = f"sqlite:///{tmp_path}/study.db"
    study = optuna.create_study(storage=open_storage(url), study_name="sweep", direction="maximize")
    for number in range(QUEUED):
        study.enqueue_trial({}, user_attrs={"point": number})
    return url


def opened(url: str) -> tuple[optuna.Study, list[list[int]]]:
    """The study through a separate cache, and the numbers of the trials that each read fetches."""
    storage: Any = open_storage(url)
    fetched: list[list[int]] = []
    get_trials = storage._backend._get_trials

    def record_numbers(*arguments: Any) -> Any:
        trials = get_trials(*arguments)
        fetched.append([trial.number for trial in trials])
        return trials

    storage._backend._get_trials = record_numbers
    return optuna.load_study(storage=storage, study_name="sweep"), fetched


def states(study: optuna.Study) -> list[TrialState]:
    return [trial.state for trial in study.get_trials(deepcopy=False)]


def test_only_trials_that_may_have_changed_are_read_again(url: str) -> None:
    study, fetched = opened(url)
    first, second = study.ask(), study.ask()
    study.tell(first, 0.5)
    states(study)
    fetched.clear()
    assert states(study) == [TrialState.COMPLETE, TrialState.RUNNING, *[TrialState.WAITING] * (QUEUED - 2)]
    assert fetched == [[], [second.number]]


def test_ended_trials_are_read_once(url: str) -> None:
    before, _ = opened(url)
    for _ in range(QUEUED):
        before.tell(before.ask(), 0.5)
    study, fetched = opened(url)
    assert states(study) == states(study) == [TrialState.COMPLETE] * QUEUED
    fetched.clear()
    assert states(study) == [TrialState.COMPLETE] * QUEUED
    assert fetched == [[], []]


def test_tables_that_another_machine_creates_at_the_same_moment(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """PostgreSQL raises this error in the second of two processes."""
    calls, create = [], storage_module.RDBStorage

    def fail_once(*arguments: Any, **keywords: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 1:
            raise sqlalchemy.exc.IntegrityError("CREATE TYPE studydirection", None, Exception("already exists"))
        return create(*arguments, **keywords)

    monkeypatch.setattr(storage_module, "RDBStorage", fail_once)
    monkeypatch.setattr(storage_module, "TABLES_PAUSES", (0.0,))
    assert states(opened(url)[0]) == [TrialState.WAITING] * QUEUED
    assert len(calls) == 2


def test_machines_that_create_a_database_at_the_same_moment_all_open_it(tmp_path: Path) -> None:
    """Four processes, ten times: each waits for the others, then opens a database that does not exist."""
    barrier = fork.Barrier(4)

    def create() -> None:
        for number in range(10):
            barrier.wait(60)
            open_storage(f"sqlite:///{tmp_path}/{number}.db").get_all_studies()

    children = [fork.Process(target=create) for _ in range(4)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
    assert [child.exitcode for child in children] == [0] * 4


def test_changes_by_another_machine_are_read(url: str) -> None:
    here, elsewhere = opened(url)[0], opened(url)[0]
    assert states(here) == [TrialState.WAITING] * QUEUED
    trial = elsewhere.ask()
    assert states(here) == [TrialState.RUNNING, *[TrialState.WAITING] * (QUEUED - 1)]
    trial.set_user_attr("owner", "elsewhere")
    assert here.get_trials(deepcopy=False)[0].user_attrs == {"point": 0, "owner": "elsewhere"}
    elsewhere.tell(trial, state=TrialState.FAIL)
    elsewhere.enqueue_trial({}, user_attrs={"point": 0})
    assert states(here) == [TrialState.FAIL, *[TrialState.WAITING] * QUEUED]
    assert [here.ask().number for _ in range(QUEUED)] == [1, 2, 3, 4, 5]
    assert states(elsewhere) == [TrialState.FAIL, *[TrialState.RUNNING] * QUEUED]


def test_a_trial_queued_and_a_trial_begun_between_two_reads(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The older trial still waits when the newer one is read as running."""
    here, elsewhere = opened(url)[0], opened(url)[0]
    for _ in range(QUEUED):
        here.tell(here.ask(), 0.5)
    states(here)
    backend: Any = here._storage._backend
    get_trials, reads = backend._get_trials, 0

    def change_between_reads(*arguments: Any) -> Any:
        nonlocal reads
        reads += 1
        if reads == 2:
            elsewhere.enqueue_trial({}, user_attrs={"point": 5})
            elsewhere.add_trial(optuna.trial.create_trial(state=TrialState.RUNNING))
        return get_trials(*arguments)

    backend._get_trials = change_between_reads
    states(here)
    assert states(here)[QUEUED:] == [TrialState.WAITING, TrialState.RUNNING]


def test_three_machines_read_the_same_trials_after_random_changes(url: str) -> None:
    """Trials queued, begun, changed and ended in random order, through three caches, against the whole database."""
    random = np.random.default_rng(0)
    machines: list[Any] = [opened(url)[0] for _ in range(3)]
    whole = optuna.storages.RDBStorage(url)
    study_id = whole.get_study_id_from_name("sweep")
    begun: list[optuna.Trial] = []
    states_seen: set[TrialState] = set()
    for step in range(50):
        study = machines[random.integers(3)]
        match random.integers(5):
            case 0 | 1:
                study.enqueue_trial({}, user_attrs={"point": step})
            case 2:
                begun.append(study.ask())  # creates one if the queue is empty
            case 3 if begun:
                begun[random.integers(len(begun))].set_user_attr("owner", step)
            case 4 if begun:
                study.tell(begun.pop(random.integers(len(begun))).number, 0.5)
        expected = [(t.number, t.state, t.user_attrs) for t in whole.get_all_trials(study_id, deepcopy=False)]
        states_seen |= {state for _, state, _ in expected}
        for index in random.permutation(3)[: random.integers(1, 4)]:
            assert [(t.number, t.state, t.user_attrs) for t in machines[index].get_trials(deepcopy=False)] == expected
    assert states_seen == {TrialState.WAITING, TrialState.RUNNING, TrialState.COMPLETE}
