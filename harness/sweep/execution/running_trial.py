"""A trial in its process, and what is known of it while it runs."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path

from harness.config import RunConfig
from harness.launch.launch import GRACE_SECONDS
from harness.runs.folder import RunFolder
from harness.sweep.execution.outcome import Rows, last_sign_of_progress, value_after
from harness.sweep.execution.resources import Slot
from harness.sweep.search.trial_queue import ClaimedTrial

# The exit code that multiprocessing reports of a process whose forkserver has ended.
PARENT_IS_GONE = 255


@dataclass
class RunningTrial:
    task: ClaimedTrial
    config: RunConfig
    slot: Slot
    process: BaseProcess
    folder: RunFolder
    log: Path
    rows: Rows
    began: float = field(default_factory=time.time)
    progressed: float = field(default_factory=time.monotonic)  # when it last wrote something
    newest: float = 0.0  # modification time of what that was
    first_epoch: float | None = None  # where it went on, of a resumed run
    reported: int = 0  # epochs that have been reported
    prune_reason: str = ""  # set when early termination prunes the trial
    hung: bool = False
    kill_at: float | None = None  # set when told to end

    def look(self) -> None:
        """Take in what the run has written since the last look."""
        self.rows.read()
        newest = last_sign_of_progress(self.folder, self.log)
        if newest != self.newest:
            self.newest, self.progressed = newest, time.monotonic()
        if self.first_epoch is None and self.rows.newest is not None:
            self.first_epoch = self.rows.epoch

    def value(self, metric: str, *, epochs: int | None = None) -> float | None:
        """The metric as it is now, or as it was after so many epochs."""
        return value_after(self.rows.epochs[:epochs], metric)

    def hangs(self, timeout: float) -> bool:
        """Whether it has written nothing for so many seconds; 0 waits for ever."""
        return 0 < timeout < time.monotonic() - self.progressed

    def tell_to_end(self) -> None:
        """Once; `kill` is for one that has not ended GRACE_SECONDS later."""
        if self.kill_at is None and self.process.pid is not None:
            self.kill_at = time.monotonic() + GRACE_SECONDS
            with suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGTERM)

    @property
    def is_alive(self) -> bool:
        """Whether its process is there; multiprocessing takes it for ended as soon as the parent of trials is gone."""
        if self.process.is_alive():
            return True
        with suppress(ProcessLookupError, PermissionError):
            return self.process.exitcode == PARENT_IS_GONE and os.getpgid(self.process.pid or 0) == self.process.pid
        return False

    def kill(self) -> None:
        """The whole process group, ranks included."""
        if self.process.pid is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)

    @property
    def seconds_in_all(self) -> float | None:
        """What the whole trial will have taken, from its speed so far."""
        if self.first_epoch is None or self.rows.epoch <= self.first_epoch:
            return None
        return (time.time() - self.began) / (self.rows.epoch - self.first_epoch) * self.config.epochs

    @property
    def seconds_left(self) -> float | None:
        whole = self.seconds_in_all
        return None if whole is None else whole * max(0.0, 1 - self.rows.epoch / self.config.epochs)
