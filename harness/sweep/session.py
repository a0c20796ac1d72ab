"""One sitting of a sweep on this machine, from its file to its leaderboard."""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Iterator, Sequence
from pathlib import Path

import optuna
import sqlalchemy.exc

from harness import files
from harness.data.image_folder import load_image_folder
from harness.errors import HarnessError
from harness.runs import figures
from harness.runs.folder import refuse_links_in
from harness.sweep.execution.resources import Slot
from harness.sweep.execution.runner import Runner, RunnerOptions
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
    """Where a sweep keeps its study and its runs."""
    return Path(runs_dir).expanduser().resolve() / sweep.name


def run_sweep(
    sweep: Sweep,
    search: Search,
    folder: Path,
    slots: list[Slot],
    options: RunnerOptions,
    storage: str | None = None,
) -> int:
    """Start or resume a sweep and run it until all trials are done or it is stopped; returns the exit code."""
    check_inputs(sweep, search)
    refuse_links_in(folder, folder / "logs")
    with locked(folder), ledger_errors_in_words(sweep):
        trial_queue = TrialQueue.open(sweep, search, folder, storage)
        files.write_atomically(folder / "sweep.yaml", sweep.text.encode())
        trial_queue.queue_failed_again(options.retries)
        code = Runner(sweep, trial_queue, folder, slots, options).run()
    if code in (0, 1):  # who has said stop does not wait for statistics
        runs = read_runs(folder)
        print(render(leaderboard_of(runs, sweep)))
        if path := draw_positions(runs, folder):
            print(f"What training did to the position embeddings, by learning rate: {path}")
    return code


@contextlib.contextmanager
def ledger_errors_in_words(sweep: Sweep) -> Iterator[None]:
    """A database that is full, locked or gone gives one sentence instead of a traceback."""
    try:
        yield
    except (optuna.exceptions.StorageInternalError, sqlalchemy.exc.SQLAlchemyError) as error:
        why = str(error.__cause__ or error).splitlines()[0]
        raise HarnessError(
            f"The trial queue of the sweep {sweep.name} cannot be read or written ({why}). Running trials save their "
            "state; repeat the command once it can be reached."
        ) from error


def check_inputs(sweep: Sweep, search: Search) -> None:
    """What would go wrong in every trial, or in one that is known, said before the first."""
    configs = checked_configs(sweep, points_of(sweep, search) or probe_points(sweep))
    for config in {(config.data, config.split_seed, config.split_fraction): config for config in configs}.values():
        load_image_folder(config.data, seed=config.split_seed, split_fraction=config.split_fraction)


def leaderboard_of(runs: Sequence[Run], sweep: Sweep) -> Leaderboard:
    return leaderboard(runs, metric=sweep.metric.name, goal=sweep.metric.goal)


def draw_positions(runs: Sequence[Run], folder: Path) -> Path | None:
    """The position embeddings of a sweep's runs in one figure, `positions.png`; None where no run has any."""
    drawn = positions.figure(runs)
    return figures.save(drawn, folder / "positions.png") if drawn else None


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a sweep against a second runner on this machine; other machines may work on it, too."""
    refusal = (
        "The sweep in {folder} is running here already ({holder}). To do more at a time, stop it (harness sweep stop) "
        "and run it with more --workers."
    )
    with files.locked(folder / f".lock-{platform.node()}", refusal):
        yield


def is_running_here(folder: Path) -> bool:
    """Whether a runner on this machine holds the sweep."""
    try:
        with locked(folder):
            return False
    except HarnessError:
        return True
