"""`harness sweep ...` commands that change the trial queue of a sweep: add a point, rebuild a lost queue."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click

from harness.cli.sweep import begun_sweep, common_options, read_file, search_options
from harness.errors import ConfigError


@click.command(short_help="Queue one more point of a sweep by hand.")
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
    from harness.sweep.spec.repeats import with_repeats

    with begun_sweep(file, runs_dir, storage) as (_, folder, trial_queue):
        begun_with = tuple(trial_queue.study.user_attrs["overrides"])
        spec = with_repeats(read_file(file, begun_with), trial_queue.search.repeats)
        settings = added_point(spec, words)
        contents = check_inputs(spec, trial_queue.search, [settings])
        trial_queue = TrialQueue.open(spec, trial_queue.search, folder, storage, contents)
        [added] = trial_queue.add([settings])
    if added.state:
        raise ConfigError(f"Trial {added.number} of the sweep {spec.name} has these settings. It is {added.state}.")
    click.echo(f"Trial {added.number} is queued. To run it: harness sweep run {shlex.quote(str(file))}")


@click.command(short_help="Make a lost or damaged trial queue again from the run folders.")
@common_options
@search_options
def rebuild(file: Path, runs_dir: str, storage: str | None, words: tuple[str, ...], **search: Any) -> None:
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
    from harness.sweep.search.settings import Search
    from harness.sweep.session import check_inputs, locked, sweep_folder
    from harness.sweep.spec.repeats import with_repeats

    options = Search(**search)
    spec = with_repeats(read_file(file, words), options.repeats)
    folder = sweep_folder(spec, runs_dir)
    refuse_links_in(folder, folder / "logs")
    contents = check_inputs(spec, options)
    with locked(folder), ledger_errors_in_words(file):
        rebuilt = make_again(spec, options, folder, storage, contents)
    for path in rebuilt.moved:
        click.echo(f"The damaged queue was moved to {path}.")
    for line in rebuilt.left_out:
        click.echo(f"left out: {line}")
    click.echo(rebuilt.text())
    click.echo(f"To resume: harness sweep run {shlex.quote(str(file))}")
