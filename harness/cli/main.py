"""The `harness` command: training and the list of subcommands. Heavy imports stay inside their commands."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import harness
from harness.cli import data, runs, sweep_begun, sweep_queue
from harness.cli.example import example
from harness.cli.explain import explain
from harness.cli.export import export
from harness.cli.figures import figures
from harness.cli.models import models
from harness.cli.probe import probe
from harness.cli.report import report
from harness.cli.slurm import slurm
from harness.cli.sweep import sweep
from harness.cli.verify import verify
from harness.config import RunConfig
from harness.errors import ConfigError, HarnessError, collected, errors_in_words, joined
from harness.launch.cores import limit_spinning
from harness.launch.gpus import is_spare_cpu_process
from harness.launch.temporary import temporary_folder
from harness.options import SETTINGS, RunCommand, arguments, run_options
from harness.training.compiled_code import keep_compiled_code

if TYPE_CHECKING:
    from harness.data.image_folder import ImageFolder

RUN_EXAMPLES = """\b
Examples:
  {program} --data my_images
  {program} --data my_images --model vit_ti_16 --weights deit_tiny.pth --epochs 20 --patience 0
  {program} --recipe study --data data/sports100 --lr 1e-5 --batch-size 16 --augment none

Repeat the command to resume an interrupted run. A finished run is left unchanged.
"""


@click.command(cls=RunCommand, context_settings=SETTINGS)
@run_options
def run(**values: Any) -> None:
    """Fine-tune a model, keep the best epoch and test it once. `accelerate launch` and W&B agents start this."""
    config = RunConfig(**values)
    if is_spare_cpu_process(os.environ):
        sys.exit(0)
    with temporary_folder():
        limit_spinning(os.environ)
        if config.compile:
            keep_compiled_code()
        from harness.train import exit_code_of

        sys.exit(exit_code_of(config))


run.help = f"{run.help}\n\n{RUN_EXAMPLES.format(program='accelerate launch harness/run.py')}"


class Program(click.Group):
    """Prints the problems of a HarnessError in any command without a traceback, and exits with its code."""

    def invoke(self, context: click.Context) -> Any:
        try:
            with errors_in_words():
                return super().invoke(context)
        except KeyboardInterrupt:
            click.echo(err=True)  # ends the line of the terminal's ^C
            sys.exit(128 + signal.SIGINT)


@click.group(cls=Program, context_settings=SETTINGS)
@click.version_option(harness.__version__, prog_name="harness")
def main() -> None:
    """Fine-tune Vision Transformers on folders of images, sweep their settings, and compare the results.

    \b
    Examples:
      harness data demo scenes && harness train --data scenes --model vit_demo --weights demo
      harness train --data data/sports100
      harness sweep run sweeps/grid.yaml
      harness report runs/grid --open
    """
    try:
        Path.cwd()
    except FileNotFoundError:
        raise HarnessError("The current folder no longer exists. Change to another one.") from None
    limit_spinning(os.environ)


@main.command(cls=RunCommand)
@run_options
@click.option(
    "--num-processes", type=click.IntRange(1), help="Training processes. [default: one per GPU; without a GPU, one]"
)
def train(num_processes: int | None, **values: Any) -> None:
    """Fine-tune a model on all GPUs of this machine. Same run as `accelerate launch harness/run.py`."""
    config = RunConfig(**values)
    from harness.launch.launch import launch

    if num_processes and num_processes > config.batch_size:
        raise ConfigError(
            f"--num-processes {num_processes} is more than --batch-size {config.batch_size}: in each step, every "
            f"process needs an image. Give --num-processes {config.batch_size} or less."
        )
    image_folder = _check_inputs(config)
    with temporary_folder() as folder:
        from harness.data.handover import hand_over

        variables = hand_over(image_folder, config.resolved(), folder / "images.json")
        command = arguments(config.resolved())
        sys.exit(launch(command, num_processes=num_processes, env={**os.environ, **variables}))


def _check_inputs(config: RunConfig) -> ImageFolder:
    """The image folder; raises one HarnessError with all problems, so that they are printed once."""
    from harness.data.image_folder import load_image_folder

    problems: list[HarnessError] = []
    with collected(problems):
        config.resolved()
    with collected(problems):
        image_folder = load_image_folder(config)
    if problems:
        raise joined(problems)
    return image_folder


train.help = f"{train.help}\n\n{RUN_EXAMPLES.format(program='harness train')}"


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
@click.option("--runs-dir", default="runs", show_default=True, help="Folder whose disk is checked.")
@click.option("--cache-dir", type=click.Path(), help="Folder of the cache of decoded images; its disk is checked.")
def doctor(as_json: bool, runs_dir: str, cache_dir: str | None) -> None:
    """Check this machine: versions, GPUs, ports, disk, W&B login. Exit code 1 if a check fails.

    \b
    Examples:
      harness doctor
      harness doctor --json
    """
    from harness.doctor.check import render, to_json
    from harness.doctor.examination import examine

    checks = examine(runs_dir, cache_dir)
    click.echo(to_json(checks) if as_json else render(checks))
    sys.exit(any(check.state == "fail" for check in checks))


for command in (
    *(sweep_begun.stop, sweep_begun.status, sweep_begun.watch, sweep_begun.sync, example),
    *(sweep_queue.add, sweep_queue.retry, sweep_queue.skip, sweep_queue.rebuild),
):
    sweep.add_command(command)
for command in (
    *(data.data, models, probe, sweep, slurm, runs.evaluate, runs.predict, explain, verify, figures),
    *(export, report, runs.sync),
):
    main.add_command(command)
