"""The settings of a sweep, best first, and which of them may be as good as the best by the test images."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from harness.runs.rules import Goal, finite, printable
from reports.runs import Run
from reports.stats.comparison import Comparison, compare
from reports.stats.notes import notes
from reports.stats.probe_rows import ProbeRow, probe_rows
from reports.stats.setting import SEED, Setting, settings_of, varying


@dataclass(frozen=True, eq=False)
class Row:
    """One run; `place` is that of its setting, None unless the run finished with the metric."""

    run: Run
    settings: dict[str, Any]  # those that vary among the runs, and the seed if any setting has several
    metric: float | None
    place: int | None = None
    reason: str = ""  # why it has no place

    @property
    def no_place(self) -> str:
        """Why it has no place, and how far it came; empty if it has one."""
        return "" if self.place else f"{self.reason} ({self.run.progress})".lstrip()


@dataclass(frozen=True, eq=False)
class SettingRow:
    """One setting; `place` and `comparison` are None unless a seed finished with the metric."""

    setting: Setting
    settings: dict[str, Any]  # those that vary among the runs, without the seed
    rows: tuple[Row, ...]  # of its runs, the finished ones first, the best of them first
    place: int | None = None
    comparison: Comparison | None = None  # of the best setting with this one

    @property
    def finished(self) -> tuple[Row, ...]:
        return tuple(row for row in self.rows if row.place is not None)


@dataclass(frozen=True, eq=False)
class Leaderboard:
    metric: str
    goal: Goal
    settings: tuple[str, ...]  # names of those that vary; the seed is none of them
    ranked: tuple[SettingRow, ...]  # best first
    unranked: tuple[SettingRow, ...]  # settings of which no seed has finished
    others: tuple[Row, ...]  # runs that have not finished, of all settings
    probes: tuple[ProbeRow, ...] = ()  # that runs started from

    @cached_property
    def finished(self) -> tuple[Row, ...]:
        """Runs: those of the best setting first, each setting's best seed first."""
        return tuple(row for setting in self.ranked for row in setting.finished)

    @property
    def repeated(self) -> bool:
        """Whether any setting has several seeds."""
        return any(len(row.rows) > 1 for row in (*self.ranked, *self.unranked))

    @property
    def unit(self) -> str:
        """What is ranked."""
        return "setting" if self.repeated else "run"

    @property
    def run_settings(self) -> tuple[str, ...]:
        """Names of the settings that distinguish runs."""
        return (*self.settings, SEED) if self.repeated else self.settings

    @property
    def notes(self) -> tuple[str, ...]:
        """The result in sentences, one per line."""
        return tuple(notes(self)) if self.ranked else (nothing_ranked(self) if self.others else "There are no runs.",)


def leaderboard(runs: Sequence[Run], *, metric: str = "best/val_f1", goal: Goal = "maximize") -> Leaderboard:
    """Rank settings by a metric of their runs' summaries; compare them with the best one on the test images."""
    settings = settings_of(runs, metric, goal)
    with_results = [setting for setting in settings if setting.runs]
    comparisons = [None, *compare(with_results[0], with_results[1:])] if with_results else []
    names = varying(runs)
    run_names = (*names, SEED) if any(len(setting.all_runs) > 1 for setting in settings) else names

    def chosen(run: Run, of: Sequence[str]) -> dict[str, Any]:
        return {name: run.config[name] for name in of if name in run.config}

    def row(run: Run, place: int | None) -> Row:
        reason = "" if place else _reason(run, metric)
        return Row(run, chosen(run, run_names), run.metric(metric), place, reason)

    def setting_row(setting: Setting, place: int | None, comparison: Comparison | None) -> SettingRow:
        rows = (*(row(run, place) for run in setting.runs), *(row(run, None) for run in setting.others))
        return SettingRow(setting, chosen(setting.best, names), rows, place, comparison)

    placed = [
        setting_row(setting, place, comparison)
        for place, (setting, comparison) in enumerate(zip(with_results, comparisons, strict=True), start=1)
    ]
    unranked = [setting_row(setting, None, None) for setting in settings if not setting.runs]
    row_of = {row.run: row for of_setting in (*placed, *unranked) for row in of_setting.rows}
    others = tuple(row_of[run] for run in runs if row_of[run].place is None)
    in_order = [run for setting in with_results for run in setting.runs] + [row.run for row in others]
    probes = probe_rows(in_order, metric, names)
    return Leaderboard(metric, goal, names, tuple(placed), tuple(unranked), others, probes)


def nothing_ranked(board: Leaderboard) -> str:
    """The reason why no setting can be called the best."""
    if any(row.run.finished for row in board.others):
        return f"No run has finished with a {printable(board.metric)}."
    return "No run has finished."


def to_json(board: Leaderboard) -> str:
    """The whole leaderboard, settings and numbers unrounded."""
    setting_rows = (*board.ranked, *board.unranked)
    comparison_of = {row.rows[0].run: row.comparison for row in setting_rows if len(row.rows) == 1}
    content = {
        "metric": board.metric,
        "goal": board.goal,
        "settings": board.settings,
        "probes": [dataclasses.asdict(probe) for probe in board.probes],
        "rows": [_setting_as_json(row) for row in setting_rows],
        "runs": [_as_json(row, comparison_of.get(row.run)) for row in (*board.finished, *board.others)],
        "notes": board.notes,
    }
    return json.dumps(finite(content), indent=2, allow_nan=False)


def _reason(run: Run, metric: str) -> str:
    reason = run.summary.get("reason")
    reasons = [reason] if isinstance(reason, str) else []
    if run.finished and run.metric(metric) is None:
        reasons.append(f"its summary has no {metric}")
    # An error message of several lines becomes one.
    return printable(" ".join("; ".join([*reasons, *run.problems]).split()))


def _setting_as_json(row: SettingRow) -> dict[str, Any]:
    """Of a setting: its scores over the seeds that have finished, and its runs by name."""
    return {
        "place": row.place,
        "settings": row.settings,
        "n": row.setting.score.n,
        "seeds": [run.run.config.get(SEED) for run in row.rows],
        "metric": dataclasses.asdict(row.setting.score),
        "test_f1": dataclasses.asdict(row.setting.test_f1),
        "best_run": row.setting.best.name if row.place else None,
        "runs": [run.run.name for run in row.rows],
        "best_less_this": _compared(row.comparison),
    }


def _compared(comparison: Comparison | None) -> dict[str, Any] | None:
    if comparison is None:
        return None
    return {
        **{name: getattr(comparison, name) for name in ("difference", "low", "high", "p", "p_holm", "comparisons")},
        "pictures": comparison.images,
        "indistinguishable": comparison.indistinguishable,
        "reason": comparison.reason or None,
    }


def _as_json(row: Row, comparison: Comparison | None) -> dict[str, Any]:
    return {
        "run": row.run.name,
        "path": str(row.run.path),
        "state": row.run.state,
        "place": row.place,
        "settings": row.settings,
        "summary": dict(row.run.summary),
        "reason": row.reason or None,
        "best_less_this": _compared(comparison),
    }
