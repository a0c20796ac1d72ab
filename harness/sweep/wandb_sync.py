"""`harness sweep sync`: send the offline runs of a sweep to W&B, and mark the best model.

The best model is that of the best seed of the best setting, by the sweep's metric on validation.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from harness import track
from harness.errors import HarnessError
from harness.runs.folder import BEST
from harness.runs.rules import Goal, printable
from reports.runs import Run
from reports.stats.setting import ranked

SWEEP_BEST = "sweep-best"

# Runs that are sent at the same time, each by its own process.
PARALLEL_UPLOADS = 4


@dataclasses.dataclass(frozen=True)
class Upload:
    """The result of sending one run."""

    run: Run
    result: str  # sent, already sent, not sent, not recorded, on another machine
    reason: str = ""

    def line(self) -> str:
        reason = f": {printable(self.reason)}" if self.reason else ""
        return f"{printable(self.run.name)}: {self.result}{reason}"


def sync_sweep(
    sweep_folder: Path, runs: Sequence[Run], elsewhere: Mapping[str, str], *, metric: str, goal: Goal
) -> int:
    """Send the runs of a sweep that W&B does not have, and give the best model the alias `sweep-best`.

    `elsewhere` has the places of the runs that this machine cannot read, by name: another machine has to send them.
    Prints a line per run as soon as it is sent, and a summary; returns the exit code. Raises HarnessError without a
    login or an answer from the server.
    """
    if not runs:
        raise HarnessError(f"{sweep_folder} holds no runs. Start the sweep first: harness sweep run.")
    uploads = []
    with track.reach() as server:
        with ThreadPoolExecutor(PARALLEL_UPLOADS) as pool:
            for upload in pool.map(lambda run: _send(run, elsewhere.get(run.name)), runs):
                uploads.append(upload)
                print(upload.line(), flush=True)
        in_wandb = [upload.run for upload in uploads if upload.result in ("sent", "already sent")]
        best, best_is_correct = _mark_best(server, ranked(runs, metric, goal), in_wandb, elsewhere)
    counts = Counter(upload.result for upload in uploads)
    parts = ", ".join(f"{count} {result}" for result, count in counts.items())
    print(f"{len(uploads)} run{'s' * (len(uploads) != 1)}: {parts}.\n{best}")
    return int("not sent" in counts or not best_is_correct)


def _send(run: Run, place: str | None) -> Upload:
    if place:
        return Upload(run, "on another machine", place)
    if not any((run.path / "wandb").glob("*run-*/*.wandb")):
        return Upload(run, "not recorded", "W&B was disabled")
    try:
        is_unsent = bool(track.waiting(run.path))
        track.send(run.path)
    except HarnessError as error:
        return Upload(run, "not sent", str(error))
    except OSError as error:
        return Upload(run, "not sent", f"{error.filename or run.path}: {error.strerror}")
    return Upload(run, "sent" if is_unsent else "already sent")


def _mark_best(
    server: track.Server, finished: list[Run], in_wandb: list[Run], elsewhere: Mapping[str, str]
) -> tuple[str, bool]:
    """Move the alias to the best of the finished runs; returns a sentence, and whether the alias is correct."""
    if not finished:
        return f"No run has finished yet, so no model is marked {SWEEP_BEST}.", True
    best, *others = finished
    name = track.model_name(best.path)
    place = elsewhere.get(best.name)
    if not in_wandb or not (place or best in in_wandb):
        return f"{name} is not marked {SWEEP_BEST}: its run is not in W&B.", False
    try:
        project = server.project_of(in_wandb[0].path if place else best.path)
        if not server.has_model(project, best.path):
            lost = "" if (best.path / "checkpoints" / BEST).exists() else f" Its folder has no {BEST} either."
            lost = f" Its run lies at {place}: repeat the command there." if place else lost
            return f"{name} is not marked {SWEEP_BEST}: W&B does not have this model.{lost}", False
        known = [run.path for run in others if run in in_wandb or run.name in elsewhere]
        server.move_alias(SWEEP_BEST, project, best.path, known)
    except HarnessError as error:
        return f"{name} is not marked {SWEEP_BEST}: {error}", False
    return f"{project}/{name} is marked {SWEEP_BEST}.", True
