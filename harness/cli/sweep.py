"""`harness sweep ...`: parse, call, print. Heavy imports stay inside the commands that need them."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from harness.config import RunConfig
from harness.options import SETTINGS, sweep_words
from harness.sweep.search.settings import Search

if TYPE_CHECKING:
    from harness.sweep.search.trial_queue import TrialQueue
    from harness.sweep.spec.sweep_file import Sweep

Chosen = TypeVar("Chosen")


class SweepCommand(click.Command):
    """A command whose words after `--` are options of the runs; it names one that stands before."""

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(context, args)
        except click.NoSuchOption as error:
            name = error.option_name.lstrip("-").replace("-", "_")
            if name not in {field.name for field in dataclasses.fields(RunConfig)}:
                raise
            hint = f"{error.option_name} is an option of the runs: give it at the end, after `--`."
            raise click.UsageError(hint, context) from None


@click.group(
    context_settings={**SETTINGS, "show_default": True},
    short_help="Run the trials of a W&B sweep file on this machine.",
)
def sweep() -> None:
    """Run the trials of a W&B sweep file on this machine, without an account or a network.

    \b
    Examples:
      harness sweep plan sweeps/grid.yaml
      harness sweep run sweeps/grid.yaml
      harness sweep run sweeps/grid.yaml --workers 2 -- --data my_images --model vit_ti_16 --weights deit_tiny.pth
      harness sweep status sweeps/grid.yaml

    Options after `--` or in $HARNESS_SWEEP_ARGS take precedence over the file.
    """


def common_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The file, and where its sweep is stored: for every command."""
    for decorate in (
        click.option("--storage", help="Optuna storage: a database URL or a journal file. [default: SQLite]"),
        click.option("--runs-dir", default="runs", help="Folder that holds the sweep's folder."),
        click.argument("file", type=click.Path(path_type=Path)),
    ):
        command = decorate(command)
    return command


def search_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that decide which trials there are."""
    for decorate in (
        click.argument("words", metavar="[-- RUN OPTIONS]", nargs=-1, type=click.UNPROCESSED),
        click.option(
            "--repeats",
            type=click.IntRange(1),
            default=1,
            help="Seeds of each point: 0 to N - 1; with --repeat-best, of the best settings.",
        ),
        click.option(
            "--pruner",
            type=click.Choice(["hyperband", "asha"]),
            default="hyperband",
            help="Rule of `early_terminate`: W&B's, or Optuna's asynchronous successive halving.",
        ),
        click.option("--algorithm", type=click.Choice(["tpe", "gp"]), default="tpe", help="Sampler of bayes."),
        click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=0, help="Seed of random and bayes."),
        click.option("--count", type=click.IntRange(1), help="Trials; of a grid, the first ones. [default: run_cap]"),
    ):
        command = decorate(command)
    return command


@sweep.command(cls=SweepCommand)
@common_options
@search_options
@click.option("--workers", type=click.IntRange(1), default=1, help="Trials at a time.")
@click.option("--probe/--no-probe", default=True, help="Measure the speed if no earlier run shows it.")
@click.option("--keep", type=click.IntRange(1), help="Number of checkpoints to keep. [default: all]")
def plan(file: Path, words: tuple[str, ...], **values: Any) -> None:
    """Check FILE, list its trials, and estimate time and disk. Starts no trial; exits with 2 on problems.

    For a sweep that has begun, it shows the trials in the trial queue and estimates the others. --algorithm and
    --pruner have no effect on a plan.

    \b
    Example:
      harness sweep plan sweeps/grid.yaml -- --data my_images
    """
    from harness.sweep.plan.plan import plan as make_plan
    from harness.sweep.plan.plan import render

    search = from_options(Search, values)
    click.echo(render(make_plan(read_file(file, words, search.repeats), search, **values)))


@sweep.command(cls=SweepCommand)
@common_options
@search_options
@click.option(
    "--workers",
    type=click.IntRange(1),
    help="Trials that train at a time. [default: as many as fit on the GPUs; 1 on a CPU]",
)
@click.option(
    "--gpus-per-run",
    type=float,
    help="GPUs per trial (0.5: two trials share one). [default: 1, or less if there are more workers than GPUs]",
)
@click.option("--processes-per-run", type=click.IntRange(1), default=1, help="Processes per trial on a CPU.")
@click.option("--retries", type=click.IntRange(0), default=1, help="Retries per failed trial.")
@click.option(
    "--timeout", type=click.FloatRange(0), default=3600.0, help="Seconds a trial may make no progress; 0: no limit."
)
@click.option(
    "--keep",
    type=click.IntRange(1),
    help="Number of checkpoints to keep: the best seed of each of the best settings. [default: all]",
)
@click.option("--repeat-best", type=click.IntRange(1), help="At the end, run --repeats seeds of the best K settings.")
@click.option("--end-by", type=float, help="Unix time by which this machine's trials have to end. [default: none]")
@click.option("--accept", is_flag=True, help="Run a file whose trials all compute something else than before.")
@click.option(
    "--reuse",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    multiple=True,
    help="Folder of runs whose results are taken over, where they compute the same. May be repeated.",
)
@click.option("--max-hours", type=click.FloatRange(0, min_open=True), help="Hours after which no trial is started.")
@click.option("--target", type=float, help="Value of the metric at which no further trial is started.")
@click.option("--patience", type=click.IntRange(1), help="Finished trials without a better value before it stops.")
@click.option("--verify-best", is_flag=True, help="At the end, test what the best run's attention maps show.")
def run(
    file: Path,
    words: tuple[str, ...],
    runs_dir: str,
    storage: str | None,
    workers: int | None,
    gpus_per_run: float | None,
    processes_per_run: int,
    repeat_best: int | None,
    accept: bool,
    reuse: tuple[Path, ...],
    verify_best: bool,
    **values: Any,
) -> None:
    """Run the trials of FILE. Repeat the command to resume; finished trials are kept.

    FILE may grow: new points run, and points that it lost keep their results.

    \b
    Examples:
      harness sweep run sweeps/demo.yaml
      harness sweep run sweeps/bayes.yaml --count 20 --gpus-per-run 2 --keep 3
      harness sweep run sweeps/finetune.yaml --reuse runs/grid --max-hours 8
      harness sweep run sweeps/grid.yaml --repeat-best 3 --repeats 5
    """
    from harness.cli.verify import verify_best_run
    from harness.sweep.execution.resources import share_machine
    from harness.sweep.execution.runner_options import RunnerOptions
    from harness.sweep.repeat_best import RepeatBest, check_repeat_best
    from harness.sweep.session import run_sweep, sweep_folder

    search, repeat = from_options(Search, values), None
    spec = read_file(file, words, 1 if repeat_best else search.repeats)
    if repeat_best:
        repeat = RepeatBest(repeat_best, search.repeats)
        check_repeat_best(spec, repeat)
        search = dataclasses.replace(search, repeats=1)
    slots = share_machine(workers, gpus_per_run, processes_per_run, os.environ)
    folder, options = sweep_folder(spec, runs_dir), RunnerOptions(**values)
    code = run_sweep(spec, search, folder, slots, options, storage, repeat, accept=accept, reuse=reuse)
    if verify_best and code == 0:
        verify_best_run(folder, spec.metric.name, spec.metric.goal)
    sys.exit(code)


def from_options(kind: type[Chosen], values: dict[str, Any]) -> Chosen:
    """A dataclass whose fields have the names of options; takes its values out."""
    return kind(**{field.name: values.pop(field.name) for field in dataclasses.fields(kind)})  # type: ignore[arg-type]


def read_file(file: Path, words: tuple[str, ...] = (), repeats: int = 1) -> Sweep:
    """The sweep of a file, with its overrides: $HARNESS_SWEEP_ARGS, then the command line."""
    from harness.sweep.spec.repeats import with_repeats
    from harness.sweep.spec.sweep_file import read_sweep

    return with_repeats(read_sweep(file, (*sweep_words(), *words)), repeats)


@contextlib.contextmanager
def begun_sweep(file: Path, runs_dir: str, storage: str | None) -> Iterator[tuple[Path, TrialQueue]]:
    """The folder and the trial queue of a sweep that has begun.

    Raises HarnessError if the database of its trial queue fails while it is used.
    """
    from harness.sweep.search.ledger_errors import check_sweep_folder, ledger_errors_in_words
    from harness.sweep.search.trial_queue import TrialQueue
    from harness.sweep.session import sweep_folder

    spec = read_file(file)
    folder = sweep_folder(spec, runs_dir)
    with ledger_errors_in_words(file):
        check_sweep_folder(spec, folder, storage)
        yield folder, TrialQueue.load(spec, folder, storage)
