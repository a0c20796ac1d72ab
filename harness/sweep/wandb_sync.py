"""Sending a sweep that was kept offline to W&B: every run once, and the alias for the best model."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from harness import track
from harness.errors import HarnessError
from harness.runs.folder import BEST
from harness.runs.rules import Goal, printable
from reports.runs import Run, read_runs
from reports.stats.leaderboard import ranked

SWEEP_BEST = "sweep-best"

# Runs sent at a time, each by a separate process.
AT_A_TIME = 4


@dataclasses.dataclass(frozen=True)
class Sent:
    """What became of one run."""

    run: Run
    outcome: str  # sent; there already; not sent; not kept: it was not recorded for W&B
    reason: str = ""

    def line(self) -> str:
        return f"{printable(self.run.name)}: {self.outcome}" + (f": {printable(self.reason)}" if self.reason else "")


@dataclasses.dataclass(frozen=True)
class Report:
    """What became of a sweep."""

    runs: tuple[Sent, ...]
    best: str  # a sentence on the alias
    best_is_marked: bool

    @property
    def exit_code(self) -> int:
        return int(any(one.outcome == "not sent" for one in self.runs) or not self.best_is_marked)

    def text(self) -> str:
        """The summary; the runs were said one by one."""
        counts = Counter(one.outcome for one in self.runs)
        parts = ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
        return f"{len(self.runs)} run{'s' * (len(self.runs) != 1)}: {parts}.\n{self.best}"


def upload(
    sweep_folder: Path,
    *,
    metric: str = "best/val_f1",
    goal: Goal = "maximize",
    say: Callable[[str], None] = print,
) -> Report:
    """Send the runs of a sweep that W&B lacks, and give the model of the best one the alias `sweep-best`.

    Each run is said as it is done. Raises HarnessError when nobody is logged in or the server does not answer.
    """
    runs = read_runs(sweep_folder)
    if not runs:
        raise HarnessError(f"{sweep_folder} holds no runs. Start the sweep first: harness sweep run.")
    with track.reach() as server:
        with ThreadPoolExecutor(AT_A_TIME) as pool:
            sent = []
            for one in pool.map(_send, runs):
                sent.append(one)
                say(one.line())
        best, is_marked = _mark_best(server, ranked(runs, metric, goal), sent)
    return Report(tuple(sent), best, is_marked)


def _send(run: Run) -> Sent:
    if not any((run.path / "wandb").glob("*run-*/*.wandb")):
        return Sent(run, "not kept", "it was made with W&B disabled")
    try:
        left = track.waiting(run.path)
        track.send(run.path)
    except HarnessError as error:
        return Sent(run, "not sent", str(error))
    except OSError as error:
        return Sent(run, "not sent", f"{error.filename or run.path}: {error.strerror}")
    return Sent(run, "sent" if left else "there already")


def _mark_best(server: track.Server, finished: list[Run], sent: list[Sent]) -> tuple[str, bool]:
    """A sentence about the alias, and whether it is where it belongs."""
    there = [one.run for one in sent if one.outcome in ("sent", "there already")]
    if not finished:
        return f"No run has finished yet: nothing is {SWEEP_BEST}.", True
    best, *others = finished
    name = track.model_name(best.path)
    if best not in there:
        return f"{name} is not marked {SWEEP_BEST}: its run is not in W&B.", False
    try:
        project = server.project_of(best.path)
        if not server.has_model(project, best.path):
            lost = "" if (best.path / "checkpoints" / BEST).exists() else f" Its {BEST} is not in its folder, either."
            return f"{name} is not marked {SWEEP_BEST}: W&B has no such model.{lost}", False
        server.move_alias(SWEEP_BEST, project, best.path, [run.path for run in others if run in there])
    except HarnessError as error:
        return f"{name} is not marked {SWEEP_BEST}: {error}", False
    return f"{project}/{name} is marked {SWEEP_BEST}.", True
