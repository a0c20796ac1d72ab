"""`harness models`: the names that --model takes."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from harness.model.listing import ListedModel

HEADINGS = (
    "model",
    "million parameters",
    "image",
    "prefix tokens",
    "the head reads",
    "positions",
    "rollout",
    "licence",
)


@click.command()
@click.option("--search", metavar="WORDS", help="Only names that contain these words, as in 'dinov2 reg'.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def models(search: str | None, as_json: bool) -> None:
    """List the models that --model takes, with size and licence.

    The table also has the image size, the number of tokens before the patches, and which figures are defined.
    "positions" is whether figures of the position embedding are drawn; "licence" is that of timm's default weights.

    \b
    Examples:
      harness models --search dino
      harness models --search "siglip 224" --json
    """
    from harness.model import listing
    from harness.runs.console import aligned

    listed = listing.search(search)
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(each) for each in listed], indent=2))
        return
    if taken := [each for each in listed if not each.refused]:
        click.echo("\n".join(aligned([HEADINGS, *map(_row, taken)])))
    for each in listed:
        if each.refused:
            click.echo(f"{each.model} is not supported: {each.refused}.")
    if not listed:
        click.echo(f"No name contains {search!r}.")


def _row(listed: ListedModel) -> tuple[str, ...]:
    return (
        listed.model,
        f"{listed.parameters / 1e6:.1f} M",
        f"{listed.image_size} px" if listed.image_size else "not square",
        str(listed.prefix_tokens),
        listed.reads,
        "yes" if listed.position_figures else "no",
        "yes" if listed.rollout else "no",
        listed.licence or "-",
    )
