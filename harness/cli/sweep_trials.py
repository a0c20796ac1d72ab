"""`harness sweep ...` commands that act on single trials of a begun sweep: retry, skip."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from harness.cli.sweep import begun_sweep, common_options
from harness.errors import ConfigError
from harness.options import SETTINGS

trial_numbers = click.argument("trials", metavar="TRIAL...", nargs=-1, type=click.IntRange(0))


@click.command(context_settings=SETTINGS, short_help="Queue trials of FILE again.")
@common_options
@trial_numbers
@click.option("--failed", is_flag=True, help="All failed trials.")
def retry(file: Path, runs_dir: str, storage: str | None, trials: tuple[int, ...], failed: bool) -> None:
    """Queue trials of FILE again that failed, are infeasible, or were stopped or skipped.

    The next `harness sweep run` runs them, from their checkpoints if they have any. `harness sweep status` lists the
    numbers of the trials.

    \b
    Examples:
      harness sweep retry sweeps/grid.yaml --failed
      harness sweep retry sweeps/grid.yaml 3 7
    """
    from harness.sweep import redo

    if not trials and not failed:
        raise ConfigError("Name the trials to queue again by their numbers, or give --failed.")
    with begun_sweep(file, runs_dir, storage) as (_, folder, trial_queue):
        chosen = redo.retry(trial_queue, folder, trials, failed=failed)
    numbers = ", ".join(str(record.number) for record in chosen)
    click.echo(f"Queued again: {numbers}." if chosen else "No trial of this sweep has failed.")
    if chosen:
        click.echo(f"To run them: harness sweep run {shlex.quote(str(file))}")


@click.command(context_settings=SETTINGS, short_help="Leave trials of FILE out.")
@common_options
@trial_numbers
def skip(file: Path, runs_dir: str, storage: str | None, trials: tuple[int, ...]) -> None:
    """Leave trials of FILE out, so that `harness sweep run` does not start them. `harness sweep retry` undoes it.

    \b
    Example:
      harness sweep skip sweeps/grid.yaml 3 7
    """
    from harness.sweep import redo

    if not trials:
        raise ConfigError("Name the trials to leave out by their numbers; `harness sweep status` lists them.")
    with begun_sweep(file, runs_dir, storage) as (_, _, trial_queue):
        chosen = redo.skip(trial_queue, trials)
    click.echo(f"Skipped: {', '.join(str(record.number) for record in chosen)}.")
