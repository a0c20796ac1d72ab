"""`harness sweep example`: write a sweep file that comes with the package, for installations without the repository."""

from __future__ import annotations

import os
from pathlib import Path

import click

from harness.errors import HarnessError

# In a clone a link to sweeps/, in a wheel a copy of its files.
EXAMPLES = Path(__file__).parents[1] / "sweep" / "examples"


@click.command()
@click.argument("name", type=click.Choice(["bayes", "demo", "finetune", "grid", "random"]))
@click.argument("folder", type=click.Path(path_type=Path), default="sweeps")
def example(name: str, folder: Path) -> None:
    """Write the sweep file NAME.yaml into FOLDER (default: sweeps). An existing file is never changed.

    Run it with `harness sweep run`. W&B's agents need a clone of the repository: they start its harness/run.py.

    \b
    Example:
      harness sweep example demo
      harness data demo demo/data
      harness sweep run sweeps/demo.yaml
    """
    file = folder / f"{name}.yaml"
    if os.path.lexists(file):
        raise HarnessError(f"{file} already exists. Use it, or give another folder.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file.write_text((EXAMPLES / file.name).read_text())
    except OSError as error:
        raise HarnessError(f"{file} cannot be written: {error.strerror}. Give another folder.") from error
    click.echo(file)
