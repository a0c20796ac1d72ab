"""What a person sees of a sweep: a live table on a terminal, one line per event elsewhere."""

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
from harness.sweep.search.trial_queue import ClaimedTrial, TrialQueue, TrialRecord
from harness.sweep.spec.sweep_file import Sweep

# Rows of the live table; a longer one would scroll the terminal at every refresh.
WAITING_SHOWN = 5
ENDED_SHOWN = 15

# Columns of a table that is not for a terminal.
WIDE = 200


class SweepProgress:
    """Used as a context; outside a terminal it only prints events."""

    def __init__(self, sweep: Sweep, trial_queue: TrialQueue) -> None:
        self._sweep, self._trial_queue = sweep, trial_queue
        self._console = Console(highlight=False, soft_wrap=True)
        self._live = (
            Live(console=self._console, auto_refresh=False, transient=True) if self._console.is_terminal else None
        )
        self._drawn = 0.0

    def __enter__(self) -> SweepProgress:
        if self._live:
            self._live.__enter__()
        return self

    def __exit__(self, *details: Any) -> None:
        if self._live:
            self._live.__exit__(*details)

    def event(self, task: ClaimedTrial | None, text: str) -> None:
        """Say what happened to a trial, or to the sweep."""
        entries = self._trial_queue.entries()
        ended = sum(entry.state in ENDED for entry in entries)
        settings = describe(task.settings, self._sweep) if task else ""
        who = f"trial {task.number}{f' ({settings})' if settings else ''} " if task else ""
        self._console.print(printable(f"[{ended}/{len(entries)}] {who}{text}"), markup=False)
        self._drawn = 0.0

    def refresh(self, running: Sequence[RunningTrial], slots: int) -> None:
        if self._live and time.monotonic() - self._drawn > 1:
            self._drawn = time.monotonic()
            self._live.update(self._table(running, slots), refresh=True)

    def _table(self, running: Sequence[RunningTrial], slots: int) -> Table:
        entries = self._trial_queue.entries()
        live = {one.task.number: one for one in running}
        waiting = [entry for entry in entries if entry.state in ("waiting", "interrupted")]
        ended = [entry for entry in entries if entry.state in ENDED]
        title = f"{self._sweep.name}: {len(ended)} of {len(entries)} done"
        if left := _sweep_seconds_left(entries, running, slots):
            title += f", about {duration(left)} left"
        table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left")
        for heading in ("trial", *varying(self._sweep), "state", "epoch", self._sweep.metric.name, "left", "on"):
            table.add_column(heading, justify="right" if heading in ("trial", "epoch") else "left")
        shown = [*ended[-ENDED_SHOWN:], *(e for e in entries if e.number in live), *waiting[:WAITING_SHOWN]]
        for entry in sorted(shown, key=lambda entry: entry.point):
            table.add_row(*_row(entry, live.get(entry.number), self._sweep))
        if hidden := len(entries) - len(shown):
            table.add_row(f"+ {hidden}")
        return table


ENDED = ("finished", "stopped", "infeasible", "failed")


def varying(sweep: Sweep) -> list[str]:
    return [parameter.name for parameter in sweep.parameters if parameter.varies]


def describe(settings: dict[str, Any], sweep: Sweep) -> str:
    """The settings that tell a trial from the others: "augment none, lr 0.001"."""
    return ", ".join(f"{name} {short(settings[name])}" for name in varying(sweep))


def status_table(entries: Sequence[TrialRecord], sweep: Sweep) -> str:
    """Every trial of a sweep in a line, as text."""
    table = Table(box=box.SIMPLE_HEAD)
    for heading in ("trial", *varying(sweep), "state", sweep.metric.name, "attempts", "on", "note"):
        table.add_column(heading, overflow="fold")
    for entry in entries:
        settings = entry.settings or {}
        table.add_row(
            str(entry.number),
            *(escape(short(settings[name])) if name in settings else "" for name in varying(sweep)),
            entry.state,
            "" if entry.value is None else f"{entry.value:.4f}",
            str(entry.attempts + 1) if entry.attempts else "",
            escape(printable(entry.owner or "")),
            escape(printable(entry.reason or "")),
        )
    return as_text(table)


def _row(entry: TrialRecord, running: RunningTrial | None, sweep: Sweep) -> list[str]:
    settings = entry.settings or {}
    cells = [str(entry.number), *(escape(short(settings[name])) if name in settings else "" for name in varying(sweep))]
    if running is None:
        value = "" if entry.value is None else f"{entry.value:.4f}"
        return [*cells, entry.state, "", value, "", ""]
    value_now = running.value(sweep.metric.name)
    left = running.seconds_left
    return [
        *cells,
        "ending" if running.kill_at is not None else "running",
        f"{running.rows.epoch:.1f}/{running.config.epochs}",
        "" if value_now is None else f"{value_now:.4f}",
        "" if left is None else duration(left),
        "GPU " + ",".join(running.slot.gpus) if running.slot.gpus else f"{len(running.slot.cores)} cores",
    ]


def _sweep_seconds_left(entries: Sequence[TrialRecord], running: Sequence[RunningTrial], slots: int) -> float | None:
    """From the speed of what is running: trials of one sweep take about as long as each other."""
    known = [(one.seconds_left, one.seconds_in_all) for one in running if one.seconds_left and one.seconds_in_all]
    if not known:
        return None
    waiting = sum(entry.state in ("waiting", "interrupted") for entry in entries)
    typical = sum(whole for _, whole in known) / len(known)
    return max(left for left, _ in known) + waiting * typical / max(slots, 1)


def short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def as_text(table: Table) -> str:
    """A table as wide as the terminal; wide, where there is none."""
    console = Console()
    if not console.is_terminal:
        console.width = WIDE
    with console.capture() as captured:
        console.print(table)
    return captured.get().rstrip()
