"""`harness verify`: what the attention maps of a run show, and whether it is true."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.errors import errors_in_words
from harness.options import SETTINGS
from harness.runs.rules import EVIDENCE_FILE

if TYPE_CHECKING:
    from harness.runs.evidence_file import Claim


@click.command(context_settings=SETTINGS, short_help="Test what attention maps show, and whether it is true.")
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--images", type=click.IntRange(2), default=500, show_default=True, help="Test images to use, evenly spaced."
)
@click.option("--data", help="Data folder with the test images. [default: the run's]")
@click.option("--cache-dir", type=click.Path(), help="Folder for decoded images.")
@click.option("--threads", type=click.IntRange(1), help="CPU compute threads. [default: all cores]")
def verify(run: Path, images: int, data: str | None, cache_dir: str | None, threads: int | None) -> None:
    """Test what the attention maps of RUN show, and whether it is true.

    Measures how many layers are enough, which heads matter, whether positions are used, whether maps show what the
    prediction rests on, whether they depend on the trained weights, and, with masks, whether they point at objects.
    The numbers, with intervals, and the verdicts are written to evidence.json in RUN.

    \b
    Example:
      harness verify runs/lr1e-05_bs16_none_s0-1a2b3c4d --images 200
    """
    with errors_in_words():
        from harness.evidence.verify import verify as measure

        claims = measure(run, images, data, cache_dir, threads, click.echo)
        click.echo()
        for claim in claims:
            click.echo(_text(claim))
        click.echo(f"\nNumbers and rules: {run / EVIDENCE_FILE}")


def _text(claim: Claim) -> str:
    return f"{claim.verdict:>14}  {claim.statement}\n{'':16}{claim.number}: {claim.numbers}"
