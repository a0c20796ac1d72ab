"""`harness sweep ...` commands that act on a sweep that has begun: stop, sync."""

from __future__ import annotations

import shlex
import sys
import time
from pathlib import Path

import click

from harness.cli.sweep import common_options, load_sweep, read_file
from harness.errors import HarnessError, errors_in_words

# Seconds that `stop` waits; trials have 30 of them to save their state.
STOP_TIMEOUT = 60.0


@click.command()
@common_options
def stop(file: Path, runs_dir: str, storage: str | None) -> None:
    """Stop the sweep of FILE on all machines. Trials save their state; the next `run` resumes them.

    \b
    Example:
      harness sweep stop sweeps/grid.yaml
    """
    with errors_in_words():
        from harness.sweep.session import is_running_here

        spec, folder, trial_queue = load_sweep(file, runs_dir, storage)
        trial_queue.request_stop()
        deadline = time.monotonic() + STOP_TIMEOUT
        while is_running_here(folder) or any(record.state == "running" for record in trial_queue.records()):
            if time.monotonic() > deadline:
                raise HarnessError(
                    f"The sweep is still running {STOP_TIMEOUT:.0f} s after the request to stop. "
                    "`harness sweep status` shows which trials run."
                )
            time.sleep(0.2)
        click.echo(f"The sweep {spec.name} is stopped. To resume: harness sweep run {shlex.quote(str(file))}")


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
