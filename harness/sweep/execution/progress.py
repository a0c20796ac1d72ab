"""Shows the progress of a runner: a live table on a terminal, one line per event elsewhere."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.live import Live

from harness.runs.rules import printable
from harness.sweep.execution.running_trial import RunningTrial
from harness.sweep.search.trial_queue import TrialQueue
from harness.sweep.search.trial_record import ENDED, ClaimedTrial
from harness.sweep.trial_table import Row, describe, live_table
from harness.sweep.watch import REFRESH_SECONDS, SweepWatch


class SweepProgress:
    """A context manager. Without a terminal it only prints events."""

    def __init__(self, trial_queue: TrialQueue) -> None:
        self._sweep, self._trial_queue, self._view = trial_queue.sweep, trial_queue, SweepWatch(trial_queue)
        self._console = Console(highlight=False, soft_wrap=True)
        self._live = (
            Live(console=self._console, auto_refresh=False, transient=True) if self._console.is_terminal else None
        )
        self._last_refresh = 0.0

    def __enter__(self) -> SweepProgress:
        if self._live:
            self._live.__enter__()
        return self

    def __exit__(self, *details: Any) -> None:
        if self._live:
            self._live.__exit__(*details)

    def event(self, trial: ClaimedTrial | None, text: str) -> None:
        """Print what happened to a trial, or to the sweep."""
        records = self._trial_queue.records()
        ended = sum(record.state in ENDED for record in records)
        subject = f"trial {trial.number}{describe(trial.settings, self._sweep)} " if trial else ""
        self._console.print(printable(f"[{ended}/{len(records)}] {subject}{text}"), markup=False)
        self._last_refresh = 0.0

    def refresh(self, running: Sequence[RunningTrial]) -> None:
        if not self._live or time.monotonic() - self._last_refresh < REFRESH_SECONDS:
            return
        self._last_refresh = time.monotonic()
        trials = {trial.claimed.number: trial for trial in running}
        rows = [_of_runner(row, trials.get(row.record.number)) for row in self._view.rows()]
        table = live_table(rows, self._sweep, self._view.trial_seconds, self._console.width)
        self._live.update(table, refresh=True)


def _of_runner(row: Row, trial: RunningTrial | None) -> Row:
    """A row as the runner of its trial knows it: with its part of the machine, and whether it is ended."""
    if trial is None:
        return row
    record = dataclasses.replace(row.record, state="ending") if trial.kill_at is not None else row.record
    place = f"GPU {','.join(trial.slot.gpus)}" if trial.slot.gpus else f"{len(trial.slot.cores)} cores"
    return dataclasses.replace(row, record=record, place=place)
