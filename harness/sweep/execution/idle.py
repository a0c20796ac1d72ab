"""A runner without trials: whether it waits for runners of other machines, to take over the trials of a dead one."""

from __future__ import annotations

import time

from harness.sweep.execution.progress import SweepProgress
from harness.sweep.search.lease import CLAIM_TIMEOUT, LEASE_TIMEOUT
from harness.sweep.search.trial_queue import TrialQueue


class IdleWatch:
    def __init__(self, trial_queue: TrialQueue, progress: SweepProgress) -> None:
        self._trial_queue, self._progress = trial_queue, progress
        self._since: float | None = None  # monotonic time

    def reset(self) -> None:
        """Forget the wait so far; called while the runner has trials."""
        self._since = None

    def waits(self) -> bool:
        """Whether trials are running whose runner may be dead. A wait that takes longer is reported once."""
        if not (unsettled := self._trial_queue.unsettled()):
            return False
        now = time.monotonic()
        if self._since is None:
            self._since = now
        elif now > self._since + 2 * CLAIM_TIMEOUT:
            self._since = now + LEASE_TIMEOUT
            numbers = ", ".join(map(str, unsettled))
            self._progress.event(
                None,
                f"Waiting for a heartbeat of the runner of trial {numbers}. If none comes for "
                f"{LEASE_TIMEOUT / 60:.0f} min, that runner is dead, and this one takes over.",
            )
        return True
