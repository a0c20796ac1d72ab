"""`harness report --wandb`: make a W&B workspace and report from a folder of runs or from ENTITY/PROJECT[/SWEEP]."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from harness import track
from harness.errors import HarnessError
from reports.collection import Collection, collect
from reports.stats.leaderboard import leaderboard
from reports.wandb_report import dashboard
from reports.wandb_report.dashboard import Scope
from reports.wandb_report.remote import known_ids, read_remote_runs

# Seconds for reading all runs of a project, and for saving. Single requests have shorter limits.
READ_TIMEOUT = 900
SAVE_TIMEOUT = 120

HOW_TO_SEND = "To send runs: harness sync RUN..., or harness sweep sync FILE."


def publish(runs: str, say: Callable[[str], None] = print) -> tuple[str, str]:
    """Make the workspace and the report of a folder of runs, or of ENTITY/PROJECT[/SWEEP]; returns their addresses.

    Raises HarnessError if the extra `reports`, a login, a permission or the runs are missing.
    """
    dashboard.require()
    folder = Path(runs)
    local = collect(folder) if folder.is_dir() else None
    remote = re.fullmatch(r"([^/\s]+)/([^/\s]+)(?:/([^/]+))?/?", runs)
    if not local and not remote:
        raise HarnessError(f"{runs} is neither a folder of runs nor ENTITY/PROJECT or ENTITY/PROJECT/SWEEP in W&B.")
    with track.reach() as server:
        if local:
            scope, collection = _scope_of(server, local, say), local
        else:
            assert remote is not None
            scope, collection = _remote_runs(server, folder, *remote.groups())
        return server.ask(lambda api: dashboard.publish(api, scope, collection), SAVE_TIMEOUT)


def _remote_runs(
    server: track.Server, folder: Path, entity: str, project: str, sweep: str | None
) -> tuple[Scope, Collection]:
    """Read all runs of a project or sweep from W&B, whichever machine sent them."""
    runs = server.ask(lambda api: read_remote_runs(api, entity, project, sweep), READ_TIMEOUT)
    groups = {run.manifest["group"] for run in runs}
    # The group is named after the sweep's folder: the folder and the sweep id then give the same report.
    name = groups.pop() if sweep and len(groups) == 1 else None
    return Scope(entity, project, name or sweep or project, sweep), Collection(folder, leaderboard(runs))


def _scope_of(server: track.Server, collection: Collection, say: Callable[[str], None]) -> Scope:
    """Find the project in W&B that holds the runs of a folder. Raises HarnessError if it holds none of them."""
    folder, runs = collection.folder, [row.run for row in collection.rows]
    recorded = [run for run in runs if any((run.path / "wandb").glob("*run-*/*.wandb"))]
    if not recorded:
        raise HarnessError(f"None of the runs in {folder} was recorded for W&B: they were made with W&B disabled.")
    entity, project = server.project_of(recorded[0].path).split("/")
    ids = sorted(str(run.manifest["wandb_run_id"]) for run in runs if run.manifest.get("wandb_run_id"))
    sent = server.ask(lambda api: known_ids(api, entity, project, ids), SAVE_TIMEOUT)
    if not sent:
        raise HarnessError(f"{entity}/{project} has none of the runs in {folder} yet. {HOW_TO_SEND}")
    if missing := len(runs) - len(sent):
        say(f"{missing} of {len(runs)} runs are not in W&B yet: the report has text and tables of them. {HOW_TO_SEND}")
    return Scope(entity, project, collection.name, ids=tuple(ids))
