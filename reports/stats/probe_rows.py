"""The linear probes that runs started from, one for each backbone: the first rows of a leaderboard."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from reports.runs import Run

# Settings that a probe depends on. Runs that differ in others start from the same one.
PROBE_SETTINGS = ("data", "split_seed", "split_fraction", "image_size", "crop_pct", "model", "weights")

# A probe has no epochs: its scores on validation stand beside those of a run's best epoch.
RUN_PREFIXES, PROBE_PREFIX = ("best/val_", "val/"), "probe/val_"


@dataclass(frozen=True)
class ProbeRow:
    settings: dict[str, Any]  # those that vary among the runs
    metric: float | None  # the one that ranks the runs
    test_f1: float | None  # macro F1; None until one of its runs has finished
    started: int  # how many runs started from it


def probe_rows(runs: Sequence[Run], metric: str, varying: Iterable[str]) -> tuple[ProbeRow, ...]:
    """A row for each probe, in the order of its first run. `varying` names the settings that vary among the runs."""
    by_probe: dict[str, list[Run]] = {}
    for run in runs:
        if run.metric("probe/val_f1") is not None:
            identity = json.dumps([run.config.get(name) for name in PROBE_SETTINGS])
            by_probe.setdefault(identity, []).append(run)
    shown = [name for name in varying if name in PROBE_SETTINGS]
    return tuple(
        ProbeRow(
            {name: same[0].config[name] for name in shown if name in same[0].config},
            _first(same, _probe_key(metric)),
            _first(same, "probe/test_f1"),
            len(same),
        )
        for same in by_probe.values()
    )


def _probe_key(metric: str) -> str:
    """best/val_f1 -> probe/val_f1."""
    for prefix in RUN_PREFIXES:
        if metric.startswith(prefix):
            return PROBE_PREFIX + metric.removeprefix(prefix)
    return f"probe/{metric.replace('/', '_')}"


def _first(runs: Iterable[Run], key: str) -> float | None:
    return next((value for run in runs if (value := run.metric(key)) is not None), None)
