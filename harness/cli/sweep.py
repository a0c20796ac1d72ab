"""`harness sweep ...`: parse, call, print. Heavy imports stay inside the commands that need them."""

from __future__ import annotations

import json
import os
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.errors import HarnessError, errors_in_words
from harness.options import SETTINGS, sweep_words
from harness.sweep.search.settings import Search

if TYPE_CHECKING:
    from harness.sweep.search.trial_queue import TrialQueue
    from harness.sweep.spec.sweep_file import Sweep

# Seconds that `stop` waits for trials to save their state; they have 30 of them.
STOP_TIMEOUT = 60.0


@click.group(context_settings=SETTINGS)
def sweep() -> None:
    """Run the trials of a W&B sweep file on this machine, without an account or a network.

    \b
    Examples:
      harness sweep plan sweeps/grid.yaml
      harness sweep run sweeps/grid.yaml
      harness sweep run sweeps/grid.yaml --workers 2 -- --data my_images --model vit_ti_16 --weights deit_tiny.pth
      harness sweep status sweeps/grid.yaml

    What comes after `--` (or in $HARNESS_SWEEP_ARGS) wins over the file.
    """


def common_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What every command takes: the file, and where its sweep is kept."""
    for decorate in (
        click.option("--storage", help="Optuna storage: a database URL, or the file of a journal. [default: SQLite]"),
        click.option(
            "--runs-dir", default="runs", show_default=True, help="Folder that the sweep's folder is made in."
        ),
        click.argument("file", type=click.Path(path_type=Path)),
    ):
        command = decorate(command)
    return command


def search_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What decides which trials there are."""
    for decorate in (
        click.argument("words", metavar="[-- RUN OPTIONS]", nargs=-1, type=click.UNPROCESSED),
        click.option(
            "--algorithm", type=click.Choice(["tpe", "gp"]), default="tpe", show_default=True, help="Of method bayes."
        ),
        click.option(
            "--seed",
            type=click.IntRange(0, 2**31 - 1),
            default=0,
            show_default=True,
            help="Seed of methods random and bayes.",
        ),
        click.option("--count", type=click.IntRange(1), help="Trials of methods random and bayes. [default: run_cap]"),
    ):
        command = decorate(command)
    return command


@sweep.command()
@common_options
@search_options
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Trials at a time.")
@click.option("--probe/--no-probe", default=True, help="Measure the speed where no earlier run tells it.")
@click.option("--keep", type=click.IntRange(1), help="Checkpoints that will be kept. [default: all]")
def plan(
    file: Path,
    runs_dir: str,
    storage: str | None,
    count: int | None,
    seed: int,
    algorithm: str,
    words: tuple[str, ...],
    workers: int,
    probe: bool,
    keep: int | None,
) -> None:
    """Check FILE, list its trials, and estimate their time and disk. Starts nothing; exit 2 on problems.

    \b
    Example:
      harness sweep plan sweeps/grid.yaml -- --data my_images
    """
    with errors_in_words():
        from harness.sweep.plan.plan import plan as make_plan
        from harness.sweep.plan.plan import render

        read = read_file(file, words)
        click.echo(
            render(make_plan(read, runs_dir=runs_dir, count=count, seed=seed, probe=probe, workers=workers, keep=keep))
        )


@sweep.command()
@common_options
@search_options
@click.option("--workers", type=click.IntRange(1), help="Trials at a time. [default: as the GPUs allow, or 1]")
@click.option(
    "--gpus-per-run", type=float, help="GPUs per trial (0.5: two trials share one). [default: 1, or as --workers need]"
)
@click.option(
    "--processes-per-run", type=click.IntRange(1), default=1, show_default=True, help="The same without GPUs."
)
@click.option("--retries", type=click.IntRange(0), default=1, show_default=True, help="Retries per failed trial.")
@click.option(
    "--timeout", type=click.FloatRange(0), default=3600.0, show_default=True, help="Seconds without progress; 0: none."
)
@click.option("--keep", type=click.IntRange(1), help="Checkpoints to keep, those of the best. [default: all]")
def run(
    file: Path,
    runs_dir: str,
    storage: str | None,
    count: int | None,
    seed: int,
    algorithm: str,
    words: tuple[str, ...],
    workers: int | None,
    gpus_per_run: float | None,
    processes_per_run: int,
    retries: int,
    timeout: float,
    keep: int | None,
) -> None:
    """Run the trials of FILE. Repeat the command to resume; finished trials are kept.

    \b
    Examples:
      harness sweep run sweeps/demo.yaml
      harness sweep run sweeps/bayes.yaml --count 20 --gpus-per-run 2 --keep 3
    """
    with errors_in_words():
        from harness.sweep.execution.resources import share_machine
        from harness.sweep.execution.runner import RunnerOptions
        from harness.sweep.session import run_sweep, sweep_folder

        read = read_file(file, words)
        slots = share_machine(workers, gpus_per_run, processes_per_run, os.environ)
        search, options = (
            Search(count, seed, algorithm),
            RunnerOptions(retries, timeout, keep),
        )
        sys.exit(run_sweep(read, search, sweep_folder(read, runs_dir), slots, options, storage))


@sweep.command()
@common_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
def status(file: Path, runs_dir: str, storage: str | None, as_json: bool) -> None:
    """List every trial of FILE with its state, then the leaderboard of finished runs.

    \b
    Example:
      harness sweep status sweeps/grid.yaml
    """
    with errors_in_words():
        import dataclasses

        from harness.sweep.execution.progress import status_table
        from harness.sweep.session import leaderboard_of
        from reports.runs import read_runs
        from reports.stats.leaderboard import to_json
        from reports.stats.leaderboard_table import render

        read, folder, trial_queue = begun(file, runs_dir, storage)
        entries, board = trial_queue.entries(), leaderboard_of(read_runs(folder), read)
        if as_json:
            trials = [dataclasses.asdict(entry) for entry in entries]
            click.echo(json.dumps({"trials": trials, "board": json.loads(to_json(board))}, indent=1))
        else:
            click.echo(status_table(entries, read))
            click.echo(render(board))


@sweep.command()
@common_options
def stop(file: Path, runs_dir: str, storage: str | None) -> None:
    """End the sweep of FILE wherever it runs: trials save their state, and the next `run` resumes them.

    \b
    Example:
      harness sweep stop sweeps/grid.yaml
    """
    with errors_in_words():
        from harness.sweep.session import is_running_here

        read, folder, trial_queue = begun(file, runs_dir, storage)
        trial_queue.ask_to_stop()
        deadline = time.monotonic() + STOP_TIMEOUT
        while is_running_here(folder) or any(entry.state == "running" for entry in trial_queue.entries()):
            if time.monotonic() > deadline:
                raise HarnessError(
                    f"Asked to stop, but still running after {STOP_TIMEOUT:.0f} s; harness sweep status tells where."
                )
            time.sleep(0.2)
        click.echo(f"The sweep {read.name} is stopped. To resume: harness sweep run {shlex.quote(str(file))}")


@sweep.command()
@common_options
def sync(file: Path, runs_dir: str, storage: str | None) -> None:
    """Send the runs of FILE that were kept offline to W&B, each once, and mark the best one's model `sweep-best`.

    \b
    Example:
      harness sweep sync sweeps/grid.yaml
    """
    with errors_in_words():
        from harness.sweep.session import sweep_folder
        from harness.sweep.wandb_sync import upload

        read = read_file(file, ())
        report = upload(sweep_folder(read, runs_dir), metric=read.metric.name, goal=read.metric.goal)
        click.echo(report.text())
        sys.exit(report.exit_code)


def read_file(file: Path, words: tuple[str, ...]) -> Sweep:
    """The sweep of a file, with what wins over it: $HARNESS_SWEEP_ARGS, then the words of the command line."""
    from harness.sweep.spec.sweep_file import read_sweep

    return read_sweep(file, (*sweep_words(), *words))


def begun(file: Path, runs_dir: str, storage: str | None) -> tuple[Sweep, Path, TrialQueue]:
    """A sweep that has begun: its file, its folder and its trial_queue."""
    from harness.runs.folder import refuse_links_in
    from harness.sweep.search.trial_queue import TrialQueue
    from harness.sweep.session import sweep_folder

    read = read_file(file, ())
    folder = sweep_folder(read, runs_dir)
    refuse_links_in(folder, folder / "logs")
    return read, folder, TrialQueue.begun(read, folder, storage)
