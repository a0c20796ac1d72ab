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
from harness.launch import GRACE_SECONDS
from harness.run_folder import RunFolder
from harness.sweep.ledger import Task
from harness.sweep.outcome import Rows, last_sign_of_progress, value_after
from harness.sweep.slots import Slot


@dataclass
class Running:
    task: Task
    config: RunConfig
    slot: Slot
    process: BaseProcess
    folder: RunFolder
    log: Path
    rows: Rows
    began: float = field(default_factory=time.time)
    first_epoch: float | None = None  # where it went on, of a resumed run
    reported: int = 0  # epochs that the ledger knows
    pruned: bool = False
    hung: bool = False
    kill_at: float | None = None  # set when told to end

    def look(self) -> None:
        """Take in what the run has written since the last look."""
        self.rows.read()
        if self.first_epoch is None and self.rows.newest is not None:
            self.first_epoch = self.rows.epoch

    def value(self, metric: str, *, epochs: int | None = None) -> float | None:
        """The metric as it is now, or as it was after so many epochs."""
        return value_after(self.rows.epochs[:epochs], metric)

    def hangs(self, timeout: float) -> bool:
        """Whether it has written nothing for so many seconds; 0 waits for ever."""
        return timeout > 0 and time.time() - last_sign_of_progress(self.folder, self.log, self.began) > timeout

    def tell_to_end(self) -> None:
        """Once; `kill` is for one that has not ended GRACE_SECONDS later."""
        if self.kill_at is None and self.process.pid is not None:
            self.kill_at = time.time() + GRACE_SECONDS
            with suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGTERM)

    def kill(self) -> None:
        """The whole process group, ranks included."""
        if self.process.pid is None:
            return
        for end in (os.killpg, os.kill):  # it may not have made its group yet
            with suppress(ProcessLookupError, PermissionError):
                end(self.process.pid, signal.SIGKILL)

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
