"""The table of `harness sweep status`: every trial of a sweep, with what is unusual about it."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Collection, Sequence

from harness.sweep.search.lease import LEASE_TIMEOUT
from harness.sweep.search.trial_record import TrialRecord
from harness.sweep.spec.sweep_file import Sweep
from harness.sweep.trial_table import Row, as_text, last_heartbeat, terminal_width, trial_columns
from reports.runs import Run


def status_table(
    rows: Sequence[Row], runs: Sequence[Run], sweep: Sweep, living_runs: Collection[str], width: int | None = None
) -> str:
    """One line per trial, by default as wide as the terminal.

    `runs` are those of the leaderboard, which shows the same values; `living_runs` are the names of run folders with a
    process.
    """
    width = width or terminal_width()
    by_id = {"-".join(run.name.rsplit("-", 2)[-2:]): run for run in runs}  # an id of a run has one hyphen
    rows = [
        dataclasses.replace(
            row,
            metric=_value(row, by_id.get(row.record.run_id), sweep.metric.name),
            note=_note(row.record, living_runs),
        )
        for row in rows
    ]
    return as_text(trial_columns(rows, sweep, width), width)


def _value(row: Row, run: Run | None, metric: str) -> float | None:
    """The metric in the trial queue, else of its run so far, as on the leaderboard, else as its runner reports it."""
    of_run = run.metric(metric) if run and row.record.value is None else row.record.value
    return row.metric if of_run is None else of_run


def _note(record: TrialRecord, living_runs: Collection[str]) -> str:
    """The reason of an ending, and what is unusual about a trial."""
    notes = [record.reason or _lease_note(record, living_runs)]
    if record.run_folder:
        notes.append(f"result of {record.run_folder}")
    if not record.in_file:
        notes.append("no longer in the file")
    return "; ".join(note for note in notes if note)


def _lease_note(record: TrialRecord, living_runs: Collection[str]) -> str:
    """What is unusual about a trial that has not ended."""
    if record.state == "interrupted" and any(name.endswith(f"-{record.run_id}") for name in living_runs):
        return "its process is still ending"
    if record.heartbeat is not None and time.time() - record.heartbeat > LEASE_TIMEOUT:
        return f"{last_heartbeat(record)}; the next run waits for one, then takes the trial over"
    return ""
