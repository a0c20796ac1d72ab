"""`harness data ...`: check, download or draw a data set."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from harness.errors import errors_in_words


@click.group()
def data() -> None:
    """Check, download or draw a data set."""


@data.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
@click.option("--split-group", help="As in harness train: check that no group of images is in two splits.")
@click.option("--cache-dir", type=click.Path(), help="Folder of the cache of decoded images.")
def check(folder: Path, as_json: bool, split_group: str | None, cache_dir: str | None) -> None:
    """Read every image of FOLDER and list the problems: unreadable or blank images, duplicates, uneven classes.

    The exit code is 1 if there are problems that stop a run.

    \b
    Examples:
      harness data check data/sports100
      harness data check data/sports100 --json
    """
    with errors_in_words():
        from harness.config import RunConfig
        from harness.data.check import report

        RunConfig(data=str(folder), split_group=split_group)  # an invalid pattern is an error
        result = report(folder, split_group=split_group, cache_dir=cache_dir)
        click.echo(result.to_json() if as_json else "\n".join(result.lines()))
        sys.exit(1 if result.problems else 0)


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
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the drawings.")
def demo(folder: Path, seed: int) -> None:
    """Draw the built-in data set into FOLDER: small sport scenes in ten classes, with masks of the objects.

    \b
    Example:
      harness data demo demo/data
    """
    with errors_in_words():
        from harness.demo.scenes import write

        click.echo(write(folder, seed=seed))
