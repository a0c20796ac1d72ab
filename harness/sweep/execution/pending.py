"""Trials that a runner has claimed and that have no process here: to try again, or still held by another process."""

from __future__ import annotations

from harness.runs.folder import RunFolder
from harness.sweep.search.trial_queue import ClaimedTrial, TrialQueue


class PendingTrials:
    """The claims of one runner that wait for a slot or for the end of another process."""

    def __init__(self, trial_queue: TrialQueue) -> None:
        self._trial_queue = trial_queue
        self._ready: list[ClaimedTrial] = []
        self._held: list[tuple[ClaimedTrial, RunFolder]] = []

    def __bool__(self) -> bool:
        return bool(self._ready or self._held)

    def next(self) -> ClaimedTrial | None:
        """The next trial to start; None if there is none now."""
        return self._ready.pop() if self._ready else self._trial_queue.claim()

    def add(self, claimed: ClaimedTrial) -> None:
        """Start this trial before any other."""
        self._ready.append(claimed)

    def hold(self, claimed: ClaimedTrial, folder: RunFolder) -> None:
        """Start this trial, or record its outcome, when no process is working on its run any longer."""
        self._held.append((claimed, folder))

    def check_held(self) -> None:
        """Make those trials ready whose runs are free. A process that lost its runner ends: the kernel signals it."""
        for claimed, folder in list(self._held):
            if not folder.is_locked:
                self._held.remove((claimed, folder))
                self._ready.append(claimed)

    def renew(self) -> None:
        """Renew the leases; trials that another runner has taken over are dropped."""
        self._ready = [claimed for claimed in self._ready if self._trial_queue.heartbeat(claimed)]
        self._held = [held for held in self._held if self._trial_queue.heartbeat(held[0])]

    def release_all(self) -> None:
        for claimed in (*self._ready, *(claimed for claimed, _ in self._held)):
            self._trial_queue.release(claimed)
        self._ready, self._held = [], []
