"""`harness slurm ...`: sweeps and runs as batch jobs. Heavy imports stay inside the commands that need them."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from harness.cli.sweep import SweepCommand, begun_sweep, common_options, from_options
from harness.cli.sweep import run as sweep_run
from harness.errors import ConfigError
from harness.options import SETTINGS
from harness.sweep.search.settings import Search

# Options of `harness sweep run` that the batch script sets itself.
SET_BY_SCRIPT = ("end_by",)


@click.group(context_settings={**SETTINGS, "show_default": True}, short_help="Sweeps and runs on a Slurm cluster.")
def slurm() -> None:
    """Run a sweep as a job array whose tasks share its trials, or one run over several nodes.

    \b
    Examples:
      harness slurm submit sweeps/grid.yaml --tasks 8 --gpus 1 --time 4:00:00
      harness slurm submit --train --nodes 2 --gpus 4 --time 12:00:00 -- --data my_images
      harness slurm script sweeps/grid.yaml --tasks 8 --time 4:00:00 > grid.sh

    Modules, environment and further options of sbatch come from ~/.config/vit-harness/slurm.toml.
    `harness sweep status`, `watch` and `stop` show and stop the jobs of a sweep.
    """


def job_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What is submitted, and what it asks of Slurm."""
    for decorate in (
        click.argument("words", metavar="[FILE] [-- RUN OPTIONS]", nargs=-1, type=click.UNPROCESSED),
        click.option("--account", help="Account that pays."),
        click.option("--partition", help="Partition. [default: the cluster's]"),
        click.option("--cpus", type=int, help="Cores per task or node. [default: the cluster's]"),
        click.option("--gpus", default="0", help="GPUs per task or node: 1, or a kind and a number such as a100:4."),
        click.option("--nodes", type=int, default=1, help="Nodes of one run."),
        click.option("--array-limit", type=int, help="Tasks that run at a time. [default: all]"),
        click.option("--tasks", type=int, default=1, help="Tasks of the array, each a worker of the sweep."),
        click.option("--time", required=True, help="Time limit as sbatch takes it: 90 (minutes), 4:00:00, 2-12:00:00."),
        click.option("--train", is_flag=True, help="One run instead of a sweep; there is no FILE."),
    ):
        command = decorate(command)
    return command


@slurm.command(cls=SweepCommand)
@job_options
@click.pass_context
def script(context: click.Context, words: tuple[str, ...], train: bool, **values: Any) -> None:
    """Print the batch script that `submit` submits. Needs no Slurm and writes nothing.

    \b
    Example:
      harness slurm script sweeps/grid.yaml --tasks 8 --gpus 1 --time 4:00:00 > grid.sh
    """
    text, _ = _submission(context, words, train, values)
    click.echo(text, nl=False)


@slurm.command(cls=SweepCommand, short_help="Submit a sweep as a job array, or one run.")
@job_options
@click.pass_context
def submit(context: click.Context, words: tuple[str, ...], train: bool, **values: Any) -> None:
    """Submit a sweep as a job array, or one run with --train. Options of `harness sweep run` are passed on.

    The batch script is kept beside the output of the tasks. Repeat the command to add workers, or to resume.

    \b
    Examples:
      harness slurm submit sweeps/grid.yaml --tasks 8 --gpus 1 --time 4:00:00 -- --data my_images
      harness slurm submit --train --nodes 2 --gpus 4 --time 12:00:00 -- --data my_images
    """
    from harness.files import write_atomically
    from harness.slurm import queue

    text, logs = _submission(context, words, train, values)
    queue.require("sbatch")
    file = logs / "submitted.sh"
    write_atomically(file, text.encode())
    file.chmod(0o600)  # --storage may hold a password
    job = queue.submit(file)
    click.echo(f"Submitted job {job}. Output: {logs}/{job}*.log")
    if not train:
        click.echo(f"To follow it: harness sweep watch {shlex.quote(words[0])}")


@slurm.command()
@common_options
@click.option("--task", required=True, help="This task of the job array: 7_2.")
@click.option("--since", type=float, required=True, help="Unix time at which the worker started.")
@click.option("--code", type=int, required=True, help="Exit code of the worker.")
def requeue(file: Path, runs_dir: str, storage: str | None, task: str, since: float, code: int) -> None:
    """Queue a task again if trials of FILE remain that fit its time limit. Batch scripts end with this.

    It is not queued again if the sweep was stopped, or if it reached --max-hours, --target or --patience. If Slurm
    interrupted one of its trials, it is queued again all the same, finishes that trial and starts no other.

    \b
    Example:
      harness slurm requeue sweeps/grid.yaml --task "$task" --since "$started" --code "$code"
    """
    from harness.slurm import queue
    from harness.slurm.requeue import reason_to_end

    with begun_sweep(file, runs_dir, storage) as (_, trial_queue):
        reason = reason_to_end(trial_queue, queue.state(task), queue.time_limit(task), task, since=since, code=code)
    if reason:
        click.echo(f"Task {task} ends: {reason}.")
    else:
        click.echo(f"Trials remain: task {task} is queued again.")
        queue.requeue(task)


def _worker_options() -> list[click.Option]:
    """The options of `harness sweep run`, which each task of a sweep runs."""
    return [
        option for option in sweep_run.params if isinstance(option, click.Option) and option.name not in SET_BY_SCRIPT
    ]


for command in (script, submit):
    command.params += _worker_options()


def _submission(
    context: click.Context, words: tuple[str, ...], train: bool, values: dict[str, Any]
) -> tuple[str, Path]:
    """The batch script that a command line submits, and the folder of its output. Raises HarnessError."""
    from harness.slurm.job import Job
    from harness.slurm.submission import run_submission, sweep_submission

    job = from_options(Job, values)
    named = [option for option in _worker_options() if _is_named(context, option)]
    if train:
        if named:
            raise ConfigError(f"{named[0].opts[0]} is an option of a sweep; --train submits one run. Remove it.")
        return run_submission(job, words)
    if not words or words[0].startswith("-"):
        raise ConfigError("The sweep file is missing. Give it before `--`, or --train for one run.")
    file, *run_words = words
    passed = [option for option in named if option.name not in ("runs_dir", "storage")]
    options = [word for option in passed for word in _words(option, values[str(option.name)])]
    search = from_options(Search, values)
    return sweep_submission(job, Path(file), values["runs_dir"], values["storage"], search, options, run_words)


def _is_named(context: click.Context, option: click.Option) -> bool:
    """Whether the command line has this option."""
    return context.get_parameter_source(str(option.name)) is ParameterSource.COMMANDLINE


def _words(option: click.Option, value: Any) -> list[str]:
    """An option and its value as words of a command line."""
    if option.is_flag:
        return [option.opts[0] if value else option.secondary_opts[0]]
    return [f"{option.opts[0]}={one}" for one in (value if option.multiple else [value])]
