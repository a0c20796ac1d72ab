"""`harness data ...`: check, download or draw a data set; show and prune the cache of decoded images."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from harness.errors import PathError


@click.group()
def data() -> None:
    """Check, download or draw a data set; show and prune the cache."""


@data.command(short_help="Read every image of FOLDER and list the problems.")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
@click.option("--split-group", help="As in harness train: check that no group of images is in two splits.")
@click.option("--cache-dir", type=click.Path(), help="Folder for decoded images.")
def check(folder: Path, as_json: bool, split_group: str | None, cache_dir: str | None) -> None:
    """Read every image of FOLDER and list the problems: unreadable or blank images, duplicates, uneven classes.

    The exit code is 1 if there are problems that stop a run.

    \b
    Examples:
      harness data check data/sports100
      harness data check data/sports100 --json
    """
    from harness.config import RunConfig
    from harness.data.check import report

    result = report(RunConfig(data=str(folder), split_group=split_group, cache_dir=cache_dir))
    click.echo(result.to_json() if as_json else "\n".join(result.lines()))
    sys.exit(1 if result.problems else 0)


@data.command()
@click.argument("name", type=click.Choice(["sports100"]))
@click.argument("folder", type=click.Path(path_type=Path), required=False)
def fetch(name: str, folder: Path | None) -> None:
    """Download a data set from Kaggle into FOLDER (default: data/NAME). Needs the extra `fetch`.

    \b
    Example:
      pip install 'vit-harness[fetch]'
      harness data fetch sports100
    """
    from harness.data.download import fetch_sports100

    click.echo(fetch_sports100(folder or Path("data") / name))


@data.command(short_help="Draw the built-in data set into FOLDER.")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True, help="Seed of the drawings.")
def demo(folder: Path, seed: int) -> None:
    """Draw the built-in data set into FOLDER: small sport scenes in ten classes, with masks of the objects.

    \b
    Example:
      harness data demo demo/data
    """
    from harness.demo.scenes import write

    click.echo(write(folder, seed=seed))


@data.command(short_help="Show and prune the cache of decoded images.")
@click.option("--cache-dir", type=click.Path(), help="Folder for decoded images.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
@click.option("--prune", is_flag=True, help="Remove what is damaged or incomplete.")
@click.option(
    "--older-than",
    type=click.FloatRange(0),
    metavar="DAYS",
    help="Also prune files that were not used for this many days.",
)
@click.option(
    "--larger-than",
    type=click.FloatRange(0),
    metavar="GB",
    help="Also prune the least recently used files until the cache has this size.",
)
@click.option("--yes", is_flag=True, help="Prune without asking.")
def cache(
    cache_dir: str | None,
    as_json: bool,
    prune: bool,
    older_than: float | None,
    larger_than: float | None,
    yes: bool,
) -> None:
    """Show what the cache of decoded images holds, by the short side that a model needs, and when it was last used.

    Images that a running process uses are never removed. Removed ones are decoded again when they are needed.

    \b
    Examples:
      harness data cache
      harness data cache --prune --older-than 30
      harness data cache --prune --larger-than 100 --yes
    """
    if (older_than is not None or larger_than is not None or yes) and not prune:
        raise click.UsageError("--older-than, --larger-than and --yes need --prune.")
    if prune and not yes and not sys.stdin.isatty():
        raise click.UsageError("--prune asks before it removes files, and this is not a terminal: add --yes.")
    from harness.data import cache_contents
    from harness.data.cache_build import readable
    from harness.files import expanded

    if cache_dir is not None and not expanded(cache_dir).is_dir():
        raise PathError(
            f"--cache-dir {cache_dir} is not a folder. Give the folder of a cache, or leave the option out."
        )
    items = cache_contents.contents(cache_dir)
    if not prune:
        click.echo(cache_contents.to_json(cache_dir, items) if as_json else cache_contents.text(cache_dir, items))
        return
    chosen = cache_contents.prunable(items, older_than, None if larger_than is None else larger_than * 1e9)
    if not chosen:
        click.echo("There is nothing to remove.")
        return
    click.echo(cache_contents.text(cache_dir, chosen))
    if not yes and not click.confirm("Remove these?"):
        return
    removed, kept = cache_contents.remove(chosen)
    click.echo(f"Removed {readable(sum(item.bytes for item in removed))}.")
    if kept:
        click.echo(f"Kept {readable(sum(item.bytes for item in kept))} that running processes use.")
