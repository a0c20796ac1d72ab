"""The trial queue of a sweep: every trial, its state, and the runner that works on it.

A runner that claims a trial owns it until it records how the trial ended, or until its lease expires.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from harness.sweep.search.lease import LeaseWatch, new_lease
from harness.sweep.search.samplers import choose, make_sampler
from harness.sweep.search.settings import Search
from harness.sweep.search.study import load_study, open_study
from harness.sweep.spec.sweep_file import Sweep

# Seconds from writing a lease of a trial to reading it again: two runners may take over a trial at the same moment.
TAKE_OVER_SECONDS = 1.0
TAKE_OVER_SECONDS_LOCAL = 0.2  # in the default database, which is on a disk that all of its runners share

# The state of a trial that two machines queued at the same moment; it does not run.
DUPLICATE = "duplicate"

# States in which a trial can end, and Optuna's state for each.
ENDINGS = {
    "finished": TrialState.COMPLETE,
    "stopped": TrialState.PRUNED,
    # Samplers ignore FAIL; with PRUNED they avoid such settings.
    "infeasible": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}


@dataclasses.dataclass(frozen=True)
class ClaimedTrial:
    """A trial that this process has claimed."""

    number: int
    point: int
    run_id: str
    settings: dict[str, Any]
    attempts: int  # earlier attempts, which failed


@dataclasses.dataclass(frozen=True)
class TrialRecord:
    """A point of the sweep and its newest trial."""

    number: int
    point: int
    run_id: str
    settings: dict[str, Any] | None  # None until a Bayesian search chooses them
    state: str  # waiting, running, interrupted, finished, stopped, infeasible, failed
    attempts: int
    value: float | None
    reason: str | None
    owner: str | None


class TrialQueue:
    def __init__(self, study: optuna.Study, sweep: Sweep, search: Search, *, shared: bool) -> None:
        self._study, self._sweep, self._search, self._shared = study, sweep, search, shared
        self._trials: dict[int, optuna.Trial] = {}  # by number
        self._watch = LeaseWatch(secrets.token_hex(8))  # a random identity, for as long as this queue is open
        self._beats = itertools.count()
        self._stop_request = study.user_attrs.get("stop_asked")  # an earlier one, which this runner does not follow
        self.sweep_id: str = study.user_attrs["sweep_id"]

    @classmethod
    def open(cls, sweep: Sweep, search: Search, folder: Path, storage: str | None) -> TrialQueue:
        """The queue for workers; its study is created if needed. Raises ConfigError if the sweep file has changed."""
        return cls(open_study(sweep, search, folder, storage), sweep, search, shared=storage is not None)

    @classmethod
    def load(cls, sweep: Sweep, folder: Path, storage: str | None) -> TrialQueue:
        """The queue of a sweep that has begun, for reading. Raises HarnessError if it has not."""
        study = load_study(sweep, folder, storage)
        return cls(study, sweep, Search(**study.user_attrs["search"]), shared=storage is not None)

    def claim(self) -> ClaimedTrial | None:
        """Claim the next trial: an abandoned one, else one that waits; None if there is none."""
        trials = self._study.get_trials(deepcopy=False)
        self._study.sampler = make_sampler(self._search, sum(trial.state != TrialState.WAITING for trial in trials))
        for existing in trials:
            is_running = existing.state == TrialState.RUNNING and "point" in existing.user_attrs
            if is_running and self._watch.is_abandoned(existing) and self._take_over(existing):
                return self._claimed(existing.number)
        for _ in range(sum(trial.state == TrialState.WAITING for trial in trials)):
            trial = self._study.ask()
            self._trials[trial.number] = trial
            if "point" not in trial.user_attrs:
                # Another machine claimed the last trial of the queue in the meantime; Optuna then creates a new one.
                self._study.tell(trial, state=TrialState.FAIL)
                return None
            if "owner" in self._frozen(trial.number).user_attrs:
                continue  # this runner was so slow that another one has taken over the trial
            self._set_lease(trial.number, self._new_lease())
            if not self._is_duplicate(trial):
                return self._claimed(trial.number)
            trial.set_user_attr("ending", {"state": DUPLICATE, "reason": None})
            self._study.tell(trial, state=TrialState.FAIL)
        return None

    def unsettled(self) -> list[int]:
        """Numbers of running trials whose runner may be dead: they can soon be claimed, or their runner shows itself."""
        running = self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        return [trial.number for trial in running if "point" in trial.user_attrs and not self._watch.is_certain(trial)]

    def report(self, claimed: ClaimedTrial, epoch: int, value: float) -> bool:
        """Store the metric after an epoch; returns whether early termination prunes the trial."""
        trial = self._trial(claimed.number)
        try:
            if epoch not in self._frozen(claimed.number).intermediate_values:
                trial.report(value, step=epoch)
            return trial.should_prune()
        except UpdateFinishedTrialError:  # another machine ended it
            return False

    def heartbeat(self, claimed: ClaimedTrial) -> bool:
        """Renew the lease; returns whether this runner still owns the trial."""
        return self.owns(claimed) and self._set_lease(claimed.number, self._new_lease())

    def owns(self, claimed: ClaimedTrial) -> bool:
        """Whether this runner still owns the trial. Another one may take it over after LEASE_TIMEOUT."""
        stored = self._frozen(claimed.number)
        return stored.state == TrialState.RUNNING and self._watch.is_ours(stored.user_attrs.get("owner"))

    def end(self, claimed: ClaimedTrial, state: str, *, value: float | None = None, reason: str | None = None) -> None:
        """Record how a trial ended: `finished` with its value, `stopped`, `infeasible` or `failed`."""
        if state == "finished" and value is None:
            raise ValueError("a finished trial has a value")
        with contextlib.suppress(UpdateFinishedTrialError):  # another machine ended it in the same way
            self._trial(claimed.number).set_user_attr("ending", {"state": state, "reason": reason})
            self._study.tell(claimed.number, value if state == "finished" else None, ENDINGS[state])

    def attempt_failed(self, claimed: ClaimedTrial) -> ClaimedTrial:
        """Count a failed attempt; returns the trial for the next one."""
        self._trial(claimed.number).set_user_attr("attempts", claimed.attempts + 1)
        return dataclasses.replace(claimed, attempts=claimed.attempts + 1)

    def release(self, claimed: ClaimedTrial) -> None:
        """Release an unfinished trial; the next worker to claim it resumes it."""
        if self.owns(claimed):
            self._set_lease(claimed.number, None)

    def requeue_failed(self, retries: int) -> None:
        """Queue failed trials again that have attempts left, with the ids of their runs."""
        for record in self.records():
            if record.state == "failed" and record.attempts <= retries:
                attributes: dict[str, Any] = {"point": record.point, "attempts": record.attempts}
                attributes |= {"settings": record.settings, "run_id": record.run_id}
                self._study.enqueue_trial(self._frozen(record.number).params, user_attrs=attributes)

    def records(self) -> list[TrialRecord]:
        """One record per point of the sweep, in order: its newest trial, if a failed one was queued again."""
        newest: dict[int, FrozenTrial] = {}
        for trial in self._study.get_trials(deepcopy=False):
            point = trial.user_attrs.get("point")
            if point is None or trial.user_attrs.get("ending", {}).get("state") == DUPLICATE:
                continue
            if point not in newest or newest[point].state == TrialState.FAIL:
                newest[point] = trial
        return [self._record(trial) for _, trial in sorted(newest.items())]

    def trials(self) -> list[FrozenTrial]:
        """Optuna's trials, with times and intermediate values; not to be changed."""
        return self._study.get_trials(deepcopy=False)

    def note(self, number: int, name: str, value: Any) -> bool:
        """Store a fact about a trial beside its state; returns False if the trial has ended."""
        try:
            self._trial(number).set_user_attr(name, value)
        except UpdateFinishedTrialError:
            return False
        return True

    @property
    def last_stop_request(self) -> float:
        """Unix time of the last request to stop, by the clock of the machine that made it; 0 without one."""
        return self._study.user_attrs.get("stop_asked", 0.0)

    def request_stop(self) -> None:
        """Ask the runners of all machines to stop this sweep."""
        self._study.set_user_attr("stop_asked", time.time())

    def request_stop_of(self, number: int, reason: str) -> bool:
        """Ask for one trial to stop, on whatever machine it runs; returns False if it has ended."""
        return self.note(number, "stop_reason", reason)

    def stop_reason(self, number: int) -> str:
        """Why a trial was asked to stop; empty if it was not."""
        return self._frozen(number).user_attrs.get("stop_reason", "")

    @property
    def stop_requested(self) -> bool:
        """Whether a stop was requested since this queue was opened; clocks of other machines may differ."""
        return self._study.user_attrs.get("stop_asked") != self._stop_request

    def _is_duplicate(self, trial: optuna.Trial) -> bool:
        """Whether an older trial is of the same point: two machines may have queued it at the same moment."""
        point = trial.user_attrs["point"]
        return any(
            other.user_attrs.get("point") == point and other.state != TrialState.FAIL
            for other in self._study.get_trials(deepcopy=False)[: trial.number]
        )

    def _take_over(self, trial: FrozenTrial) -> bool:
        """Claim an abandoned trial. If two runners do so at once, the last one to write owns it."""
        if self._frozen(trial.number).user_attrs.get("owner") != trial.user_attrs.get("owner"):
            return False  # another runner was faster
        if not self._set_lease(trial.number, self._new_lease()):
            return False
        time.sleep(TAKE_OVER_SECONDS if self._shared else TAKE_OVER_SECONDS_LOCAL)
        stored = self._frozen(trial.number)
        return stored.state == TrialState.RUNNING and self._watch.is_ours(stored.user_attrs["owner"])

    def _new_lease(self) -> dict[str, Any]:
        return new_lease(self._watch.runner, next(self._beats))

    def _set_lease(self, number: int, lease: dict[str, Any] | None) -> bool:
        """Write the lease of a trial; returns False if another machine has ended the trial."""
        return self.note(number, "owner", lease)

    def _claimed(self, number: int) -> ClaimedTrial:
        trial = self._trial(number)
        attributes = self._frozen(number).user_attrs
        settings = choose(trial, self._sweep, attributes.get("settings"))
        if "settings" not in attributes:
            trial.set_user_attr("settings", settings)
        return ClaimedTrial(
            number, attributes["point"], self._run_id(number, attributes), settings, attributes["attempts"]
        )

    def _record(self, trial: FrozenTrial) -> TrialRecord:
        attributes = trial.user_attrs
        ending = attributes.get("ending", {})
        match trial.state:
            case TrialState.WAITING:
                state = "waiting"
            case TrialState.RUNNING:
                state = "interrupted" if self._watch.is_abandoned(trial) else "running"
            case _:
                state = ending["state"]
        lease = attributes.get("owner")
        return TrialRecord(
            trial.number,
            attributes["point"],
            self._run_id(trial.number, attributes),
            attributes.get("settings"),
            state,
            attributes["attempts"],
            trial.value if trial.state == TrialState.COMPLETE else None,
            ending.get("reason"),
            lease["host"] if lease and state == "running" else None,
        )

    def _run_id(self, number: int, attributes: Mapping[str, Any]) -> str:
        return attributes.get("run_id") or f"{self.sweep_id}-{number}"

    def _trial(self, number: int) -> optuna.Trial:
        # Created once per number: the constructor runs the sampler.
        if number not in self._trials:
            self._trials[number] = optuna.Trial(self._study, self._frozen(number)._trial_id)
        return self._trials[number]

    def _frozen(self, number: int) -> FrozenTrial:
        storage = self._study._storage  # reads one trial; the study would read all
        return storage.get_trial(storage.get_trial_id_from_study_id_trial_number(self._study._study_id, number))
