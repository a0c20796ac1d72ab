"""The runs of a folder, ranked: the input of every section of the page and of the W&B report."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from harness.runs.metric_table import BY_KEY
from harness.runs.rules import printable
from reports import columns
from reports.errors import ReportError
from reports.runs import Run, read_runs
from reports.stats.leaderboard import Leaderboard, Row, SettingRow, leaderboard
from reports.values import is_number


def in_order(rows: Sequence[SettingRow], name: str) -> list[SettingValue]:
    """The values of one hyperparameter in settings that all have it, sorted: numbers first, then text."""
    values = [row.settings[name] for row in rows]
    all_values = [
        SettingValue(row, value, text) for row, value, text in zip(rows, values, columns.spelled(values), strict=True)
    ]
    return sorted(
        all_values, key=lambda each: (not is_number(each.value), each.value if is_number(each.value) else each.text)
    )


@dataclass(frozen=True, eq=False)
class SettingValue:
    """The value of one hyperparameter in one setting."""

    row: SettingRow
    value: Any
    text: str


def collect(folder: str | Path, gallery: int | None = 24) -> Collection:
    """The runs of a folder on this machine. Raises ReportError if there are none."""
    path = Path(folder).resolve()
    if not (runs := read_runs(path)):
        raise ReportError(
            f"There are no runs in {printable(folder)}: no folder in it has a config.json. Give the folder that "
            "contains the run folders."
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
        """All runs: the finished ones, those of the best setting first; then the others."""
        return (*self.board.finished, *self.board.others)

    @property
    def setting_rows(self) -> tuple[SettingRow, ...]:
        """All settings, best first; those without a finished run come last."""
        return (*self.board.ranked, *self.board.unranked)

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
        """The best seed of the best setting, by validation."""
        return self.board.finished[0].run if self.board.finished else None

    def key(self, run: Run) -> str:
        """A short id of a run for file names and addresses; equal each time a page is built."""
        return "r" + hashlib.sha256(self._place(run).encode(errors="surrogateescape")).hexdigest()[:10]

    def _place(self, run: Run) -> str:
        return str(run.path.relative_to(self.folder) if run.path.is_relative_to(self.folder) else run.path)

    def setting_key(self, row: SettingRow) -> str:
        """The key of the setting's run; of several runs, one for all."""
        if len(row.rows) == 1:
            return self.key(row.rows[0].run)
        places = sorted(self._place(one.run) for one in row.rows)
        return "s" + hashlib.sha256("\n".join(places).encode(errors="surrogateescape")).hexdigest()[:10]

    @cached_property
    def labels(self) -> dict[str, str]:
        """Names of runs by key: settings, such as "augment none, lr 0.0003", or the folder if they are not unique."""
        words = _in_words(self.board.run_settings, self.rows)
        word_counts, name_counts = Counter(words), Counter(row.run.name for row in self.rows)
        # The same sweep in two folders has the same names in both.
        folders = [row.run.name if name_counts[row.run.name] == 1 else self._place(row.run) for row in self.rows]
        return {
            self.key(row.run): text if text and word_counts[text] == 1 else printable(folder)
            for row, text, folder in zip(self.rows, words, folders, strict=True)
        }

    @cached_property
    def setting_labels(self) -> dict[str, str]:
        """Names of settings by key: as of their run, or without the seed."""
        words = _in_words(self.board.settings, self.setting_rows)
        counts = Counter(words)
        return {
            self.setting_key(row): text if text and counts[text] == 1 else self._with_folder(row, text)
            for row, text in zip(self.setting_rows, words, strict=True)
        }

    def _with_folder(self, row: SettingRow, words: str) -> str:
        """The name of a setting that another one shares, or that has none."""
        label = self.label(row.setting.best)
        return label if len(row.rows) == 1 else f"{words or 'all settings equal'}, {len(row.rows)} seeds as {label}"

    def labels_by(self, fact: Callable[[Run], str | None]) -> dict[str, list[str]]:
        """Names of runs by a fact about them; runs for which it is None are left out."""
        labels: dict[str, list[str]] = {}
        for row in self.rows:
            if (value := fact(row.run)) is not None:
                labels.setdefault(value, []).append(self.label(row.run))
        return labels

    def label(self, run: Run) -> str:
        return self.labels[self.key(run)]

    def setting_label(self, row: SettingRow) -> str:
        return self.setting_labels[self.setting_key(row)]


def _in_words(names: Sequence[str], rows: Sequence[Row] | Sequence[SettingRow]) -> list[str]:
    """The settings of each row."""
    return list(map(columns.in_words, columns.spelled_settings(names, [row.settings for row in rows])))
