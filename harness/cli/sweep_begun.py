"""`harness sweep ...` commands that act on a sweep that has begun: stop, sync."""

from __future__ import annotations

import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.sweep import common_options, load_sweep, read_file
from harness.errors import ConfigError, HarnessError, errors_in_words

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
    with errors_in_words():
        from harness.slurm.jobs import cancel_jobs_of
        from harness.slurm.queue import PENDING
        from harness.sweep.session import is_running_here

        spec, folder, trial_queue = load_sweep(file, runs_dir, storage)
        if trial is not None:
            _stop_trial(trial_queue, trial)
            return
        trial_queue.request_stop()
        cancelled = cancel_jobs_of(folder, PENDING)
        deadline = time.monotonic() + STOP_TIMEOUT
        while is_running_here(folder) or any(record.state == "running" for record in trial_queue.records()):
            if time.monotonic() > deadline:
                raise HarnessError(
                    f"The sweep is still running {STOP_TIMEOUT:.0f} s after the request to stop. "
                    "`harness sweep status` shows which trials run."
                )
            time.sleep(0.2)
        # Also jobs that have no worker yet, or that have queued themselves again just now.
        cancelled += cancel_jobs_of(folder)
        jobs = f" Cancelled jobs: {', '.join(dict.fromkeys(cancelled))}." if cancelled else ""
        click.echo(f"The sweep {spec.name} is stopped.{jobs} To resume: harness sweep run {shlex.quote(str(file))}")


def _stop_trial(trial_queue: TrialQueue, number: int) -> None:
    """Stop one trial, on whatever machine it runs. Raises HarnessError if it does not run."""

    def state() -> str:
        return next((record.state for record in trial_queue.records() if record.number == number), "missing")

    before = state()
    if before == "missing":
        raise ConfigError(f"The sweep has no trial {number}. `harness sweep status` lists its trials.")
    if before != "running":
        raise HarnessError(f"Trial {number} is {before}: only a running trial can be stopped.")
    trial_queue.request_stop_of(number, "harness sweep stop --trial")
    deadline = time.monotonic() + STOP_TIMEOUT
    while (now := state()) == "running":
        if time.monotonic() > deadline:
            raise HarnessError(
                f"Trial {number} is still running {STOP_TIMEOUT:.0f} s after the request. A run stops at its next step, if "
                "its worker is alive."
            )
        time.sleep(0.2)
    click.echo(f"Trial {number} is {now}.")


@click.command(short_help="Send the offline runs of FILE to W&B.")
@common_options
def sync(file: Path, runs_dir: str, storage: str | None) -> None:
    """Send the offline runs of FILE to W&B, and mark the best model as `sweep-best`. Sends each run once.

    \b
    Example:
      harness sweep sync sweeps/grid.yaml
    """
    with errors_in_words():
        from harness.sweep.session import sweep_folder
        from harness.sweep.wandb_sync import sync_sweep

        spec = read_file(file, ())
        report = sync_sweep(sweep_folder(spec, runs_dir), metric=spec.metric.name, goal=spec.metric.goal)
        click.echo(report.text())
        sys.exit(report.exit_code)
