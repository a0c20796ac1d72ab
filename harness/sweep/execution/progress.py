"""Shows the progress of a sweep: a live table on a terminal, one line per event elsewhere."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from harness.runs.rules import duration, printable
from harness.sweep.execution.running_trial import RunningTrial
from harness.sweep.search.trial_queue import ClaimedTrial, TrialQueue
from harness.sweep.search.trial_record import TrialRecord
from harness.sweep.spec.sweep_file import Sweep

# Rows of the live table; a longer one would scroll the terminal at every refresh.
WAITING_ROWS = 5
ENDED_ROWS = 15

# Columns of a table that is not printed on a terminal.
WIDE = 200

ENDED = ("finished", "stopped", "infeasible", "failed", "skipped", "removed")


class SweepProgress:
    """A context manager. Without a terminal it only prints events."""

    def __init__(self, sweep: Sweep, trial_queue: TrialQueue) -> None:
        self._sweep, self._trial_queue = sweep, trial_queue
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
        settings = describe(trial.settings, self._sweep) if trial else ""
        subject = f"trial {trial.number}{f' ({settings})' if settings else ''} " if trial else ""
        self._console.print(printable(f"[{ended}/{len(records)}] {subject}{text}"), markup=False)
        self._last_refresh = 0.0

    def refresh(self, running: Sequence[RunningTrial], slots: int) -> None:
        if self._live and time.monotonic() - self._last_refresh > 1:
            self._last_refresh = time.monotonic()
            self._live.update(self._table(running, slots), refresh=True)

    def _table(self, running: Sequence[RunningTrial], slots: int) -> Table:
        records = self._trial_queue.records()
        running_by_number = {trial.claimed.number: trial for trial in running}
        waiting = [record for record in records if record.state in ("waiting", "interrupted")]
        ended = [record for record in records if record.state in ENDED]
        title = f"{self._sweep.name}: {len(ended)} of {len(records)} done"
        if seconds := _seconds_left(len(waiting), running, slots):
            title += f", about {duration(seconds)} left"
        table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left")
        for heading in ("trial", *varying(self._sweep), "state", "epoch", self._sweep.metric.name, "left", "on"):
            table.add_column(heading, justify="right" if heading in ("trial", "epoch") else "left")
        active = [record for record in records if record.number in running_by_number]
        shown = [*ended[-ENDED_ROWS:], *active, *waiting[:WAITING_ROWS]]
        for record in sorted(shown, key=lambda record: record.point):
            table.add_row(*_row(record, running_by_number.get(record.number), self._sweep))
        if hidden := len(records) - len(shown):
            table.add_row(f"+ {hidden}")
        return table


def varying(sweep: Sweep) -> list[str]:
    """Names of the settings in which trials differ."""
    return [parameter.name for parameter in sweep.parameters if parameter.varies]


def describe(settings: dict[str, Any], sweep: Sweep) -> str:
    """The settings that distinguish a trial from the others: "augment none, lr 0.001"."""
    return ", ".join(f"{name} {short(settings[name])}" for name in varying(sweep) if name in settings)


def last_heartbeat(record: TrialRecord) -> str:
    """When the runner of a trial sent its last heartbeat; the clocks of two machines may differ."""
    if record.heartbeat is None:
        return "no heartbeat yet"
    return f"last heartbeat {duration(max(0.0, time.time() - record.heartbeat))} ago, by its clock"


def _row(record: TrialRecord, running: RunningTrial | None, sweep: Sweep) -> list[str]:
    cells = _settings_cells(record, varying(sweep))
    if running is None:
        return [*cells, record.state, "", _score(record.value), "", ""]
    seconds = running.seconds_left
    return [
        *cells,
        "ending" if running.kill_at is not None else "running",
        f"{running.metrics.epoch:.1f}/{running.config.epochs}",
        _score(running.value(sweep.metric.name)),
        "" if seconds is None else duration(seconds),
        "GPU " + ",".join(running.slot.gpus) if running.slot.gpus else f"{len(running.slot.cores)} cores",
    ]


def _settings_cells(record: TrialRecord, names: Sequence[str]) -> list[str]:
    """The trial's number, and its settings as far as they are known."""
    settings = record.settings or {}
    cells = [escape(short(settings[name])) if name in settings else "" for name in names]
    return [str(record.number), *cells]


def _score(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _seconds_left(waiting: int, running: Sequence[RunningTrial], slots: int) -> float | None:
    """Estimated from the running trials: trials of one sweep take about equally long."""
    estimates = [
        (trial.seconds_left, trial.total_seconds) for trial in running if trial.seconds_left and trial.total_seconds
    ]
    if not estimates:
        return None
    mean_total = sum(total for _, total in estimates) / len(estimates)
    return max(left for left, _ in estimates) + waiting * mean_total / max(slots, 1)


def short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def as_text(table: Table) -> str:
    """A table as wide as the terminal; without a terminal, WIDE columns."""
    console = Console()
    if not console.is_terminal:
        console.width = WIDE
    with console.capture() as captured:
        console.print(table)
    return captured.get().rstrip()
