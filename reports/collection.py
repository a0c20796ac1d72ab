"""The runs of a folder, ranked: the input of every section of the page and of the W&B report."""

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
    """One setting of runs that all have it, sorted by value: numbers first, then text."""
    values = [row.settings[name] for row in rows]
    settings = [
        Setting(row, value, text) for row, value, text in zip(rows, values, columns.spelled(values), strict=True)
    ]
    return sorted(
        settings,
        key=lambda setting: (not is_number(setting.value), setting.value if is_number(setting.value) else setting.text),
    )


@dataclass(frozen=True, eq=False)
class Setting:
    """The value of one setting in one run."""

    row: Row
    value: Any
    text: str


def collect(folder: str | Path, gallery: int | None = 24) -> Collection:
    """The runs of a folder on this machine. Raises ReportError if there are none."""
    path = Path(folder).resolve()
    if not (runs := read_runs(path)):
        raise ReportError(
            f"There are no runs in {printable(folder)}: no folder in it has a config.json. Give the --runs-dir of runs."
        )
    return Collection(path, leaderboard(runs), gallery)


@dataclass(frozen=True, eq=False)
class Collection:
    """The runs of a folder: ranked, named, and with their settings as text."""

    folder: Path
    board: Leaderboard
    gallery: int | None = 24  # most runs whose images are shown; None: all

    @cached_property
    def rows(self) -> tuple[Row, ...]:
        """All runs: the finished ones best first, then the others."""
        return (*self.board.finished, *self.board.others)

    @property
    def metric(self) -> str:
        """Title of the metric that ranks the runs."""
        known = BY_KEY.get(self.board.metric)
        return known.title if known else printable(self.board.metric)

    @property
    def name(self) -> str:
        """Name of the sweep if all runs are of one; else of the folder."""
        parents = {row.run.path.parent for row in self.rows}
        return printable(parents.pop().name if len(parents) == 1 else self.folder.name)

    @property
    def best(self) -> Run | None:
        return self.board.finished[0].run if self.board.finished else None

    def key(self, run: Run) -> str:
        """A short id of a run for file names and addresses; equal each time a page is built."""
        return "r" + hashlib.sha256(self._place(run).encode(errors="surrogateescape")).hexdigest()[:10]

    def _place(self, run: Run) -> str:
        return str(run.path.relative_to(self.folder) if run.path.is_relative_to(self.folder) else run.path)

    @cached_property
    def labels(self) -> dict[str, str]:
        """Names of runs by key: settings, such as "augment none, lr 0.0003", or the folder if they are not unique."""
        spelled = {
            name: columns.spelled([row.settings.get(name, "?") for row in self.rows]) for name in self.board.settings
        }
        words = [
            ", ".join(f"{printable(name).replace('_', ' ')} {cells[number]}" for name, cells in spelled.items())
            for number in range(len(self.rows))
        ]
        word_counts, name_counts = Counter(words), Counter(row.run.name for row in self.rows)
        # The same sweep in two folders has the same names in both.
        folders = [row.run.name if name_counts[row.run.name] == 1 else self._place(row.run) for row in self.rows]
        return {
            self.key(row.run): text if text and word_counts[text] == 1 else printable(folder)
            for row, text, folder in zip(self.rows, words, folders, strict=True)
        }

    def label(self, run: Run) -> str:
        return self.labels[self.key(run)]
