"""What runs tell, in W&B: from a name that a person types to the addresses of a workspace and a report there."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from harness import track
from harness.errors import HarnessError
from reports.collection import Collection, collect
from reports.errors import ReportError
from reports.stats.leaderboard import leaderboard
from reports.wandb_report import dashboard
from reports.wandb_report.dashboard import Scope
from reports.wandb_report.remote import known_ids, read_remote_runs

# Seconds for reading the runs of a project, and for saving; each answer has less.
READ_TIMEOUT = 900
SAVE_TIMEOUT = 120

TO_SEND = "To send runs: harness sync RUN..., or harness sweep sync FILE."

Answer = TypeVar("Answer")


def publish(runs: str, say: Callable[[str], None] = print) -> tuple[str, str]:
    """Make the workspace and the report of a folder of runs, or of ENTITY/PROJECT[/SWEEP]; returns their addresses.

    Raises HarnessError, in one sentence, where the extra, a login, a permission or the runs are missing.
    """
    with _in_words():
        dashboard.require()
        folder = Path(runs)
        here = collect(folder) if folder.is_dir() else None
        named = re.fullmatch(r"([^/\s]+)/([^/\s]+)(?:/([^/]+))?/?", runs)
        if not here and not named:
            raise HarnessError(f"{runs} is neither a folder of runs nor ENTITY/PROJECT or ENTITY/PROJECT/SWEEP in W&B.")
        words = named.groups() if named else ()
        with track.reach() as server:
            scope, collection = (_scope_of(server, here, say), here) if here else _runs_there(server, folder, *words)
            return _ask(server, lambda api: dashboard.publish(api, scope, collection), SAVE_TIMEOUT)


def _runs_there(
    server: track.Server, folder: Path, entity: str, project: str, sweep: str | None
) -> tuple[Scope, Collection]:
    """Runs that W&B has, whoever sent them."""
    found = _ask(server, lambda api: read_remote_runs(api, entity, project, sweep), READ_TIMEOUT)
    groups = {run.manifest["group"] for run in found}
    # A sweep's folder, its group in W&B and its id are then the same report.
    name = groups.pop() if sweep and len(groups) == 1 else None
    return Scope(entity, project, name or sweep or project, sweep), Collection(folder, leaderboard(found))


def _scope_of(server: track.Server, collection: Collection, say: Callable[[str], None]) -> Scope:
    """Where the runs of a folder are in W&B, as far as they are."""
    folder, runs = collection.folder, [row.run for row in collection.rows]
    recorded = [run for run in runs if any((run.path / "wandb").glob("*run-*/*.wandb"))]
    if not recorded:
        raise HarnessError(f"None of the runs in {folder} was recorded for W&B; they were made with W&B disabled.")
    entity, project = server.project_of(recorded[0].path).split("/")
    ids = sorted(str(run.manifest["wandb_run_id"]) for run in runs if run.manifest.get("wandb_run_id"))
    there = _ask(server, lambda api: known_ids(api, entity, project, ids), SAVE_TIMEOUT)
    if not there:
        raise HarnessError(f"{entity}/{project} has none of the runs in {folder} yet. {TO_SEND}")
    if missing := len(runs) - len(there):
        say(f"{missing} of {len(runs)} runs are not in W&B yet, and in words and tables only. {TO_SEND}")
    return Scope(entity, project, collection.name, ids=tuple(ids))


def _ask(server: track.Server, work: Callable[[Any], Answer], seconds: float) -> Answer:
    def worded(api: Any) -> Answer:
        with _in_words():
            return work(api)

    return server.ask(worded, seconds)


@contextlib.contextmanager
def _in_words() -> Iterator[None]:
    try:
        yield
    except ReportError as error:
        raise HarnessError(str(error)) from error
