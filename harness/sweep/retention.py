"""Which checkpoints of a sweep stay on disk: those of its best runs, and of runs that can be resumed."""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from pathlib import Path

from harness.errors import HarnessError
from harness.runs.folder import BEST, STATE, RunFolder
from harness.runs.rules import ADAPTER
from harness.sweep.spec.metric import Metric
from reports.runs import Run, read_runs
from reports.stats.setting import Setting, settings_of

# Besides `finished`: states of runs that are not resumed.
NOT_RESUMED = ("stopped", "infeasible")


def keep_best(
    sweep_folder: Path, keep: int, metric: Metric, seeds: int = 1, *, in_use: Collection[Path] = ()
) -> list[Path]:
    """Delete the checkpoints of ended runs, except the best seed of each of the best `keep` settings.

    Returns the folders that lost their best one. Runs that can be resumed keep their checkpoints; so do the folders
    `in_use`, and runs whose process has not ended yet, until the next call. Metrics, predictions and figures stay.
    Settings are repeated with so many `seeds`: until all of them have ended, the best seed so far stays.
    """
    runs = read_runs(sweep_folder)
    settings = [setting for setting in settings_of(runs, metric.name, metric.goal) if setting.runs]
    # A mean is final when its seeds have ended: only then can a setting not come back among the best.
    final = [setting for setting in settings if _ended(setting) >= seeds]
    best_runs = {setting.best for setting in settings if setting not in final or setting in final[:keep]}
    skipped = {path.resolve() for path in in_use}
    changed = []
    for run in runs:
        if not (run.finished or run.state in NOT_RESUMED) or run.path.resolve() in skipped:
            continue
        # A finished run that was killed before its end still has the state to resume from.
        names = [STATE] if run in best_runs else [STATE, BEST, ADAPTER]
        files = [path for name in names if (path := run.path / "checkpoints" / name).exists()]
        # A run whose process is still sending its checkpoint to W&B, or a folder that is not writable, is skipped.
        with contextlib.suppress(HarnessError, OSError):
            if files and _delete(run, files, keep):
                changed.append(run.path)
    return changed


def drop_state(folder: RunFolder) -> None:
    """Delete the state of a pruned run, which holds its optimiser's moments. Its best checkpoint stays."""
    # A run in use, or a folder that is not writable, keeps it.
    with contextlib.suppress(HarnessError, OSError), folder.locked():
        (folder.checkpoints / STATE).unlink(missing_ok=True)


def _ended(setting: Setting) -> int:
    return sum(run.finished or run.state in (*NOT_RESUMED, "failed") for run in setting.all_runs)


def _delete(run: Run, files: list[Path], keep: int) -> bool:
    """Delete checkpoints; returns whether the best one was among them. Raises HarnessError while the run is running."""
    folder = RunFolder(run.path)
    with folder.locked():
        has_best = any(path.name == BEST for path in files)
        if has_best:
            reason = f"not among the best {keep} of the sweep" if run.finished else f"the run was {run.state}"
            # Written before the deletion: if this process is killed in between, the next call deletes the files. A disk
            # that is too full for the note needs the deletion even more.
            with contextlib.suppress(HarnessError):
                folder.update("manifest.json", {"checkpoint": f"deleted: {reason}"})
        for path in files:
            path.unlink(missing_ok=True)
    return has_best
