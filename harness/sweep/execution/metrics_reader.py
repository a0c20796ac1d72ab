"""Follows the files that a running trial writes: rows of metrics, and when they last changed."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from harness.runs.folder import RunFolder
from harness.runs.reading import parse_row
from harness.runs.rules import best_epoch

Row = dict[str, Any]


class MetricsReader:
    """Reads a metrics file that is being written; each row once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._inode, self._offset = -1, 0
        self.validations: list[Row] = []  # one per epoch
        self.newest: Row | None = None

    def read(self) -> bool:
        """Read new rows; returns whether there were any. A resumed run replaces the file, which is then read again.

        There are none in a file that cannot be read: the path may be of another machine.
        """
        try:
            state = self._path.stat()
            if state.st_ino != self._inode or state.st_size < self._offset:
                self._inode, self._offset, self.validations, self.newest = state.st_ino, 0, [], None
            if state.st_size == self._offset:
                return False
            with self._path.open("rb") as file:
                file.seek(self._offset)
                complete, newline, _ = file.read().rpartition(b"\n")
        except OSError:
            return False
        self._offset += len(complete) + len(newline)
        for line in complete.splitlines():
            with suppress(ValueError):  # of damaged rows; the run itself reports them when it resumes
                self.newest = parse_row(line)
                if "val/loss" in self.newest:
                    self.validations.append(self.newest)
        return bool(complete)

    @property
    def epoch(self) -> float:
        """Epochs trained, with fractions."""
        return self.newest.get("epoch") or 0.0 if self.newest else 0.0


def value_after(validations: Sequence[Row], metric: str) -> float | None:
    """The metric after these validations; None if they do not contain it."""
    if not validations:
        return None
    if metric.startswith("best/"):
        if not (best := best_epoch(validations)):
            return None
        return best["epoch"] if metric == "best/epoch" else best.get(metric.removeprefix("best/").replace("_", "/", 1))
    return validations[-1].get(metric)


def modification_times(folder: RunFolder, log: Path) -> tuple[int | None, ...]:
    """When the files and folders that change while a run progresses were last changed.

    The clocks of two machines may differ: only a change counts. A folder changes with each file that is written beside
    and renamed.
    """
    paths = (folder.path, folder.metrics, folder.checkpoints, folder.figures, folder.attention, log)
    return tuple(map(modification_time, paths))


def modification_time(path: Path) -> int | None:
    """In nanoseconds; None where there is nothing."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return None
