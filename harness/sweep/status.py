"""The table of `harness sweep status`: every trial of a sweep, with the epoch and the time left of running ones."""

from __future__ import annotations

import io
import time
from collections.abc import Collection, Sequence

from rich.console import Console

from harness.runs.rules import duration, printable
from harness.sweep.execution.progress import WIDE, last_heartbeat, varying
from harness.sweep.search.lease import LEASE_TIMEOUT
from harness.sweep.search.trial_record import TrialRecord
from harness.sweep.spec.repeats import SEED
from harness.sweep.spec.sweep_file import Sweep
from harness.sweep.watch import Row
from reports import columns
from reports.columns import Column
from reports.runs import Run
from reports.stats.leaderboard_table import settings_columns
from reports.stats.setting import in_words


def status_table(
    rows: Sequence[Row], runs: Sequence[Run], sweep: Sweep, living_runs: Collection[str], width: int | None = None
) -> str:
    """One line per trial, by default as wide as the terminal; without a terminal, WIDE columns.

    `runs` are those of the leaderboard, which shows the same values; `living_runs` are the names of run folders with a
    process. Columns without content are left out, and numbers are never cut: if they do not fit, lines are longer.
    """
    records = [row.record for row in rows]
    names = varying(sweep)
    if SEED not in names and any(SEED in (record.settings or {}) for record in records):
        names.append(SEED)  # of repeats that the file does not have
    settings = [_settings(record, names) for record in records]
    by_id = {"-".join(run.name.rsplit("-", 2)[-2:]): run for run in runs}  # an id of a run has one hyphen
    states = [
        Column("state", tuple(record.state for record in records), is_text=True),
        Column("epoch", tuple(row.progress for row in rows)),
        Column(sweep.metric.name, tuple(_value(row, by_id.get(row.record.run_id), sweep) for row in rows)),
        Column("left", tuple("" if row.seconds_left is None else duration(row.seconds_left) for row in rows)),
        Column("attempts", tuple(str(record.attempts + 1) if record.attempts else "" for record in records)),
        Column("on", tuple(printable(row.machine) for row in rows), is_text=True),
        Column("note", tuple(printable(_note(record, living_runs)) for record in records), is_text=True),
    ]
    states = [column for column in states if column.header == "state" or any(column.cells)]
    number = Column("trial", tuple(str(record.number) for record in records))
    together = Column("settings", tuple(in_words(each) if each else "" for each in settings), is_text=True)
    apart = [number, *settings_columns(names, settings), *states]
    console = Console()
    width = width or (console.width if console.is_terminal else WIDE)
    chosen = apart if columns.least_width(apart) <= width else [number, together, *states]
    text = io.StringIO()
    width = max(width, columns.least_width(chosen))
    Console(file=text, width=width, highlight=False).print(columns.table(chosen, width))
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())


def _settings(record: TrialRecord, names: Sequence[str]) -> dict[str, object] | None:
    """The settings that distinguish a trial; None until a search has chosen them."""
    settings = record.settings
    return None if settings is None else {name: settings[name] for name in names if name in settings}


def _value(row: Row, run: Run | None, sweep: Sweep) -> str:
    """The metric in the trial queue, else of its run so far, as on the leaderboard, else as its runner reports it."""
    value = row.record.value
    if value is None and run is not None:
        value = run.metric(sweep.metric.name)
    value = row.metric if value is None else value
    return "" if value is None else columns.number(value)


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
