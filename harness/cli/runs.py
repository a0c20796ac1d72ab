"""Commands that read runs: evaluate, predict, sync. Heavy imports stay inside the commands that need them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from harness.errors import ConfigError, HarnessError, printable


@click.command()
@click.argument("run_folder", metavar="RUN", type=click.Path(path_type=Path))
@click.option(
    "--data", "data_folder", type=click.Path(), help="Another folder with the same classes. [default: the run's data]"
)
@click.option("--cache-dir", type=click.Path(), help="Folder for decoded images.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
def evaluate(run_folder: Path, data_folder: str | None, cache_dir: str | None, as_json: bool) -> None:
    """Score a run's best checkpoint on the test images.

    \b
    Examples:
      harness evaluate runs/lr1e-05_bs16_none_s0-1a2b3c4d
      harness evaluate runs/lr1e-05_bs16_none_s0-1a2b3c4d --data other/images --json
    """
    from harness.predict import evaluate_again
    from harness.runs.console import aligned
    from harness.runs.summary import score_lines

    results = evaluate_again(
        run_folder, data_folder, cache_dir, lambda sentence: click.echo(printable(sentence), err=True)
    )
    if as_json:
        click.echo(json.dumps(results))
    else:
        click.echo("\n".join(aligned(score_lines(results).items())))


@click.command()
@click.argument("run_folder", metavar="RUN", type=click.Path(path_type=Path))
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--top", type=click.IntRange(1), default=5, show_default=True, help="Classes in each line of text.")
@click.option(
    "--csv",
    "csv_file",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    help="Write a table with the probabilities of all classes instead of text; - writes it to the terminal.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON with the probabilities of all classes.")
def predict(run_folder: Path, paths: tuple[Path, ...], top: int, csv_file: Path | None, as_json: bool) -> None:
    """Predict the classes of images with the best checkpoint of RUN.

    PATH is an image, a folder (all images in it and below it but hidden ones) or a pattern such as 'holiday/*.jpg'.
    Each line of the output is one image with its most probable classes. An image that cannot be used is named on
    stderr; the others are predicted, and the exit code is 1.

    \b
    Examples:
      harness predict runs/lr1e-05_bs16_none_s0-1a2b3c4d holiday/ --top 3
      harness predict runs/lr1e-05_bs16_none_s0-1a2b3c4d 'holiday/**/*.jpg' --csv predictions.csv
    """
    if csv_file and as_json:
        raise ConfigError("--csv and --json cannot be combined; give one of them.")
    from harness.cli.predictions import print_json, print_text, write_table
    from harness.predict import Predictor
    from harness.prediction import Prediction, find_images

    predictor = Predictor(run_folder)
    failed = 0

    def usable() -> Iterator[Prediction]:
        nonlocal failed
        for prediction in predictor.predict(find_images(paths)):
            if prediction.problem:
                failed += 1
                click.echo(f"{printable(prediction.path)} cannot be used: {prediction.problem}.", err=True)
            else:
                yield prediction

    if csv_file:
        write_table(csv_file, predictor.classes, usable())
    elif as_json:
        print_json(predictor.classes, usable())
    else:
        print_text(predictor.classes, usable(), top)
    sys.exit(int(failed > 0))


@click.command()
@click.argument("run_folders", metavar="RUN...", nargs=-1, required=True, type=click.Path(path_type=Path))
def sync(run_folders: tuple[Path, ...]) -> None:
    """Send offline runs to W&B with all their files. The run folders may have been moved or copied.

    \b
    Example:
      harness sync runs/*
    """
    from harness.track import sync as sync_run
    from reports.page.site import LEDGER

    # runs/* also matches the folder of the report.
    run_folders = tuple(folder for folder in run_folders if not (folder / LEDGER).exists())
    if not run_folders:
        raise HarnessError("Only the folder of a report was given. Give run folders.")
    if missing := [folder for folder in run_folders if not (folder / "wandb").is_dir()]:
        raise HarnessError(f"{folder} holds no W&B files (wandb/). Give run folders." for folder in missing)
    sys.exit(max(map(sync_run, run_folders)))
