"""Tables of the trials of a sweep, printed once or shown live."""

from __future__ import annotations

import io
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from harness.runs.rules import duration, printable
from harness.sweep.search.trial_record import ENDED, STARTABLE, TrialRecord
from harness.sweep.spec.repeats import SEED
from harness.sweep.spec.sweep_file import Sweep
from reports import columns
from reports.columns import Column
from reports.stats.leaderboard_table import settings_columns
from reports.stats.setting import in_words

# Rows of a live table; a longer one would scroll the terminal at every refresh.
WAITING_ROWS = 5
ENDED_ROWS = 15

# Columns of a table that is not printed on a terminal.
WIDE = 200


@dataclass(frozen=True)
class Row:
    """One trial as it is shown."""

    record: TrialRecord
    place: str = ""  # of a running trial: its machine, or its part of this one
    epoch: float = 0.0
    epochs: int = 0  # of the whole trial; 0: not known yet
    metric: float | None = None
    seconds_left: float | None = None
    note: str = ""

    @property
    def progress(self) -> str:
        """Of a running trial: "2.4/5"."""
        return f"{self.epoch:.1f}/{self.epochs}" if self.epochs else ""


def trial_columns(rows: Sequence[Row], sweep: Sweep, width: int) -> list[Column]:
    """One column per setting, or one for all settings if these do not fit. Columns without content are left out."""
    records = [row.record for row in rows]
    names = varying(sweep)
    if SEED not in names and any(SEED in (record.settings or {}) for record in records):
        names.append(SEED)  # of repeats that the file does not have
    settings = [
        None if record.settings is None else {name: record.settings[name] for name in names if name in record.settings}
        for record in records
    ]
    states = [
        Column("epoch", tuple(row.progress for row in rows)),
        Column(sweep.metric.name, tuple("" if row.metric is None else columns.number(row.metric) for row in rows)),
        Column("left", tuple("" if row.seconds_left is None else duration(row.seconds_left) for row in rows)),
        Column("attempts", tuple(str(record.attempts + 1) if record.attempts else "" for record in records)),
        Column("on", tuple(printable(row.place) for row in rows), is_text=True),
        Column("note", tuple(printable(row.note) for row in rows), is_text=True),
    ]
    number = Column("trial", tuple(str(record.number) for record in records))
    state = Column("state", tuple(record.state for record in records), is_text=True)
    further = [state, *(column for column in states if any(column.cells))]
    apart = [number, *settings_columns(names, settings), *further]
    if columns.least_width(apart) <= width:
        return apart
    together = Column("settings", tuple(in_words(each) if each else "" for each in settings), is_text=True)
    return [number, together, *further]


def live_table(rows: Sequence[Row], sweep: Sweep, trial_seconds: float | None, width: int) -> Table:
    """The trials that run, the next and the last ones. `trial_seconds`: how long a trial takes, if one has finished."""
    ended = [row for row in rows if row.record.state in ENDED]
    to_start = [row for row in rows if row.record.state in STARTABLE]
    running = [row for row in rows if row.record.state in ("running", "ending")]
    title = f"{sweep.name}: {len(ended)} of {len(rows)} done, {len(running)} running"
    if (seconds := _seconds_left(running, len(to_start), trial_seconds)) is not None:
        title += f", about {duration(seconds)} left"
    shown = sorted([*ended[-ENDED_ROWS:], *running, *to_start[:WAITING_ROWS]], key=lambda row: row.record.point)
    table = columns.table(trial_columns(shown, sweep, width), width)
    table.title, table.title_justify = title, "left"
    if hidden := len(rows) - len(shown):
        table.add_row(f"+ {hidden}")
    return table


def _seconds_left(running: Sequence[Row], to_start: int, trial_seconds: float | None) -> float | None:
    """Until the running trials and `to_start` others have ended; None if too little is known."""
    # A trial that has trained its last epoch shares its slot with the next one.
    training = [row for row in running if not row.epochs or row.epoch < row.epochs]
    lefts = [row.seconds_left for row in running if row.seconds_left is not None]
    if trial_seconds is None:
        whole = [row.seconds_left / (1 - row.epoch / row.epochs) for row in training if row.epochs and row.seconds_left]
        trial_seconds = statistics.fmean(whole) if whole else None
    if not lefts or (to_start and not trial_seconds):
        return None
    return max(lefts) + to_start * (trial_seconds or 0) / max(1, len(training))


def as_text(layout: Sequence[Column], width: int | None = None) -> str:
    """Columns as text, by default as wide as the terminal. Numbers are never cut: lines are longer if need be."""
    width = max(width or terminal_width(), columns.least_width(layout))
    text = io.StringIO()
    Console(file=text, width=width, highlight=False).print(columns.table(layout, width))
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())


def terminal_width() -> int:
    """WIDE without a terminal."""
    console = Console()
    return console.width if console.is_terminal else WIDE


def varying(sweep: Sweep) -> list[str]:
    """Names of the settings in which trials differ."""
    return [parameter.name for parameter in sweep.parameters if parameter.varies]


def describe(settings: dict[str, Any] | None, sweep: Sweep) -> str:
    """The settings that distinguish a trial from the others, in brackets: " (augment none, lr 0.001)"."""
    words = [f"{name} {short(settings[name])}" for name in varying(sweep) if settings and name in settings]
    return f" ({', '.join(words)})" if words else ""


def short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def last_heartbeat(record: TrialRecord) -> str:
    """When the runner of a trial sent its last heartbeat; the clocks of two machines may differ."""
    if record.heartbeat is None:
        return "no heartbeat yet"
    return f"last heartbeat {duration(max(0.0, time.time() - record.heartbeat))} ago, by its clock"
