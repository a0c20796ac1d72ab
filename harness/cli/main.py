"""The command line: parse, call, print, translate errors. Heavy imports stay inside the commands that need them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

import harness
from harness.cli.explain import explain
from harness.cli.probe import probe
from harness.cli.sweep import sweep
from harness.config import RunConfig
from harness.errors import ConfigError, HarnessError, errors_in_words
from harness.options import SETTINGS, RunCommand, arguments, run_options

RUN_EXAMPLES = """\b
Examples:
  {program} --data data/sports100 --lr 1e-5 --batch-size 16 --augment none
  {program} --data photos --model vit_ti_16 --weights deit_tiny.pth --epochs 20 --schedule cosine
  {program} --data photos --weights none --augment trivialaugment --mixup 0.2 --ema true

The same command again goes on where the run was interrupted; a finished run is left alone.
"""


@click.command(cls=RunCommand, context_settings=SETTINGS)
@run_options
def run(**values: Any) -> None:
    """Fine-tune, keep the best epoch, test it once: the program that `accelerate launch` and W&B agents start."""
    with errors_in_words():
        config = RunConfig(**values)
        from harness.train import exit_code_of

        sys.exit(exit_code_of(config))


run.help = f"{run.help}\n\n{RUN_EXAMPLES.format(program='accelerate launch harness/run.py')}"


@click.group(context_settings=SETTINGS)
@click.version_option(harness.__version__, prog_name="harness")
def main() -> None:
    """Fine-tune Vision Transformers on folders of images, and see what comes of it.

    \b
    Examples:
      harness data demo scenes && harness train --data scenes --model vit_demo --weights demo --lr 3e-4
      harness train --data data/sports100 --lr 1e-5 --batch-size 16 --augment none
      harness evaluate runs/lr1e-05_bs16_none_s0-1a2b3c4d
    """


@main.command(cls=RunCommand)
@run_options
@click.option("--num-processes", type=click.IntRange(1), help="Processes to train with. [default: one per GPU, or one]")
def train(num_processes: int | None, **values: Any) -> None:
    """Fine-tune on every GPU of this machine: the same run as `accelerate launch harness/run.py`, launched for you."""
    with errors_in_words():
        config = RunConfig(**values).resolved()
        from harness.data.image_folder import load_image_folder
        from harness.launch.launch import launch

        # Before anything is started: what is wrong with the settings or the folder is said once, here.
        load_image_folder(config.data, seed=config.split_seed, split_fraction=config.split_fraction)
        sys.exit(launch(arguments(config), num_processes=num_processes))


train.help = f"{train.help}\n\n{RUN_EXAMPLES.format(program='harness train')}"


main.add_command(sweep)
main.add_command(explain)
main.add_command(probe)


@main.group()
def data() -> None:
    """Look at, fetch or make data."""


@data.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
@click.option("--cache-dir", type=click.Path(), help="Where decoded images are kept.")
def check(folder: Path, as_json: bool, cache_dir: str | None) -> None:
    """Read every image of FOLDER and report what would go wrong or mislead; exit 1 on problems.

    \b
    Example:
      harness data check data/sports100
    """
    with errors_in_words():
        from harness.data.check import report

        found = report(folder, cache_dir=cache_dir)
        click.echo(found.to_json() if as_json else "\n".join(found.lines()))
        sys.exit(1 if found.problems else 0)


@data.command()
@click.argument("name", type=click.Choice(["sports100"]))
@click.argument("folder", type=click.Path(path_type=Path), required=False)
def fetch(name: str, folder: Path | None) -> None:
    """Download a data set from Kaggle into FOLDER (default: data/NAME). Needs `pip install 'vit-harness[fetch]'`.

    \b
    Example:
      harness data fetch sports100
    """
    with errors_in_words():
        from harness.data.download import fetch_sports100

        click.echo(fetch_sports100(folder or Path("data") / name))


@data.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of every drawing.")
def demo(folder: Path, seed: int) -> None:
    """Draw the built-in data set into FOLDER: small sport-like scenes of ten classes, with masks of the objects.

    \b
    Example:
      harness data demo scenes
    """
    with errors_in_words():
        from harness.demo.scenes import write

        click.echo(write(folder, seed=seed))


@main.command()
@click.argument("run_folder", metavar="RUN", type=click.Path(path_type=Path))
@click.option(
    "--data", "data_folder", type=click.Path(), help="Another folder with the same classes. [default: the run's own]"
)
@click.option("--cache-dir", type=click.Path(), help="Where decoded images are kept.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
def evaluate(run_folder: Path, data_folder: str | None, cache_dir: str | None, as_json: bool) -> None:
    """Score a run's best checkpoint on the test images again.

    \b
    Examples:
      harness evaluate runs/lr1e-05_bs16_none_s0-1a2b3c4d
      harness evaluate runs/lr1e-05_bs16_none_s0-1a2b3c4d --data other/photos --json
    """
    with errors_in_words():
        from harness.predict import evaluate_again
        from harness.runs.summary import score_lines

        results = evaluate_again(run_folder, data_folder, cache_dir)
        if as_json:
            click.echo(json.dumps(results))
        else:
            for title, value in score_lines(results).items():
                click.echo(f"{title:<20}{value}")


@main.command()
@click.argument("run_folder", metavar="RUN", type=click.Path(path_type=Path))
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True, type=click.Path(path_type=Path))
def predict(run_folder: Path, images: tuple[Path, ...]) -> None:
    """Name what a run's best checkpoint sees in images: the five likeliest classes of each.

    \b
    Example:
      harness predict runs/lr1e-05_bs16_none_s0-1a2b3c4d holiday/*.jpg
    """
    with errors_in_words():
        from harness.predict import predict_files

        for path, guesses in predict_files(run_folder, images):
            click.echo(f"{path}: " + ", ".join(f"{name} {probability:.1%}" for name, probability in guesses))


@main.command()
@click.argument("run_folders", metavar="RUN...", nargs=-1, required=True, type=click.Path(path_type=Path))
def sync(run_folders: tuple[Path, ...]) -> None:
    """Send runs that were kept offline to W&B, with all their files, from wherever they have been copied to.

    \b
    Example:
      harness sync runs/*
    """
    with errors_in_words():
        from harness.track import sync as sync_run
        from reports.page.site import LEDGER

        # runs/* has the page of the runs among them.
        run_folders = tuple(folder for folder in run_folders if not (folder / LEDGER).exists())
        if missing := [folder for folder in run_folders if not (folder / "wandb").is_dir()]:
            raise HarnessError(f"{folder} holds no W&B files (wandb/). Give the folders of runs." for folder in missing)
        sys.exit(max((sync_run(folder) for folder in run_folders), default=0))


@main.command()
@click.argument("runs", metavar="RUNS_DIR|ENTITY/PROJECT[/SWEEP]")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Folder to write to. [default: report/ in RUNS_DIR]"
)
@click.option(
    "--gallery",
    default="24",
    show_default=True,
    help="Runs whose test images are shown with their attention, about 3 MB each for 500 images: all, or a number, "
    "the best and the worst ones.",
)
@click.option("--open", "open_page", is_flag=True, help="Open what was made in a browser.")
@click.option("--wandb", "on_wandb", is_flag=True, help="Make a workspace and a report in W&B, in place of a page.")
def report(runs: str, output: Path | None, gallery: str, open_page: bool, on_wandb: bool) -> None:
    """What the runs in RUNS_DIR tell, as a page that opens anywhere: no server, no network.

    A sweep that is still going on can be reported at any time; the same command again updates the page. With --wandb
    it is made in W&B, of runs that are there; needs `pip install 'vit-harness[reports]'`.

    \b
    Examples:
      harness report runs/grid
      harness report runs -o public --open
      harness report runs/grid --wandb
      harness report ENTITY/PROJECT/SWEEP --wandb
    """
    with errors_in_words():
        if gallery != "all" and not gallery.isdecimal():
            raise ConfigError(f"--gallery is {gallery!r}; it must be all, or a number of runs.")
        if on_wandb:
            from harness.cli.wandb_report import publish

            if output:
                raise ConfigError("-o is for a page; with --wandb nothing is written here.")
            made = [*publish(runs, click.echo)]
        else:
            from reports.errors import ReportError
            from reports.page import build

            try:
                made = [str(build.build(runs, output, gallery=None if gallery == "all" else int(gallery)))]
            except ReportError as error:
                raise HarnessError(str(error)) from error
        for address in made:
            click.echo(address)
        if open_page:
            click.launch(made[-1])


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
@click.option("--runs-dir", default="runs", show_default=True, help="Folder whose disk is looked at.")
@click.option("--cache-dir", type=click.Path(), help="Where decoded images are kept.")
def doctor(as_json: bool, runs_dir: str, cache_dir: str | None) -> None:
    """What works on this machine: versions, GPUs, ports, disk, W&B. Exit 1 when something does not.

    \b
    Example:
      harness doctor
    """
    from harness.doctor import examine, render, to_json

    checks = examine(runs_dir, cache_dir)
    click.echo(to_json(checks) if as_json else render(checks))
    sys.exit(any(found.state == "fail" for found in checks))
