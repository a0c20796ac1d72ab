"""`harness sweep watch`: parse, wait for the sweep to begin, show it."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.sweep import common_options, load_sweep, read_file
from harness.errors import HarnessError

if TYPE_CHECKING:
    from harness.sweep.search.trial_queue import TrialQueue
    from harness.sweep.spec.sweep_file import Sweep


@click.command(short_help="Follow the trials of FILE on all machines.")
@common_options
def watch(file: Path, runs_dir: str, storage: str | None) -> None:
    """Show the epoch, metric, time left and machine of each trial of FILE until the sweep ends.

    Then it prints the leaderboard. Ctrl-C ends the view, not the sweep. Without a terminal, each change is one line.

    \b
    Example:
      harness sweep watch sweeps/grid.yaml
    """
    from harness.sweep.search.ledger_errors import ledger_errors_in_words
    from harness.sweep.watch import watch as show

    try:
        with ledger_errors_in_words(file):
            sweep, trial_queue = _begun(file, runs_dir, storage)
            show(sweep, trial_queue)
            _print_leaderboard(sweep, trial_queue, runs_dir)
    except KeyboardInterrupt:
        click.echo("The view has ended; the sweep keeps running.", err=True)
        sys.exit(130)


def _print_leaderboard(sweep: Sweep, trial_queue: TrialQueue, runs_dir: str) -> None:
    from harness.sweep.session import leaderboard_of, remote_lines, sweep_folder
    from harness.sweep.whereabouts import ledger_runs
    from reports.stats.leaderboard_table import render

    runs, elsewhere = ledger_runs(trial_queue, sweep, sweep_folder(sweep, runs_dir))
    click.echo(render(leaderboard_of(runs, sweep)))
    click.echo(remote_lines(trial_queue.records(), elsewhere), nl=False)


def _begun(file: Path, runs_dir: str, storage: str | None) -> tuple[Sweep, TrialQueue]:
    """The sweep, once it has begun: the first worker of a job in Slurm's queue begins it."""
    from harness.slurm.jobs import jobs_of
    from harness.sweep.session import sweep_folder
    from harness.sweep.watch import REFRESH_SECONDS

    folder = sweep_folder(read_file(file, ()), runs_dir)
    said = False
    while True:
        try:
            spec, _, trial_queue = load_sweep(file, runs_dir, storage)
            return spec, trial_queue
        except HarnessError:
            jobs = jobs_of(folder)
            if not jobs:
                raise
        if not said:
            click.echo(f"The sweep has not begun. Jobs: {', '.join(f'{job.id} {job.state}' for job in jobs)}.")
            said = True
        time.sleep(REFRESH_SECONDS)
