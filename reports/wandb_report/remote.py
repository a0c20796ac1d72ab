"""Runs in W&B, read through its public API into the same objects as run folders.

`api` is a `wandb.Api` that the caller passes, so that nothing here imports wandb. Its exceptions, such as those of the
network, are not caught.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from harness.runs.predictions import PREDICTION_COLUMNS, PredictionTable, table_of
from harness.runs.rules import finite_number
from reports.errors import ReportError
from reports.runs import Run

# Tables that every finished run has logged.
PREDICTIONS, CLASSES = "test/predictions", "test/per_class"

# W&B locks the values that a sweep chose; the config has the values that were used instead under this prefix.
OVERRIDE = "override/"

# Threads that download tables.
DOWNLOADS = 8

# W&B's strings for numbers that JSON does not have.
NOT_FINITE = ("NaN", "Infinity", "-Infinity")


@dataclass(frozen=True, eq=False)
class RemoteRun(Run):
    """A run in W&B. Its path is entity/project/<name>-<id>, which does not exist on disk.

    `rows` and `predictions` are downloaded on first access. The manifest has what W&B itself records.
    """

    recorded: Any = None  # the wandb.apis.public.Run

    def metric(self, key: str) -> float | None:
        """As of any run, without downloading history: a W&B summary has the newest value of every key."""
        return finite_number(self.summary.get(key))

    @cached_property
    def rows(self) -> tuple[Mapping[str, Any], ...]:
        return tuple(_rows(self.recorded.scan_history()))

    @cached_property
    def predictions(self) -> PredictionTable:
        return self.fetch_predictions()

    def fetch_predictions(self) -> PredictionTable:
        """`predictions`, downloaded again at each call."""
        try:
            classes = tuple(str(name) for (name,) in self._table(CLASSES, ("class",)))
            rows = self._table(PREDICTIONS, PREDICTION_COLUMNS)
            return table_of(classes, rows, (PREDICTIONS, CLASSES))
        except (ValueError, LookupError) as error:
            return PredictionTable(problem=f"W&B: {error.args[0] if error.args else error}")

    def _table(self, key: str, columns: Sequence[str]) -> list[list[Any]]:
        """The given columns of a logged table, from the file that the summary names."""
        logged = self.summary.get(key)
        if not isinstance(logged, Mapping) or not isinstance(logged.get("path"), str):
            raise LookupError(f"the run has no table {key}")
        try:
            file = self.recorded.file(logged["path"])
        except IndexError:
            raise LookupError(f"the file of table {key} has not arrived") from None
        with tempfile.TemporaryDirectory() as folder, file.download(root=folder, replace=True) as downloaded:
            content = json.loads(Path(downloaded.name).read_bytes())
        try:
            places = [content["columns"].index(column) for column in columns]
            return [[row[place] for place in places] for row in content["data"]]
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise ValueError(f"table {key} is damaged ({error})") from error


def read_remote_runs(api: Any, entity: str, project: str, sweep: str | None = None) -> list[Run]:
    """The runs of a project, oldest first; with `sweep` (an id, or a group) those of one sweep.

    Raises ReportError if there are none.
    """
    place = f"{entity}/{project}"
    # Runs of an offline sweep name a sweep that W&B does not have, but they share a group.
    filters = {"$or": [{"sweep": sweep}, {"group": sweep}]} if sweep else {}
    try:
        recorded = list(api.runs(place, filters=filters, lazy=False))
    except ValueError:  # wandb raises it for a project that does not exist or is not visible
        raise ReportError(f"W&B has no project {place}, or you may not see it.") from None
    if not recorded:
        raise ReportError(f"There are no runs in {place}" + (f" of a sweep or group {sweep}." if sweep else "."))
    with ThreadPoolExecutor(DOWNLOADS) as pool:
        found = list(pool.map(_run, recorded))
        finished = [run for run in found if run.finished]
        # Not through the property: cached_property in Python 3.11 holds one lock for all runs.
        for run, predictions in zip(finished, pool.map(RemoteRun.fetch_predictions, finished), strict=True):
            vars(run)["predictions"] = predictions  # where cached_property keeps it
    return list[Run](found)


def known_ids(api: Any, entity: str, project: str, ids: Sequence[str]) -> set[str]:
    """Those of the run ids that a W&B project has; empty if the project does not exist."""
    try:
        return {run.id for run in api.runs(f"{entity}/{project}", filters={"name": {"$in": list(ids)}}, lazy=True)}
    except ValueError:
        return set()


def _run(recorded: Any) -> RemoteRun:
    config = {name: value for name, value in sorted(recorded.config.items()) if not name.startswith(OVERRIDE)}
    config |= {
        name.removeprefix(OVERRIDE): value for name, value in recorded.config.items() if name.startswith(OVERRIDE)
    }
    summary = {key: value for key, value in recorded.summary_metrics.items() if not key.startswith("_")}
    # The summary of a running run may have the state of an earlier process; that of a killed run may have none.
    if recorded.state == "running" or not isinstance(summary.get("state"), str):
        summary["state"] = recorded.state
    name = f"{recorded.name}-{recorded.id}".replace("/", "-")  # the display name may be any text
    path = Path(recorded.entity, recorded.project, name)
    return RemoteRun(path, config, summary, _manifest(recorded), recorded=recorded)


def _manifest(recorded: Any) -> dict[str, Any]:
    """What wandb recorded of run and machine, by the keys of manifest.json.

    Without the git commit: it is that of the repository in whose folder the run was started.
    """
    metadata = recorded.metadata or {}
    hardware = {
        "host": metadata.get("host"),
        "cpu": (metadata.get("cpu") or {}).get("model"),
        "cores": metadata.get("cpu_count_logical"),
        "memory_bytes": int((metadata.get("memory") or {}).get("total") or 0) or None,
        "gpus": [metadata["gpu"]] * int(metadata.get("gpu_count") or 1) if metadata.get("gpu") else [],
    }
    python = metadata.get("python")
    return {
        "wandb_run_id": recorded.id,
        "group": recorded.group,
        "sweep": recorded.sweep_name,
        "started": metadata.get("startedAt"),
        "hardware": hardware if metadata else {},
        "versions": {"python": str(python).removeprefix("CPython ")} if python else {},
    }


def _rows(history: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows of `metrics.jsonl`: by step; of a step that a resumed run repeated, the newer row.

    Left out: W&B's own entries, media, and `best/*`, which repeats earlier values.
    """
    newest: dict[tuple[float, frozenset[str]], dict[str, Any]] = {}
    for entry in history:
        row = {
            key: None if value in NOT_FINITE or (isinstance(value, float) and not math.isfinite(value)) else value
            for key, value in entry.items()
            if not key.startswith(("_", "best/")) and not isinstance(value, Mapping | list)
        }
        if row.keys() > {"step"} and isinstance(row["step"], int | float):
            newest[row["step"], frozenset(row)] = row
    return sorted(newest.values(), key=lambda row: row["step"])
