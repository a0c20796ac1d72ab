"""`harness sweep ...` commands that act on a sweep that has begun: stop, status, sync."""

from __future__ import annotations

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
    from harness.sweep.spec.sweep_file import Sweep
    from reports.runs import Run

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

    with begun_sweep(file, runs_dir, storage) as (spec, folder, trial_queue):
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
    click.echo(f"The sweep {spec.name} is stopped.{jobs} To resume: harness sweep run {shlex.quote(str(file))}")


def _stop_trial(trial_queue: TrialQueue, number: int) -> str:
    """Stop one trial, on whatever machine it runs; returns its state then. Raises HarnessError if it does not run."""
    from harness.sweep.search.trial_notes import request_stop_of

    def state() -> str:
        return next((record.state for record in trial_queue.records() if record.number == number), "missing")

    if (before := state()) == "missing":
        raise ConfigError(f"The sweep has no trial {number}. `harness sweep status` lists its trials.")
    if before != "running":
        raise HarnessError(f"Trial {number} is {before}: only a running trial can be stopped.")
    request_stop_of(trial_queue.study, number, "harness sweep stop --trial")
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
    import dataclasses

    from harness.slurm.jobs import jobs_of, jobs_table
    from harness.sweep.session import leaderboard_of, living_runs, remote_lines
    from harness.sweep.status import status_table
    from harness.sweep.watch import SweepWatch
    from harness.sweep.whereabouts import ledger_runs
    from reports.stats.leaderboard import to_json
    from reports.stats.leaderboard_table import render

    with begun_sweep(file, runs_dir, storage) as (spec, folder, trial_queue):
        records, jobs = trial_queue.records(), jobs_of(folder)
        runs, elsewhere = ledger_runs(trial_queue, spec, folder)
        rows = SweepWatch(spec, trial_queue).rows()
    board = leaderboard_of(runs, spec)
    if as_json:
        trials = [dataclasses.asdict(record) for record in records]
        content = {"trials": trials, "board": json.loads(to_json(board))}
        content |= {"jobs": [dataclasses.asdict(job) for job in jobs]} if jobs else {}
        click.echo(json.dumps(content, indent=1))
    else:
        click.echo(status_table(rows, runs, spec, living_runs(folder)))
        if jobs:
            click.echo(jobs_table(jobs))
        click.echo(render(board))
        click.echo(remote_lines([], elsewhere), nl=False)


@click.command(short_help="Send the offline runs of FILE to W&B.")
@common_options
def sync(file: Path, runs_dir: str, storage: str | None) -> None:
    """Send the offline runs of FILE to W&B, and mark the best model as `sweep-best`. Sends each run once.

    Runs on other machines are sent by the same command there; the best model is that of all machines.

    \b
    Example:
      harness sweep sync sweeps/grid.yaml
    """
    from harness.sweep.wandb_sync import sync_sweep

    spec, folder, runs, elsewhere = _runs_of_sweep(file, runs_dir, storage)
    report = sync_sweep(folder, runs, elsewhere, metric=spec.metric.name, goal=spec.metric.goal)
    click.echo(report.text())
    sys.exit(report.exit_code)


def _runs_of_sweep(file: Path, runs_dir: str, storage: str | None) -> tuple[Sweep, Path, list[Run], dict[str, str]]:
    """The sweep, its folder, its runs, and the places of those on other machines, by name."""
    from harness.sweep.search.ledger_errors import ledger_file
    from harness.sweep.session import sweep_folder
    from harness.sweep.whereabouts import ledger_runs
    from reports.runs import read_runs

    spec = read_file(file, ())
    folder = sweep_folder(spec, runs_dir)
    database = ledger_file(folder, storage)
    if not storage and not (database and database.exists()):  # what was trained can be sent without its trial queue
        return spec, folder, read_runs(folder), {}
    with begun_sweep(file, runs_dir, storage) as (spec, folder, trial_queue):
        return spec, folder, *ledger_runs(trial_queue, spec, folder)
