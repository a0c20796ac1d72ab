"""Which checkpoints of a sweep stay on disk: those of its best runs, and all that a run needs to resume."""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from pathlib import Path

from harness.errors import HarnessError
from harness.runs.folder import BEST, STATE, RunFolder
from harness.runs.rules import Goal
from reports.runs import Run, read_runs
from reports.stats.leaderboard import ranked

# Runs that ended without a result: they are not resumed.
GIVEN_UP = ("stopped", "infeasible")


def keep_best(
    sweep_folder: Path, keep: int, metric: str, goal: Goal, *, still_needed: Collection[Path] = ()
) -> list[Path]:
    """Delete checkpoints of all ended runs but the best `keep`; the folders of runs that lost theirs now.

    Only runs that are not resumed: finished, stopped and infeasible ones. One whose process has not ended yet
    is left for the next time, and so are the folders `still_needed`. Metrics, predictions and figures stay.
    """
    runs = read_runs(sweep_folder)
    worth_it = ranked(runs, metric, goal)[:keep]
    needed = {path.resolve() for path in still_needed}
    lost = []
    for run in runs:
        if not (run.finished or run.state in GIVEN_UP) or run.path.resolve() in needed:
            continue
        # A finished run that was killed in its last moment has still the state it could have gone on from.
        unneeded = [STATE] if run in worth_it else [STATE, BEST]
        files = [path for name in unneeded if (path := run.path / "checkpoints" / name).exists()]
        # Its process may be alive, telling W&B about the checkpoint; or a folder cannot be written to.
        with contextlib.suppress(HarnessError, OSError):
            if files and _delete(run, files, keep):
                lost.append(run.path)
    return lost


def _delete(run: Run, files: list[Path], keep: int) -> bool:
    """Whether the best checkpoint was among them. Noted first: a kill in between is put right the next time."""
    folder = RunFolder(run.path)
    with folder.locked():
        best_goes = any(path.name == BEST for path in files)
        if best_goes:
            why = f"not among the best {keep} of the sweep" if run.finished else f"the run was {run.state}"
            # A disk too full for the note is a reason the more to delete.
            with contextlib.suppress(HarnessError):
                folder.update("manifest.json", {"checkpoint": f"deleted: {why}"})
        for path in files:
            path.unlink(missing_ok=True)
    return best_goes
