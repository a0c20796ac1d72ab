"""`harness models`: the names that --model takes."""

from __future__ import annotations

import json

import click

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
        click.echo(json.dumps([each.values() for each in listed], indent=2))
        return
    taken = [each for each in listed if not each.refused]
    rows = [HEADINGS, *(_row(each.values()) for each in taken)]
    click.echo("\n".join(aligned(rows)))
    for each in listed:
        if each.refused:
            click.echo(f"{each.model} is not supported: {each.refused}.")
    if not listed:
        click.echo(f"No name contains {search!r}.")


def _row(values: dict[str, str | int | bool]) -> tuple[str, ...]:
    size = values["image_size"]
    return (
        str(values["model"]),
        f"{int(values['parameters']) / 1e6:.1f} M",
        f"{size} px" if size else "not square",
        str(values["prefix_tokens"]),
        str(values["reads"]),
        "yes" if values["position_figures"] else "no",
        "yes" if values["rollout"] else "no",
        str(values["licence"]) or "-",
    )
