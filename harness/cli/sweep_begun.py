"""`harness sweep ...` commands that show, stop or send a sweep that has begun: status, watch, stop, sync."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.sweep import begun_sweep, common_options, read_file
from harness.errors import ConfigError, HarnessError

if TYPE_CHECKING:
    from harness.sweep.search.trial_queue import TrialQueue

# Seconds that `stop` waits; trials have 30 of them to save their state.
STOP_TIMEOUT = 60.0


@click.command(short_help="Stop the sweep of FILE on all machines, or one trial.")
@common_options
@click.option("--trial", type=click.IntRange(0), help="Stop this trial only. [default: the sweep]")
def stop(file: Path, runs_dir: str, storage: str | None, trial: int | None) -> None:
    """Stop the sweep of FILE on all machines. Trials save their state; the next `run` resumes them.

    Jobs of the sweep on a Slurm cluster are cancelled. With --trial, the sweep continues without this trial, which ends
    as `stopped`.

    \b
    Examples:
      harness sweep stop sweeps/grid.yaml
      harness sweep stop sweeps/grid.yaml --trial 3
    """
    from harness.slurm.jobs import cancel_jobs_of
    from harness.slurm.queue import PENDING
    from harness.sweep.session import still_running

    with begun_sweep(file, runs_dir, storage) as (folder, trial_queue):
        if trial is not None:
            click.echo(f"Trial {trial} is {_stop_trial(trial_queue, trial)}.")
            return
        trial_queue.request_stop()
        cancelled = cancel_jobs_of(folder, PENDING)
        deadline = time.monotonic() + STOP_TIMEOUT
        while running := still_running(folder, trial_queue):
            if time.monotonic() > deadline:
                cancel_jobs_of(folder)
                raise HarnessError(
                    f"{STOP_TIMEOUT:.0f} s after the request to stop, this is still running: {'; '.join(running)}."
                )
            time.sleep(0.2)
    # Also jobs that have no worker yet, or that have queued themselves again just now.
    cancelled += cancel_jobs_of(folder)
    jobs = f" Cancelled jobs: {', '.join(dict.fromkeys(cancelled))}." if cancelled else ""
    click.echo(
        f"The sweep {trial_queue.sweep.name} is stopped.{jobs} To resume: harness sweep run {shlex.quote(str(file))}"
    )


def _stop_trial(trial_queue: TrialQueue, number: int) -> str:
    """Stop one trial, on whatever machine it runs; returns its state then. Raises HarnessError if it does not run."""
    from harness.sweep.search.ledger import STOP_REASON, set_attribute

    def state() -> str:
        return next((record.state for record in trial_queue.records() if record.number == number), "missing")

    if (before := state()) == "missing":
        raise ConfigError(f"The sweep has no trial {number}. `harness sweep status` lists its trials.")
    if before != "running":
        raise HarnessError(f"Trial {number} is {before}: only a running trial can be stopped.")
    set_attribute(trial_queue.study, number, STOP_REASON, "harness sweep stop --trial")
    deadline = time.monotonic() + STOP_TIMEOUT
    while (now := state()) == "running":
        if time.monotonic() > deadline:
            raise HarnessError(
                f"{STOP_TIMEOUT:.0f} s after the request to stop, trial {number} is still running. It stops at its "
                "next step, if its runner is alive."
            )
        time.sleep(0.2)
    return now


@click.command(short_help="List the trials of FILE, then the leaderboard.")
@common_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
def status(file: Path, runs_dir: str, storage: str | None, as_json: bool) -> None:
    """List every trial of FILE with its state, its jobs on a Slurm cluster, and the leaderboard of finished runs.

    \b
    Example:
      harness sweep status sweeps/grid.yaml
    """
    from harness.slurm.jobs import jobs_of, jobs_table
    from harness.sweep.results import results_of
    from harness.sweep.session import living_runs
    from harness.sweep.status import status_table
    from harness.sweep.watch import SweepWatch
    from reports.stats.leaderboard import to_json

    with begun_sweep(file, runs_dir, storage) as (folder, trial_queue):
        jobs, results = jobs_of(folder), results_of(trial_queue, folder)
        rows = SweepWatch(trial_queue).rows()
    if as_json:
        trials = [dataclasses.asdict(record) for record in results.records]
        content = {"trials": trials, "board": json.loads(to_json(results.board))}
        content |= {"jobs": [dataclasses.asdict(job) for job in jobs]} if jobs else {}
        click.echo(json.dumps(content, indent=1))
    else:
        click.echo(status_table(rows, results.runs, trial_queue.sweep, living_runs(folder)))
        if jobs:
            click.echo(jobs_table(jobs))
        click.echo(results.text(), nl=False)


@click.command(short_help="Follow the trials of FILE on all machines.")
@common_options
def watch(file: Path, runs_dir: str, storage: str | None) -> None:
    """Show the epoch, metric, time left and machine of each trial of FILE until the sweep ends.

    Then it prints the leaderboard. Ctrl-C ends the view, not the sweep. Without a terminal, each change is one line.

    \b
    Example:
      harness sweep watch sweeps/grid.yaml
    """
    from harness.sweep.results import results_of
    from harness.sweep.watch import watch as show

    try:
        _wait_for_begin(file, runs_dir, storage)
        with begun_sweep(file, runs_dir, storage) as (folder, trial_queue):
            show(trial_queue)
            click.echo(results_of(trial_queue, folder).text(), nl=False)
    except KeyboardInterrupt:
        click.echo("The view has ended; the sweep keeps running.", err=True)
        sys.exit(130)


def _wait_for_begin(file: Path, runs_dir: str, storage: str | None) -> None:
    """Wait while jobs of the sweep are in Slurm's queue and none has begun it."""
    from harness.slurm.jobs import jobs_of
    from harness.sweep.search.study import NotBegunError
    from harness.sweep.session import sweep_folder
    from harness.sweep.watch import REFRESH_SECONDS

    is_announced = False
    while jobs := jobs_of(sweep_folder(read_file(file), runs_dir)):
        with contextlib.suppress(NotBegunError), begun_sweep(file, runs_dir, storage):
            return
        if not is_announced:
            click.echo(f"The sweep has not begun. Jobs: {', '.join(f'{job.id} {job.state}' for job in jobs)}.")
            is_announced = True
        time.sleep(REFRESH_SECONDS)


@click.command(short_help="Send the offline runs of FILE to W&B.")
@common_options
def sync(file: Path, runs_dir: str, storage: str | None) -> None:
    """Send the offline runs of FILE to W&B, and mark the best model as `sweep-best`. Sends each run once.

    Runs on other machines are sent by the same command there; the best model is that of all machines.

    \b
    Example:
      harness sweep sync sweeps/grid.yaml
    """
    from harness.sweep.results import results_of
    from harness.sweep.search.ledger_errors import ledger_file
    from harness.sweep.session import sweep_folder
    from harness.sweep.wandb_sync import sync_sweep
    from reports.runs import read_runs

    spec = read_file(file)
    folder = sweep_folder(spec, runs_dir)
    database = ledger_file(folder, storage)
    if storage or (database and database.exists()):
        with begun_sweep(file, runs_dir, storage) as (_, trial_queue):
            results = results_of(trial_queue, folder)
        runs, elsewhere = results.runs, results.elsewhere
    else:  # what was trained can be sent without its trial queue
        runs, elsewhere = read_runs(folder), {}
    sys.exit(sync_sweep(folder, runs, elsewhere, metric=spec.metric.name, goal=spec.metric.goal))
