"""The trial queue of a sweep: every trial, its state, and the runner that works on it.

A runner that claims a trial owns it until it records how the trial ended, or until its lease expires.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import secrets
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from harness.errors import HarnessError
from harness.sweep.search import ledger
from harness.sweep.search.definition import stored_definition
from harness.sweep.search.growth import Added, Growth, add_points, grow, queue_again
from harness.sweep.search.identity import Contents
from harness.sweep.search.lease import LeaseWatch, new_lease
from harness.sweep.search.ledger_lock import ledger_lock
from harness.sweep.search.pooled import Lock, settings_of
from harness.sweep.search.samplers import make_sampler
from harness.sweep.search.settings import Search
from harness.sweep.search.study import load_study, open_study
from harness.sweep.search.trial_record import ENDINGS, ClaimedTrial, TrialRecord
from harness.sweep.spec.repeats import with_repeats
from harness.sweep.spec.sweep_file import Sweep

# Seconds from writing a lease of a trial to reading it again: two runners may take over a trial at the same moment.
TAKE_OVER_SECONDS = 0.5


class TrialQueue:
    def __init__(
        self,
        study: optuna.Study,
        sweep: Sweep,
        search: Search,
        *,
        contents: Contents | None = None,
        growth: Growth | None = None,
        lock: Lock = contextlib.nullcontext,
    ) -> None:
        self.study, self.contents, self.growth, self.lock = study, contents or Contents(), growth, lock
        self._definition = stored_definition(study)
        self.search = search
        self.sweep = sweep  # with the repeats that it began with
        self._watch = LeaseWatch(secrets.token_hex(8))  # a random identity, for as long as this queue is open
        self._beats = itertools.count()
        self._stop_request = study.user_attrs.get("stop_asked")  # an earlier one, which this runner does not follow
        self.sweep_id: str = study.user_attrs["sweep_id"]

    @classmethod
    def open(
        cls,
        sweep: Sweep,
        search: Search,
        folder: Path,
        storage: str | None,
        contents: Contents | None = None,
        *,
        accept: bool = False,
    ) -> TrialQueue:
        """The queue for workers, with every trial of the sweep file; its study is created if needed.

        `contents` are those of the files that the trials read. Raises ConfigError if the file has changed in what all
        trials compute; `accept` queues them as new trials.
        """
        contents, lock = contents or Contents(), functools.partial(ledger_lock, sweep.name, folder, storage)
        with lock():
            study = open_study(sweep, search, folder, storage)
            growth = grow(study, sweep, search, folder, contents, accept=accept)
        return cls(study, sweep, search, contents=contents, growth=growth, lock=lock)

    @classmethod
    def load(cls, sweep: Sweep, folder: Path, storage: str | None) -> TrialQueue:
        """The queue of a sweep that has begun, for reading. Raises HarnessError if it has not."""
        study = load_study(sweep, folder, storage)
        search = Search(**study.user_attrs["search"])
        return cls(study, with_repeats(sweep, search.repeats), search)

    def claim(self, *, only_begun: bool = False) -> ClaimedTrial | None:
        """Claim the next trial: an abandoned one, else, unless `only_begun`, one that waits; None if there is none."""
        for existing in self.study.get_trials(deepcopy=False):
            is_running = existing.state == TrialState.RUNNING and "point" in existing.user_attrs
            if is_running and self._watch.is_abandoned(existing) and self._take_over(existing):
                if existing.number not in self.study.user_attrs.get("outside", []):
                    return self._claimed(existing.number)
                ledger.end_without_result(self.study, existing.number, ledger.REMOVED)
        while not only_begun and (trial_id := self.study._pop_waiting_trial_id()) is not None:
            stored = self.study._storage.get_trial(trial_id)
            if "owner" in stored.user_attrs:
                continue  # this runner was so slow that another one has taken over the trial
            self._renew_lease(stored.number)
            if not ledger.is_duplicate(self.study, stored):
                return self._claimed(stored.number)
            ledger.end_without_result(self.study, stored.number, ledger.DUPLICATE)
        return None

    def unsettled(self) -> list[int]:
        """Numbers of running trials whose runner may be dead; soon it shows a heartbeat, or they can be claimed."""
        running = self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        return [trial.number for trial in running if "point" in trial.user_attrs and not self._watch.is_certain(trial)]

    def report(self, claimed: ClaimedTrial, epoch: int, value: float) -> bool:
        """Store the metric after an epoch; returns whether early termination prunes the trial.

        Of the epochs that an earlier start of the trial has stored, only the last is judged again: the trial may have
        been interrupted before it stopped.
        """
        trial = ledger.read_trial(self.study, claimed.number)
        stored = trial.intermediate_values
        try:
            if epoch in stored and epoch < max(stored):
                return False
            self.study._storage.set_trial_intermediate_value(trial._trial_id, epoch, value)
            return self.study.pruner.prune(self.study, ledger.read_trial(self.study, claimed.number))
        except UpdateFinishedTrialError:  # another machine ended it
            return False

    def heartbeat(self, claimed: ClaimedTrial) -> bool:
        """Renew the lease; returns whether this runner still owns the trial."""
        return self.owns(claimed) and self._renew_lease(claimed.number)

    def owns(self, claimed: ClaimedTrial | FrozenTrial) -> bool:
        """Whether this runner still owns the trial. Another one may take it over after LEASE_TIMEOUT."""
        stored = ledger.read_trial(self.study, claimed.number)
        return stored.state == TrialState.RUNNING and self._watch.is_ours(stored.user_attrs.get("owner"))

    def end(
        self,
        claimed: ClaimedTrial,
        state: str,
        *,
        value: float | None = None,
        reason: str | None = None,
        memory: int | None = None,
    ) -> None:
        """Record how a trial ended: one of ENDINGS. `memory`: bytes of a device that were too few for it."""
        if state == "finished" and value is None:
            raise ValueError("a finished trial has a value")
        ending = {"state": state, "reason": reason, "memory": memory}
        with contextlib.suppress(UpdateFinishedTrialError):  # another machine ended it in the same way
            if ledger.set_attribute(self.study, claimed.number, "ending", ending):
                self.study.tell(claimed.number, value if state == "finished" else None, ENDINGS[state])

    def attempt_failed(self, claimed: ClaimedTrial) -> ClaimedTrial:
        """Count a failed attempt; returns the trial for the next one."""
        ledger.set_attribute(self.study, claimed.number, "attempts", claimed.attempts + 1)
        return dataclasses.replace(claimed, attempts=claimed.attempts + 1)

    def release(self, claimed: ClaimedTrial) -> None:
        """Release an unfinished trial; the next worker to claim it resumes it."""
        if self.owns(claimed):
            ledger.set_attribute(self.study, claimed.number, "owner", None)

    def requeue(self, record: TrialRecord, *, attempts: int) -> None:
        """Queue a trial again that has ended, with the id of its run."""
        queue_again(self.study, ledger.read_trial(self.study, record.number), attempts=attempts)

    def skip(self, record: TrialRecord) -> None:
        """Record that a trial is left out. Raises HarnessError if a runner has claimed it in the meantime."""
        if record.state in ("failed", "infeasible"):
            self.requeue(record, attempts=record.attempts)
            return self.skip(next(new for new in self.records() if new.run_id == record.run_id))
        if not ledger.end_without_result(self.study, record.number, "skipped"):
            raise HarnessError(f"Trial {record.number} has ended in the meantime.")

    def is_current(self) -> bool:
        """Whether the trials still compute what they did when this queue was opened, and not what another file says."""
        return stored_definition(self.study) == self._definition

    def add(self, points: Sequence[Mapping[str, Any]]) -> list[Added]:
        """Queue points by hand; those that have a trial keep it. Raises ConfigError if settings are invalid."""
        with self.lock():
            return add_points(self.study, self.sweep, points, self.contents)

    def records(self) -> list[TrialRecord]:
        """One record per point of the sweep, in order: its newest trial, if an ended one was queued again."""
        outside = set(self.study.user_attrs.get("outside", []))
        records = [self._record(trial, outside) for trial in ledger.newest_trials(self.study).values()]
        return sorted(records, key=lambda record: (record.point, record.number))

    def request_stop(self) -> None:
        """Ask the runners of all machines to stop this sweep."""
        self.study.set_user_attr("stop_asked", time.time())

    @property
    def stop_requested(self) -> bool:
        """Whether a stop was requested since this queue was opened; clocks of other machines may differ."""
        return self.study.user_attrs.get("stop_asked") != self._stop_request

    def _take_over(self, trial: FrozenTrial) -> bool:
        """Claim an abandoned trial. If two runners do so at once, without locks, the last one to write owns it."""
        with self.lock():
            if ledger.read_trial(self.study, trial.number).user_attrs.get("owner") != trial.user_attrs.get("owner"):
                return False  # another runner was faster
            if not self._renew_lease(trial.number):
                return False
            time.sleep(TAKE_OVER_SECONDS)
        return self.owns(trial)

    def _renew_lease(self, number: int) -> bool:
        return ledger.set_attribute(self.study, number, "owner", new_lease(self._watch.runner, next(self._beats)))

    def _claimed(self, number: int) -> ClaimedTrial:
        stored = ledger.read_trial(self.study, number)
        attributes = stored.user_attrs
        self.study.sampler = make_sampler(self.search, number)
        self.study._thread_local.cached_all_trials = None  # as in Study.ask: the sampler reads the trials of now
        trial = optuna.Trial(self.study, stored._trial_id)
        settings = settings_of(self.study, trial, self.sweep, attributes, self.lock)
        run_id = ledger.run_id_of(self.study, stored)
        return ClaimedTrial(number, attributes["point"], run_id, settings, attributes["attempts"])

    def _record(self, trial: FrozenTrial, outside: Collection[int]) -> TrialRecord:
        attributes = trial.user_attrs
        ending = attributes.get("ending", {})
        if trial.state.is_finished():
            state = ending["state"]
        elif trial.state == TrialState.WAITING:
            state = "waiting"
        else:
            state = "interrupted" if self._watch.is_abandoned(trial) else "running"
        lease = attributes.get("owner") if state == "running" else None
        return TrialRecord(
            number=trial.number,
            point=attributes["point"],
            run_id=ledger.run_id_of(self.study, trial),
            settings=attributes.get("settings"),
            state=state,
            attempts=attributes["attempts"],
            value=trial.value if trial.state == TrialState.COMPLETE else None,
            reason=ending.get("reason"),
            owner=lease["host"] if lease else None,
            memory=ending.get("memory"),
            heartbeat=lease["seen"] if lease else None,
            in_file=trial.number not in outside,
            run_folder=attributes.get("run_folder"),
        )
