"""`harness sweep watch`: how far the trials of all machines are, from the trial queue and from run folders.

It only reads. Of a run whose folder lies on another machine, it shows what its runner reports: the metric per epoch.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path

from optuna.trial import FrozenTrial
from rich.console import Console
from rich.live import Live

from harness.errors import printable
from harness.runs.folder import RunFolder
from harness.sweep.execution.metrics_reader import MetricsReader, value_after
from harness.sweep.execution.time_limit import median_seconds
from harness.sweep.search.trial_queue import TrialQueue
from harness.sweep.search.trial_record import ENDED, TrialRecord
from harness.sweep.spec.sweep_file import Sweep
from harness.sweep.trial_table import Row, describe, live_table
from harness.sweep.whereabouts import Whereabouts, whereabouts_of

REFRESH_SECONDS = 2.0

# Epochs that a trial has to train before its speed under observation counts.
OBSERVED_EPOCHS = 0.5


class SweepWatch:
    """Keeps the open metrics files of running trials, and when each was first seen."""

    def __init__(self, trial_queue: TrialQueue) -> None:
        self.sweep, self.trial_queue = trial_queue.sweep, trial_queue
        # How long a trial takes, as of the last `rows`; None if none has finished.
        self.trial_seconds: float | None = None
        self._readers: dict[str, MetricsReader] = {}  # by run folder: a trial may move to another machine
        self._first: dict[int, tuple[float, float]] = {}  # time and epoch at which it was first seen

    def rows(self) -> list[Row]:
        records = self.trial_queue.records()  # first: a runner may queue trials in between
        trials = {trial.number: trial for trial in self.trial_queue.study.get_trials(deepcopy=False)}
        self.trial_seconds = median_seconds(trials.values())
        return [
            self._running(record, trials[record.number])
            if record.state == "running"
            else Row(record, metric=record.value)
            for record in records
        ]

    def _running(self, record: TrialRecord, trial: FrozenTrial) -> Row:
        if (note := whereabouts_of(trial)) is None:  # its runner is about to start it
            return Row(record, record.owner or "")
        reader = self._readers.setdefault(note.path, MetricsReader(Path(note.path) / "metrics.jsonl"))
        reader.read()
        if reader.newest is not None:
            epoch, metric = reader.epoch, value_after(reader.validations, self.sweep.metric.name)
        else:
            reported = trial.intermediate_values
            epoch, metric = float(max(reported, default=0)), reported[max(reported)] if reported else None
        return Row(record, note.machine, epoch, note.epochs, metric, self._seconds_left(trial, epoch, note))

    def _seconds_left(self, trial: FrozenTrial, epoch: float, note: Whereabouts) -> float | None:
        """From the speed since this process first saw the trial; until that is known, since the trial started.

        None for a resumed trial until its speed is seen: it has not trained since it was first claimed.
        """
        now = time.time()
        since, from_epoch = self._first.setdefault(trial.number, (now, epoch))
        if epoch - from_epoch < OBSERVED_EPOCHS:
            if trial.datetime_start is None or _was_resumed(Path(note.path)):
                return None
            since, from_epoch = trial.datetime_start.timestamp(), 0.0
        if epoch <= from_epoch:
            return None
        return max(0.0, (now - since) / (epoch - from_epoch) * (note.epochs - epoch))


def _was_resumed(folder: Path) -> bool:
    """Whether a run had started before; False if its folder is on another machine."""
    return bool(RunFolder(folder).read_manifest()[0].get("earlier_starts"))


def watch(trial_queue: TrialQueue, console: Console | None = None) -> None:
    """Show the sweep until it has ended: a live table on a terminal, one line per change elsewhere."""
    console = console or Console(highlight=False, soft_wrap=True)
    sweep, view = trial_queue.sweep, SweepWatch(trial_queue)
    shown: dict[int, str] = {}
    with Live(console=console, auto_refresh=False) if console.is_terminal else contextlib.nullcontext() as live:
        while True:
            rows = view.rows()
            if live:
                live.update(live_table(rows, sweep, view.trial_seconds, console.width), refresh=True)
            else:
                _print_changes(rows, shown, sweep, console)
            if has_ended(rows, trial_queue):
                break
            time.sleep(REFRESH_SECONDS)
    console.print(ending(rows, sweep), markup=False)


def _print_changes(rows: Sequence[Row], shown: dict[int, str], sweep: Sweep, console: Console) -> None:
    """Print the lines of trials, except those that were `shown` before, by number, which become the new ones."""
    done = sum(row.record.state in ENDED for row in rows)
    for row in rows:
        line = change(row, sweep)
        if line != shown.get(row.record.number) and row.record.state != "waiting":
            console.print(f"[{done}/{len(rows)}] {line}", markup=False)
        shown[row.record.number] = line


def has_ended(rows: Sequence[Row], trial_queue: TrialQueue) -> bool:
    """Whether all trials have ended, or the sweep was stopped meanwhile and none runs any more."""
    states = {row.record.state for row in rows}
    return states <= set(ENDED) or (trial_queue.stop_requested and "running" not in states)


def change(row: Row, sweep: Sweep) -> str:
    """A trial in one line, which changes with its state, its machine and its whole epochs."""
    line = f"trial {row.record.number}{describe(row.record.settings, sweep)} {row.record.state}"
    if row.record.state == "running":
        line += f" on {row.place}" if row.place else ""
        line += f": epoch {int(row.epoch)}/{row.epochs}" if row.epochs else ""
    if row.metric is not None:
        line += f", {sweep.metric.name} {row.metric:.4f}"
    return printable(f"{line}: {row.record.reason}" if row.record.reason else line)


def ending(rows: Sequence[Row], sweep: Sweep) -> str:
    """The last line: "The sweep grid has ended: 7 finished, 1 failed."."""
    states = [row.record.state for row in rows]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    return f"The sweep {sweep.name} {'has ended' if set(states) <= set(ENDED) else 'is stopped'}: {counts}."
