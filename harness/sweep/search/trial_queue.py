"""The trial queue of a sweep: every trial, its state, and the worker that runs it.

A worker that claims a trial owns it until it records how the trial ended, or until its lease expires.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from harness.sweep.search.added import add_points
from harness.sweep.search.lease import is_abandoned, is_ours, new_lease
from harness.sweep.search.samplers import choose, make_sampler
from harness.sweep.search.settings import Search
from harness.sweep.search.study import load_study, open_study
from harness.sweep.spec.repeats import with_repeats
from harness.sweep.spec.sweep_file import Sweep

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
        self.sweep = sweep  # with the repeats that it began with
        self._trials: dict[int, optuna.Trial] = {}  # by number
        self.sweep_id: str = study.user_attrs["sweep_id"]

    @classmethod
    def open(cls, sweep: Sweep, search: Search, folder: Path, storage: str | None) -> TrialQueue:
        """The queue for workers; its study is created if needed. Raises ConfigError if the sweep file has changed."""
        return cls(open_study(sweep, search, folder, storage), sweep, search, shared=storage is not None)

    @classmethod
    def load(cls, sweep: Sweep, folder: Path, storage: str | None) -> TrialQueue:
        """The queue of a sweep that has begun, for reading. Raises HarnessError if it has not."""
        study = load_study(sweep, folder, storage)
        search = Search(**study.user_attrs["search"])
        return cls(study, with_repeats(sweep, search.repeats), search, shared=storage is not None)

    def add(self, points: Sequence[Mapping[str, Any]]) -> None:
        """Queue points by hand; those that have a trial keep it."""
        add_points(self._study, self._sweep, points)

    def claim(self) -> ClaimedTrial | None:
        """Claim the next trial: an abandoned one, else one that waits; None if there is none."""
        trials = self._study.get_trials(deepcopy=False)
        self._study.sampler = make_sampler(self._search, sum(trial.state != TrialState.WAITING for trial in trials))
        for existing in trials:
            is_running = existing.state == TrialState.RUNNING and "point" in existing.user_attrs
            if is_running and is_abandoned(existing) and self._take_over(existing):
                return self._claimed(existing.number)
        for _ in range(sum(trial.state == TrialState.WAITING for trial in trials)):
            trial = self._study.ask()
            self._trials[trial.number] = trial
            if "point" not in trial.user_attrs:
                # Another machine claimed the last trial of the queue in the meantime; Optuna then creates a new one.
                self._study.tell(trial, state=TrialState.FAIL)
                return None
            trial.set_user_attr("owner", new_lease())
            if not self._is_duplicate(trial):
                return self._claimed(trial.number)
            trial.set_user_attr("ending", {"state": DUPLICATE, "reason": None})
            self._study.tell(trial, state=TrialState.FAIL)
        return None

    def is_settled(self) -> bool:
        """Whether every running trial has a worker. One without can soon be claimed."""
        running = self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        return all(trial.user_attrs.get("owner") for trial in running if "point" in trial.user_attrs)

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
        """Renew the lease; returns whether this process still owns the trial."""
        return self.owns(claimed) and self._set_lease(claimed.number, new_lease())

    def owns(self, claimed: ClaimedTrial) -> bool:
        """Whether this process still owns the trial. Another machine may take it over after LEASE_TIMEOUT."""
        stored = self._frozen(claimed.number)
        return stored.state == TrialState.RUNNING and is_ours(stored.user_attrs.get("owner"))

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

    def request_stop(self) -> None:
        """Ask the workers of all machines to stop this sweep."""
        self._study.set_user_attr("stop_asked", time.time())

    def stop_requested_since(self, moment: float) -> bool:
        return self._study.user_attrs.get("stop_asked", 0.0) > moment

    def _is_duplicate(self, trial: optuna.Trial) -> bool:
        """Whether an older trial is of the same point: two machines may have queued it at the same moment."""
        point = trial.user_attrs["point"]
        return any(
            other.user_attrs.get("point") == point and other.state != TrialState.FAIL
            for other in self._study.get_trials(deepcopy=False)[: trial.number]
        )

    def _take_over(self, trial: FrozenTrial) -> bool:
        """Claim an abandoned trial. If two machines do so at once, the last one to write owns it."""
        lease = new_lease()
        if not self._set_lease(trial.number, lease):
            return False
        if not self._shared:
            return True  # a sweep has one runner per machine, and no other machine has this storage
        time.sleep(1.0)
        return self._frozen(trial.number).user_attrs["owner"] == lease

    def _set_lease(self, number: int, lease: dict[str, Any] | None) -> bool:
        """Write the lease of a trial; returns False if another machine has ended the trial."""
        try:
            self._trial(number).set_user_attr("owner", lease)
        except UpdateFinishedTrialError:
            return False
        return True

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
                state = "interrupted" if is_abandoned(trial) else "running"
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
