"""`harness sweep run`: check the inputs of a sweep, run its trials, print its leaderboard."""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy.exc

from harness import files
from harness.errors import HarnessError
from harness.runs import figures
from harness.runs.folder import refuse_links_in
from harness.sweep.execution.resources import Slot
from harness.sweep.execution.runner import Runner, RunnerOptions
from harness.sweep.search.grid import checked_configs, infeasible_points, points_of, probe_points
from harness.sweep.search.growth import Growth
from harness.sweep.search.identity import Contents, read_contents
from harness.sweep.search.reuse import reuse as take_over
from harness.sweep.search.settings import Search
from harness.sweep.search.trial_queue import TrialQueue, TrialRecord
from harness.sweep.spec.sweep_file import Sweep
from reports.runs import Run, read_run, read_runs
from reports.stats import positions
from reports.stats.leaderboard import Leaderboard, leaderboard
from reports.stats.leaderboard_table import render


def sweep_folder(sweep: Sweep, runs_dir: str | Path) -> Path:
    """The folder of a sweep's study and runs."""
    return Path(runs_dir).expanduser().resolve() / sweep.name


def run_sweep(
    sweep: Sweep,
    search: Search,
    folder: Path,
    slots: list[Slot],
    options: RunnerOptions,
    storage: str | None = None,
    *,
    accept: bool = False,
    reuse: Sequence[Path] = (),
) -> int:
    """Start or resume a sweep and run it until all trials have ended or it is stopped; returns the exit code.

    `accept` runs the trials of a file in which all trials compute something else than before; `reuse` names folders
    whose results are taken over.
    """
    contents = check_inputs(sweep, search)
    refuse_links_in(folder, folder / "logs")
    with locked(folder), storage_errors_in_words(sweep):
        trial_queue = TrialQueue.open(sweep, search, folder, storage, contents, accept=accept)
        print(growth_text(trial_queue.growth), end="")
        if reuse:
            print(take_over(trial_queue.study, sweep, folder, contents, reuse).text())
        files.write_atomically(folder / "sweep.yaml", sweep.text.encode())
        trial_queue.requeue_failed(options.retries)
        runner = Runner(sweep, trial_queue, folder, slots, options)
        code = runner.run()
        records = trial_queue.records()
    if code in (0, 1):  # not after a signal: the user does not wait for statistics
        runs = runs_of(folder, records)
        print(render(leaderboard_of(runs, sweep)))
        if path := draw_positions(runs, folder):
            print(f"Change of the position embeddings, by learning rate: {path}")
    if runner.budget.reason:
        print(runner.budget.reason)
    return code


@contextlib.contextmanager
def storage_errors_in_words(sweep: Sweep) -> Iterator[None]:
    """Raise HarnessError if the database of the trial queue is full, locked or gone."""
    try:
        yield
    except (optuna.exceptions.StorageInternalError, sqlalchemy.exc.SQLAlchemyError) as error:
        cause = str(error.__cause__ or error).splitlines()[0]
        raise HarnessError(
            f"The trial queue of the sweep {sweep.name} cannot be read or written ({cause}). Running trials have saved "
            "their state. Repeat the command when the storage is available again."
        ) from error


def check_inputs(sweep: Sweep, search: Search, added: Sequence[Mapping[str, Any]] = ()) -> Contents:
    """Check the settings, weights and images of all trials before the first one; returns the files' fingerprints.

    `added` are points that are added by hand. Raises HarnessError. Trials whose settings are invalid are named; they do
    not run.
    """
    points = points_of(sweep, search)
    configs = checked_configs(sweep, points or probe_points(sweep))
    contents = read_contents([*configs.values(), *(sweep.config(point).resolved() for point in added)])
    for problem in infeasible_points(sweep, points):
        print(f"Infeasible: {problem}")
    return contents


def growth_text(growth: Growth | None) -> str:
    """What the sweep file has changed in a ledger that had trials before; empty if it changed nothing."""
    if growth is None or growth.is_first or not (growth.queued or growth.removed):
        return ""
    text = f"The sweep file has changed: {growth.queued} new trial{'s' * (growth.queued != 1)}"
    if growth.removed:
        text += f", {growth.removed} waiting trial{'s' * (growth.removed != 1)} removed"
    if growth.outside:
        text += f". {growth.outside} of the earlier trials are not in the file any more; their results stay"
    return text + ".\n"


def runs_of(folder: Path, records: Sequence[TrialRecord]) -> list[Run]:
    """The runs of a sweep: those in its folder, and those whose results it has taken over."""
    return [*read_runs(folder), *(read_run(record.run_folder) for record in records if record.run_folder)]


def leaderboard_of(runs: Sequence[Run], sweep: Sweep) -> Leaderboard:
    return leaderboard(runs, metric=sweep.metric.name, goal=sweep.metric.goal)


def draw_positions(runs: Sequence[Run], folder: Path) -> Path | None:
    """The position embeddings of a sweep's runs in one figure, `positions.png`; None if no run has any."""
    figure = positions.figure(runs)
    return figures.save(figure, folder / "positions.png") if figure else None


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock a sweep against a second runner on this machine. Other machines may run it at the same time."""
    refusal = (
        "The sweep in {folder} is already running on this machine ({holder}). To run more trials at a time, stop it "
        "(harness sweep stop) and start it with more --workers."
    )
    with files.locked(folder / f".lock-{platform.node()}", refusal):
        yield


def is_running_here(folder: Path) -> bool:
    """Whether a runner on this machine has locked the sweep."""
    try:
        with locked(folder):
            return False
    except HarnessError:
        return True
