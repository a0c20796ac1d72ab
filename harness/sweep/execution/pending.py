"""The trials that a runner starts next: claimed ones that have no process here, then those of the trial queue."""

from __future__ import annotations

import time

from harness.runs.folder import RunFolder
from harness.sweep.execution.progress import SweepProgress
from harness.sweep.search.lease import CLAIM_TIMEOUT, LEASE_TIMEOUT
from harness.sweep.search.trial_queue import TrialQueue
from harness.sweep.search.trial_record import ClaimedTrial


class PendingTrials:
    """The claims of one runner that wait for a slot or for the end of another process."""

    def __init__(self, trial_queue: TrialQueue, progress: SweepProgress) -> None:
        self._trial_queue, self._progress = trial_queue, progress
        self._trials: list[tuple[ClaimedTrial, RunFolder]] = []
        self._idle_since: float | None = None  # monotonic time

    def __bool__(self) -> bool:
        return bool(self._trials)

    def add(self, claimed: ClaimedTrial, folder: RunFolder) -> None:
        """Start this trial before any new one, when no process is working on its run any longer."""
        self._trials.append((claimed, folder))

    def next(self, *, only_begun: bool = False) -> ClaimedTrial | None:
        """The next trial to start, or to resume; None if there is none now."""
        # A process that lost its runner ends: the kernel signals it.
        free = next((pending for pending in self._trials if not pending[1].is_locked), None)
        if free:
            self._trials.remove(free)
        claimed = free[0] if free else self._trial_queue.claim(only_begun=only_begun)
        if claimed:
            self._idle_since = None
        return claimed

    def may_come(self) -> bool:
        """Whether there will be one: a claimed trial, or one whose runner may be dead. A longer wait is reported."""
        if self._trials:
            return True
        if not (unsettled := self._trial_queue.unsettled()):
            return False
        now = time.monotonic()
        if self._idle_since is None:
            self._idle_since = now
        elif now > self._idle_since + 2 * CLAIM_TIMEOUT:
            self._idle_since = now + LEASE_TIMEOUT
            numbers = ", ".join(map(str, unsettled))
            self._progress.event(
                None,
                f"Waiting for a heartbeat of the runner of trial {numbers}. If none comes for "
                f"{LEASE_TIMEOUT / 60:.0f} min, that runner is dead, and this one takes over.",
            )
        return True

    def renew(self) -> None:
        """Renew the leases; trials that another runner has taken over are dropped."""
        self._trials = [pending for pending in self._trials if self._trial_queue.heartbeat(pending[0])]

    def release_all(self) -> None:
        for claimed, _ in self._trials:
            self._trial_queue.release(claimed)
        self._trials = []
