"""Runs as W&B has them, read by its public API into what a folder tells of a run.

`api` is a `wandb.Api`; it is given, so that nothing here imports wandb. What it raises when W&B does not answer is
passed on.
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

# W&B locks what a sweep chose; what was used instead is in the config under this prefix.
OVERRIDE = "override/"

# Runs whose tables are fetched at a time.
AT_A_TIME = 8

# How W&B writes numbers that JSON does not have.
NOT_FINITE = ("NaN", "Infinity", "-Infinity")


@dataclass(frozen=True, eq=False)
class RemoteRun(Run):
    """A run in W&B. Its path, of which there is no folder, is entity/project/<name>-<id>.

    `rows` and `predictions` are fetched when first asked for. The manifest has what W&B itself records.
    """

    recorded: Any = None  # the wandb.apis.public.Run

    def metric(self, key: str) -> float | None:
        """As of any run; a summary of W&B has the newest value of every key, so that no history is asked for."""
        return finite_number(self.summary.get(key))

    @cached_property
    def rows(self) -> tuple[Mapping[str, Any], ...]:
        return tuple(_rows(self.recorded.scan_history()))

    @cached_property
    def predictions(self) -> PredictionTable:
        return self.fetch_predictions()

    def fetch_predictions(self) -> PredictionTable:
        """`predictions`, asked for anew."""
        try:
            classes = tuple(str(name) for (name,) in self._table(CLASSES, ("class",)))
            rows = self._table(PREDICTIONS, PREDICTION_COLUMNS)
            return table_of(classes, rows, (PREDICTIONS, CLASSES))
        except (ValueError, LookupError) as error:
            return PredictionTable(problem=f"W&B: {error.args[0] if error.args else error}")

    def _table(self, key: str, columns: Sequence[str]) -> list[list[Any]]:
        """Those columns of a logged table, by the file that its summary names."""
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
    """The runs of a project, oldest first; of one sweep, by its id in W&B or by the group of its runs.

    Raises ReportError when there are none.
    """
    place = f"{entity}/{project}"
    # Runs of a sweep that was kept offline name a sweep that W&B does not have; they share a group.
    filters = {"$or": [{"sweep": sweep}, {"group": sweep}]} if sweep else {}
    try:
        recorded = list(api.runs(place, filters=filters, lazy=False))
    except ValueError:  # what wandb makes of a project that the server does not show
        raise ReportError(f"W&B has no project {place}, or you may not see it.") from None
    if not recorded:
        raise ReportError(f"There are no runs in {place}" + (f" of a sweep or group {sweep}." if sweep else "."))
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        found = list(pool.map(_run, recorded))
        finished = [run for run in found if run.finished]
        # Not by way of the property: in Python 3.11 that lets one thread in at a time, whichever run it is of.
        for run, predictions in zip(finished, pool.map(RemoteRun.fetch_predictions, finished), strict=True):
            vars(run)["predictions"] = predictions
    return list[Run](found)


def known_ids(api: Any, entity: str, project: str, ids: Sequence[str]) -> set[str]:
    """Which of these ids of runs a project in W&B has; none, if there is no such project."""
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
    # A run that goes on may still show how its last process ended; one that was killed could not say so.
    if recorded.state == "running" or not isinstance(summary.get("state"), str):
        summary["state"] = recorded.state
    name = f"{recorded.name}-{recorded.id}".replace("/", "-")  # whatever a person has called it
    path = Path(recorded.entity, recorded.project, name)
    return RemoteRun(path, config, summary, _manifest(recorded), recorded=recorded)


def _manifest(recorded: Any) -> dict[str, Any]:
    """What wandb recorded of the machine, by the names of our own manifests; and how the run is known there.

    Not its commit: that is of whatever repository a run was started in.
    """
    known = recorded.metadata or {}
    hardware = {
        "host": known.get("host"),
        "cpu": (known.get("cpu") or {}).get("model"),
        "cores": known.get("cpu_count_logical"),
        "memory_bytes": int((known.get("memory") or {}).get("total") or 0) or None,
        "gpus": [known["gpu"]] * int(known.get("gpu_count") or 1) if known.get("gpu") else [],
    }
    python = known.get("python")
    return {
        "wandb_run_id": recorded.id,
        "group": recorded.group,
        "sweep": recorded.sweep_name,
        "started": known.get("startedAt"),
        "hardware": hardware if known else {},
        "versions": {"python": str(python).removeprefix("CPython ")} if python else {},
    }


def _rows(history: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What `metrics.jsonl` would hold: measurements by step, those that a resumed run took again only once.

    Left out are W&B's own entries, media, and `best/*`, which repeats what came before.
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
