"""The cache of a database: what it reads again, and that it misses nothing that others write."""

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
    """The study through a cache of its own, and the numbers of the trials that each reading fetches."""
    storage: Any = open_storage(url)
    fetched: list[list[int]] = []
    get_trials = storage._backend._get_trials

    def noted(*arguments: Any) -> Any:
        trials = get_trials(*arguments)
        fetched.append([trial.number for trial in trials])
        return trials

    storage._backend._get_trials = noted
    return optuna.load_study(storage=storage, study_name="sweep"), fetched


def states(study: optuna.Study) -> list[TrialState]:
    return [trial.state for trial in study.get_trials(deepcopy=False)]


def test_only_what_can_have_changed_is_read_again(url: str) -> None:
    study, fetched = opened(url)
    first, second = study.ask(), study.ask()
    study.tell(first, 0.5)
    states(study)
    fetched.clear()
    assert states(study) == [TrialState.COMPLETE, TrialState.RUNNING, *[TrialState.WAITING] * (QUEUED - 2)]
    assert fetched == [[], [second.number]]


def test_what_has_ended_before_is_read_once(url: str) -> None:
    before, _ = opened(url)
    for _ in range(QUEUED):
        before.tell(before.ask(), 0.5)
    study, fetched = opened(url)
    assert states(study) == states(study) == [TrialState.COMPLETE] * QUEUED
    fetched.clear()
    assert states(study) == [TrialState.COMPLETE] * QUEUED
    assert fetched == [[], []]


def test_tables_that_another_machine_makes_at_the_same_moment(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As PostgreSQL tells the one that comes second."""
    made, make = [], storage_module.RDBStorage

    def second(*arguments: Any, **keywords: Any) -> Any:
        made.append(arguments)
        if len(made) == 1:
            raise sqlalchemy.exc.IntegrityError("CREATE TYPE studydirection", None, Exception("already exists"))
        return make(*arguments, **keywords)

    monkeypatch.setattr(storage_module, "RDBStorage", second)
    monkeypatch.setattr(storage_module, "TABLES_TIMEOUT", 0.0)
    assert states(opened(url)[0]) == [TrialState.WAITING] * QUEUED
    assert len(made) == 2


def test_what_others_do_is_seen(url: str) -> None:
    here, elsewhere = opened(url)[0], opened(url)[0]
    assert states(here) == [TrialState.WAITING] * QUEUED
    trial = elsewhere.ask()
    assert states(here) == [TrialState.RUNNING, *[TrialState.WAITING] * (QUEUED - 1)]
    trial.set_user_attr("owner", "elsewhere")
    assert here.get_trials(deepcopy=False)[0].user_attrs == {"point": 0, "owner": "elsewhere"}
    elsewhere.tell(trial, state=TrialState.FAIL)
    elsewhere.enqueue_trial({}, user_attrs={"point": 0})
    assert states(here) == [TrialState.FAIL, *[TrialState.WAITING] * QUEUED]
    taken = [here.ask().number for _ in range(QUEUED)]
    assert taken == [1, 2, 3, 4, 5]
    assert states(elsewhere) == [TrialState.FAIL, *[TrialState.RUNNING] * QUEUED]


def test_one_that_is_queued_and_one_that_is_begun_between_two_reads(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The older is still in the queue when the newer is seen as begun."""
    here, elsewhere = opened(url)[0], opened(url)[0]
    for _ in range(QUEUED):
        here.tell(here.ask(), 0.5)
    states(here)
    backend: Any = here._storage._backend
    get_trials, reads = backend._get_trials, 0

    def with_others_in_between(*arguments: Any) -> Any:
        nonlocal reads
        reads += 1
        if reads == 2:
            elsewhere.enqueue_trial({}, user_attrs={"point": 5})
            elsewhere.add_trial(optuna.trial.create_trial(state=TrialState.RUNNING))
        return get_trials(*arguments)

    backend._get_trials = with_others_in_between
    states(here)
    assert states(here)[QUEUED:] == [TrialState.WAITING, TrialState.RUNNING]


def test_whatever_is_done_by_whom_all_see_what_is_there(url: str) -> None:
    """Queued, begun, signed and ended in any order, through three caches, against the database read whole."""
    random = np.random.default_rng(0)
    machines: list[Any] = [opened(url)[0] for _ in range(3)]
    whole = optuna.storages.RDBStorage(url)
    study_id = whole.get_study_id_from_name("sweep")
    begun: list[optuna.Trial] = []
    passed_through: set[TrialState] = set()
    for step in range(50):
        study = machines[random.integers(3)]
        match random.integers(5):
            case 0 | 1:
                study.enqueue_trial({}, user_attrs={"point": step})
            case 2:
                begun.append(study.ask())  # makes one, if the queue is empty
            case 3 if begun:
                begun[random.integers(len(begun))].set_user_attr("owner", step)
            case 4 if begun:
                study.tell(begun.pop(random.integers(len(begun))).number, 0.5)
        there = [(t.number, t.state, t.user_attrs) for t in whole.get_all_trials(study_id, deepcopy=False)]
        passed_through |= {state for _, state, _ in there}
        for one in random.permutation(3)[: random.integers(1, 4)]:
            assert [(t.number, t.state, t.user_attrs) for t in machines[one].get_trials(deepcopy=False)] == there
    assert passed_through == {TrialState.WAITING, TrialState.RUNNING, TrialState.COMPLETE}
