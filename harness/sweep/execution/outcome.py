"""The progress of a trial, read from its folder: new rows, the value of its metric, why it failed."""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from harness.runs.folder import RunFolder
from harness.runs.reading import parse_row
from harness.runs.rules import best_epoch, finite_number

Row = dict[str, Any]

# What to do about a damaged run folder of a trial.
RETRY = "Move the run folder away and repeat `harness sweep run`: it starts this trial again."


class Rows:
    """Rows of a metrics file that is being written; each is read once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._inode, self._offset = -1, 0
        self.epochs: list[Row] = []  # validations so far
        self.newest: Row | None = None

    def read(self) -> bool:
        """Read new rows; returns whether there were any. A resumed run replaces the file, which is then read again."""
        try:
            state = self._path.stat()
        except FileNotFoundError:
            return False
        if state.st_ino != self._inode or state.st_size < self._offset:
            self._inode, self._offset, self.epochs, self.newest = state.st_ino, 0, [], None
        if state.st_size == self._offset:
            return False
        with self._path.open("rb") as file:
            file.seek(self._offset)
            whole, newline, _ = file.read().rpartition(b"\n")
        self._offset += len(whole) + len(newline)
        for line in whole.splitlines():
            with suppress(ValueError):  # of damaged rows; the run itself reports them when it resumes
                self.newest = parse_row(line)
                if "val/loss" in self.newest:
                    self.epochs.append(self.newest)
        return bool(whole)

    @property
    def epoch(self) -> float:
        """Epochs trained, with fractions."""
        return self.newest.get("epoch") or 0.0 if self.newest else 0.0


def value_after(epochs: Sequence[Row], metric: str) -> float | None:
    """The metric after these validations; None if they do not contain it."""
    if not epochs:
        return None
    if metric.startswith("best/"):
        if not (best := best_epoch(epochs)):
            return None
        return best["epoch"] if metric == "best/epoch" else best.get(metric.removeprefix("best/").replace("_", "/", 1))
    return epochs[-1].get(metric)


def read_summary(folder: RunFolder) -> dict[str, Any]:
    """summary.json of a trial; empty if it is missing. Raises UnreadableError."""
    return folder.read("summary.json", RETRY)


def final_value(folder: RunFolder, metric: str) -> float | None:
    """The metric of a finished run: from its summary, else from the last row that has it. Raises UnreadableError."""
    summary = read_summary(folder)
    if metric in summary:
        return finite_number(summary[metric])
    return next((row[metric] for row in reversed(folder.read_metrics(RETRY)) if metric in row), None)


def last_sign_of_progress(folder: RunFolder, log: Path) -> float:
    """Modification time (s) of the newest file that a run writes as it progresses; 0 if there is none."""
    progress_files = [
        folder.metrics,
        folder.path / "summary.json",
        folder.path / "manifest.json",
        folder.checkpoints,
        log,
    ]
    times = [0.0]
    for path in progress_files:
        with suppress(FileNotFoundError):
            times.append(path.stat().st_mtime)
    return max(times)


def why_it_failed(code: int, summary: Mapping[str, Any], log: Path, *, hung: bool, timeout: float) -> str:
    """One sentence: the run's own reason, else how its process ended and the last line of its log."""
    if hung:
        return f"no progress for {timeout:g} s"
    if summary.get("state") == "failed" and summary.get("reason"):
        return str(summary["reason"]).splitlines()[0]
    if code in (-signal.SIGKILL, 128 + signal.SIGKILL):
        return "killed (SIGKILL), by the kernel if memory ran out"
    ended = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    line = _last_line(log)
    return f"{ended}: {line}" if line else ended


def _last_line(log: Path) -> str:
    with suppress(OSError):
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 4000))
            lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith("Error: ")]
        return (errors or lines or [""])[-1].removeprefix("Error: ")[:300]
    return ""
