"""The runs of a folder, as every section and figure sees them."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from harness.runs.metric_table import BY_KEY
from harness.runs.rules import printable
from reports import columns
from reports.errors import ReportError
from reports.runs import Run, read_runs
from reports.stats.leaderboard import Leaderboard, Row, leaderboard
from reports.values import is_number


def in_order(rows: Sequence[Row], name: str) -> list[Setting]:
    """One setting of runs that all have it, by its value: numbers by size, the rest by text."""
    values = [row.settings[name] for row in rows]
    found = [Setting(*one) for one in zip(rows, values, columns.spelled(values), strict=True)]
    return sorted(found, key=lambda one: (not is_number(one.value), one.value if is_number(one.value) else one.text))


@dataclass(frozen=True, eq=False)
class Setting:
    """What one setting is in one run."""

    row: Row
    value: Any
    text: str


def collect(folder: str | Path, gallery: int | None = 24) -> Collection:
    """The runs of a folder on this machine. Raises ReportError where there are none."""
    path = Path(folder).resolve()
    if not (runs := read_runs(path)):
        raise ReportError(
            f"There are no runs in {printable(folder)}: no folder in it holds a config.json. Give what --runs-dir was."
        )
    return Collection(path, leaderboard(runs), gallery)


@dataclass(frozen=True, eq=False)
class Collection:
    """The runs of a folder, as every section sees them."""

    folder: Path
    board: Leaderboard
    gallery: int | None = 24  # at most so many runs have their images shown; None: all

    @cached_property
    def rows(self) -> tuple[Row, ...]:
        """All runs: the finished ones best first, then the others."""
        return (*self.board.finished, *self.board.others)

    @property
    def metric(self) -> str:
        """What the runs are ranked by, in words."""
        known = BY_KEY.get(self.board.metric)
        return known.title if known else printable(self.board.metric)

    @property
    def name(self) -> str:
        """Of the sweep, where all runs are of one; else of the folder."""
        parents = {row.run.path.parent for row in self.rows}
        return printable(parents.pop().name if len(parents) == 1 else self.folder.name)

    @property
    def best(self) -> Run | None:
        return self.board.finished[0].run if self.board.finished else None

    def key(self, run: Run) -> str:
        """A short name of a run, fit for file names and addresses; the same every time a page is built."""
        return "r" + hashlib.sha256(self._place(run).encode(errors="surrogateescape")).hexdigest()[:10]

    def _place(self, run: Run) -> str:
        return str(run.path.relative_to(self.folder) if run.path.is_relative_to(self.folder) else run.path)

    @cached_property
    def labels(self) -> dict[str, str]:
        """By key, how a run is called where people read: "augment none, lr 0.0003", or by its folder."""
        spelled = {
            name: columns.spelled([row.settings.get(name, "?") for row in self.rows]) for name in self.board.settings
        }
        words = [
            ", ".join(f"{printable(name).replace('_', ' ')} {cells[number]}" for name, cells in spelled.items())
            for number in range(len(self.rows))
        ]
        said, named = Counter(words), Counter(row.run.name for row in self.rows)
        # The same sweep in two folders has the same names in both.
        folders = [row.run.name if named[row.run.name] == 1 else self._place(row.run) for row in self.rows]
        return {
            self.key(row.run): text if text and said[text] == 1 else printable(folder)
            for row, text, folder in zip(self.rows, words, folders, strict=True)
        }

    def label(self, run: Run) -> str:
        return self.labels[self.key(run)]
