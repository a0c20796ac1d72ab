"""`harness sweep run`: check the inputs of a sweep, run its trials, print its leaderboard."""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Iterator, Sequence
from pathlib import Path

import optuna
import sqlalchemy.exc

from harness import files
from harness.data.image_folder import load_configured_folder
from harness.errors import HarnessError
from harness.run_name import naming_by
from harness.runs import figures
from harness.runs.folder import refuse_links_in
from harness.sweep.execution.progress import ENDED
from harness.sweep.execution.resources import Slot
from harness.sweep.execution.runner import Runner, RunnerOptions
from harness.sweep.repeat_best import RepeatBest, points_to_repeat
from harness.sweep.search.grid import checked_configs, probe_points
from harness.sweep.search.settings import Search
from harness.sweep.search.study import points_of
from harness.sweep.search.trial_queue import TrialQueue
from harness.sweep.spec.sweep_file import Sweep
from reports.runs import Run, read_runs
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
    repeat: RepeatBest | None = None,
) -> int:
    """Start or resume a sweep and run it until all trials have ended or it is stopped; returns the exit code.

    `repeat` runs more seeds of the best settings when all trials have ended.
    """
    check_inputs(sweep, search)
    refuse_links_in(folder, folder / "logs")
    names = [parameter.name for parameter in sweep.parameters]
    with locked(folder), storage_errors_in_words(sweep), naming_by(names):
        trial_queue = TrialQueue.open(sweep, search, folder, storage)
        files.write_atomically(folder / "sweep.yaml", sweep.text.encode())
        trial_queue.requeue_failed(options.retries)
        code = Runner(sweep, trial_queue, folder, slots, options).run()
        if repeat and code in (0, 1) and all(record.state in ENDED for record in trial_queue.records()):
            points = points_to_repeat(sweep, trial_queue.records(), read_runs(folder), repeat)
            if points:
                print(f"Repeating the best {repeat.settings} settings: {len(points)} more trials.", flush=True)
                trial_queue.add(points)
                code = Runner(sweep, trial_queue, folder, slots, options).run()
    if code in (0, 1):  # not after a signal: the user does not wait for statistics
        runs = read_runs(folder)
        board = leaderboard_of(runs, sweep)
        print(render(board))
        if path := draw_positions([row.setting.best for row in (*board.ranked, *board.unranked)], folder):
            print(f"Change of the position embeddings, by learning rate: {path}")
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


def check_inputs(sweep: Sweep, search: Search) -> None:
    """Check the settings, weights and images of all trials before the first one. Raises HarnessError."""
    configs = checked_configs(sweep, points_of(sweep, search) or probe_points(sweep))
    folders = {
        (config.data, config.split_seed, config.split_fraction, config.split_group): config for config in configs
    }
    for config in folders.values():
        load_configured_folder(config)


def leaderboard_of(runs: Sequence[Run], sweep: Sweep) -> Leaderboard:
    return leaderboard(runs, metric=sweep.metric.name, goal=sweep.metric.goal)


def draw_positions(runs: Sequence[Run], folder: Path) -> Path | None:
    """The position embeddings of these runs of a sweep in one figure, `positions.png`; None if no run has any."""
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
