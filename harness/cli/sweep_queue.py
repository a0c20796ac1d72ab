"""`harness sweep ...` commands that change the trial queue of a sweep: add, retry, skip, rebuild."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click

from harness.cli.sweep import SweepCommand, begun_sweep, common_options, from_options, read_file, search_options
from harness.errors import ConfigError
from harness.sweep.search.settings import Search


@click.command(cls=SweepCommand, short_help="Queue one more point of a sweep by hand.")
@common_options
@click.argument("words", metavar="-- SETTINGS", nargs=-1, type=click.UNPROCESSED)
def add(file: Path, runs_dir: str, storage: str | None, words: tuple[str, ...]) -> None:
    """Queue one more point of the sweep of FILE, also with values that the file does not list.

    The next `harness sweep run` runs it; so does one that is running. A point that has a trial is not queued again.

    \b
    Example:
      harness sweep add sweeps/grid.yaml -- --lr 3e-4 --batch-size 32 --augment none
    """
    from harness.sweep.search.added import added_point
    from harness.sweep.search.trial_queue import TrialQueue
    from harness.sweep.session import check_inputs

    with begun_sweep(file, runs_dir, storage) as (folder, trial_queue):
        begun_with = tuple(trial_queue.study.user_attrs["overrides"])
        spec = read_file(file, begun_with, trial_queue.search.repeats)
        settings = added_point(spec, words)
        contents = check_inputs(spec, trial_queue.search, [settings])
        trial_queue = TrialQueue.open(spec, trial_queue.search, folder, storage, contents)
        [added] = trial_queue.add([settings])
    if added.state:
        raise ConfigError(f"Trial {added.number} of the sweep {spec.name} has these settings. It is {added.state}.")
    click.echo(f"Trial {added.number} is queued. To run it: harness sweep run {shlex.quote(str(file))}")


@click.command(short_help="Queue trials of FILE again.")
@common_options
@click.argument("trials", metavar="[TRIAL...]", nargs=-1, type=click.IntRange(0))
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
    with begun_sweep(file, runs_dir, storage) as (folder, trial_queue):
        chosen = redo.retry(trial_queue, folder, trials, failed=failed)
    numbers = ", ".join(str(record.number) for record in chosen)
    click.echo(f"Queued again: {numbers}." if chosen else "No trial of this sweep has failed.")
    if chosen:
        click.echo(f"To run them: harness sweep run {shlex.quote(str(file))}")


@click.command(short_help="Leave trials of FILE out.")
@common_options
@click.argument("trials", metavar="TRIAL...", nargs=-1, type=click.IntRange(0))
def skip(file: Path, runs_dir: str, storage: str | None, trials: tuple[int, ...]) -> None:
    """Leave trials of FILE out, so that `harness sweep run` does not start them. `harness sweep retry` undoes it.

    \b
    Example:
      harness sweep skip sweeps/grid.yaml 3 7
    """
    from harness.sweep import redo

    if not trials:
        raise ConfigError("Name the trials to leave out by their numbers; `harness sweep status` lists them.")
    with begun_sweep(file, runs_dir, storage) as (_, trial_queue):
        chosen = redo.skip(trial_queue, trials)
    click.echo(f"Skipped: {', '.join(str(record.number) for record in chosen)}.")


@click.command(cls=SweepCommand, short_help="Make a lost or damaged trial queue again from the run folders.")
@common_options
@search_options
def rebuild(file: Path, runs_dir: str, storage: str | None, words: tuple[str, ...], **values: Any) -> None:
    """Make the trial queue of FILE again from its run folders, after it was deleted or damaged.

    Runs become trials with their earlier numbers, states and values; interrupted ones resume. A damaged queue is moved
    aside, not deleted. Give the options that the sweep was run with.

    \b
    Example:
      harness sweep rebuild sweeps/grid.yaml
    """
    from harness.runs.folder import refuse_links_in
    from harness.sweep.search.ledger_errors import ledger_errors_in_words
    from harness.sweep.search.rebuild import rebuild as make_again
    from harness.sweep.session import check_inputs, locked, sweep_folder

    search = from_options(Search, values)
    spec = read_file(file, words, search.repeats)
    folder = sweep_folder(spec, runs_dir)
    refuse_links_in(folder, folder / "logs")
    contents = check_inputs(spec, search)
    with locked(folder), ledger_errors_in_words(file):
        rebuilt = make_again(spec, search, folder, storage, contents)
    for path in rebuilt.moved:
        click.echo(f"The damaged queue was moved to {path}.")
    for line in rebuilt.left_out:
        click.echo(f"left out: {line}")
    click.echo(rebuilt.text())
    click.echo(f"To resume: harness sweep run {shlex.quote(str(file))}")
