"""`harness sweep run`: check the inputs of a sweep, run its trials, print its leaderboard."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness import files
from harness.errors import HarnessError, printable
from harness.launch.temporary import make_socket_folder, temporary_folder
from harness.run_name import naming_by
from harness.runs import figures
from harness.sweep.execution.resources import Slot, smallest_memory
from harness.sweep.execution.runner import Runner
from harness.sweep.execution.runner_options import RunnerOptions
from harness.sweep.redo import failed_lines, requeue_at_start
from harness.sweep.repeat_best import RepeatBest, points_to_repeat
from harness.sweep.results import Results, results_of
from harness.sweep.search.grid import points_of, probe_points, valid_points
from harness.sweep.search.identity import Contents, read_contents
from harness.sweep.search.lease import machine
from harness.sweep.search.ledger_errors import check_sweep_folder, ledger_errors_in_words
from harness.sweep.search.pruners import make_pruner
from harness.sweep.search.reuse import reuse as take_over
from harness.sweep.search.samplers import make_sampler
from harness.sweep.search.settings import Search
from harness.sweep.search.trial_queue import TrialQueue
from harness.sweep.search.trial_record import ENDED, STARTABLE
from harness.sweep.spec.sweep_file import Sweep
from harness.sweep.trial_table import last_heartbeat
from reports.runs import Run
from reports.stats import positions

# Variables of Slurm that together name one task on one node (slurm.schedmd.com/sbatch.html).
SLURM_TASK = ("SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_PROCID")


def sweep_folder(sweep: Sweep, runs_dir: str | Path) -> Path:
    """The folder of a sweep's study and runs."""
    return files.expanded(runs_dir).resolve() / sweep.name


def run_sweep(
    sweep: Sweep,
    search: Search,
    folder: Path,
    slots: list[Slot],
    options: RunnerOptions,
    storage: str | None = None,
    repeat: RepeatBest | None = None,
    *,
    accept: bool = False,
    reuse: Sequence[Path] = (),
) -> int:
    """Start or resume a sweep and run it until all trials have ended or it is stopped; returns the exit code.

    `repeat` runs more seeds of the best settings when all trials have ended. `accept` runs the trials of a file in
    which all trials compute something else than before. `reuse` names folders whose results are taken over.
    """
    make_pruner(sweep, search)  # raises ConfigError
    make_sampler(search, 0)  # raises ConfigError
    contents = check_inputs(sweep, search)
    check_sweep_folder(sweep, folder, storage)
    names = [parameter.name for parameter in sweep.parameters]
    if options.start_method == "forkserver":
        make_socket_folder()
    with locked(folder), ledger_errors_in_words(sweep.path), naming_by(names), temporary_folder():
        trial_queue = TrialQueue.open(sweep, search, folder, storage, contents, accept=accept)
        if trial_queue.growth:
            print(trial_queue.growth.text(), end="")
        with trial_queue.lock():
            if reuse:
                print(take_over(trial_queue.study, sweep, folder, contents, reuse).text())
            files.write_atomically(folder / "sweep.yaml", sweep.text.encode())
            requeue_at_start(trial_queue, folder, options.retries, smallest_memory(slots))
        runner = Runner(trial_queue, folder, slots, options)
        code = runner.run()
        if repeat and code in (0, 1) and all(record.state in ENDED for record in trial_queue.records()):
            results = results_of(trial_queue, folder)
            if points := points_to_repeat(sweep, results.records, results.runs, repeat):
                print(f"Repeating the best {repeat.settings} settings: {len(points)} more trials.", flush=True)
                trial_queue.add(points)
                budget = runner.budget  # --max-hours counts from the start of the command
                runner = Runner(trial_queue, folder, slots, options)
                runner.budget = budget
                code = max(code, runner.run())  # 1 also if only the first one had a failed trial
        left = bool(runner.budget.reason) and any(record.state in STARTABLE for record in trial_queue.records())
    cause = runner.endings.pause_cause if code == 1 else None
    if code in (0, 1):  # not after a signal: the user does not wait for statistics
        # Without the figure if the sweep is paused: the cause may be a full disk.
        _print_results(results_of(trial_queue, folder), sweep, None if cause else folder)
    if left:
        print(runner.budget.reason)
    if cause:
        raise HarnessError(
            f"The sweep {sweep.name} is paused: {cause.rstrip('.')}. The cause is not in its trials, so none was "
            "charged. Remove the cause and repeat the command."
        )
    return code


def _print_results(results: Results, sweep: Sweep, folder: Path | None) -> None:
    """The leaderboard and the failed trials; in `folder`, if given, the figure of the position embeddings is drawn."""
    print(results.text(), end="")
    best = [row.setting.best for row in (*results.board.ranked, *results.board.unranked)]
    if folder and (path := draw_positions(best, folder)):
        print(f"Change of the position embeddings, by learning rate: {path}")
    for line in failed_lines(results.records, sweep):
        print(printable(line))


def check_inputs(sweep: Sweep, search: Search, added: Sequence[Mapping[str, Any]] = ()) -> Contents:
    """Check the settings, weights and images of all trials before the first one; returns the files' fingerprints.

    `added` are points that are added by hand. Raises HarnessError. Trials whose settings are invalid are named; they do
    not run.
    """
    points = points_of(sweep, search)
    checked = valid_points(sweep, points or probe_points(sweep))
    contents = read_contents([*checked.configs.values(), *(sweep.config(point).resolved() for point in added)])
    for problem in checked.infeasible if points else []:
        print(f"Infeasible: {problem}")
    return contents


def draw_positions(runs: Sequence[Run], folder: Path) -> Path | None:
    """The position embeddings of these runs of a sweep in one figure, `positions.png`; None if no run has any."""
    figure = positions.figure(runs)
    return figures.save(figure, folder / "positions.png") if figure else None


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock a sweep against a second runner of the same machine, or of the same task of a Slurm job.

    Other machines, containers and tasks may run it at the same time: each trial is claimed by one runner.
    """
    refusal = (
        "The sweep in {folder} is already running on this machine ({holder}). To run more trials at a time, stop it "
        "(harness sweep stop) and start it with more --workers."
    )
    task = [os.environ.get(name, "") for name in SLURM_TASK]
    place = "/".join([machine() or platform.node(), *task])
    with files.locked(folder / f".lock-{hashlib.sha256(place.encode()).hexdigest()[:12]}", refusal):
        yield


def living_runs(folder: Path) -> list[str]:
    """Names of the run folders that a process is working on, as far as locks can be seen from this machine."""
    return sorted(path.parent.name for path in folder.glob("*/.lock") if files.is_locked(path))


def still_running(folder: Path, trial_queue: TrialQueue) -> list[str]:
    """What is running of a sweep, in words: runners by their locks, trials by their leases, runs by their locks."""
    runners = [path for path in folder.glob(".lock-*") if files.is_locked(path)]
    trials = [record for record in trial_queue.records() if record.state == "running"]
    words = [f"{len(runners)} runner{'s' * (len(runners) > 1)}"] if runners else []
    words += [f"trial {record.number} on {record.owner} ({last_heartbeat(record)})" for record in trials]
    return words + [f"a process of the run {name}" for name in living_runs(folder)]
