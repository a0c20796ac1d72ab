"""`harness figures`: the figures of a paper from run folders."""

from __future__ import annotations

import functools
from pathlib import Path

import click

from harness.errors import ConfigError, PathError
from harness.options import SETTINGS

# Names the files of the output folder that this command wrote, and may replace.
FILE_LIST = ".figures.json"


@click.command(context_settings=SETTINGS, short_help="Draw the figures of a paper, as PNG, PDF and SVG.")
@click.argument("runs", metavar="RUNS_DIR", type=click.Path(path_type=Path))
@click.option("--study", is_flag=True, help="The six figures of the study that sweeps/grid.yaml repeats.")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="Folder of the figures.")
def figures(runs: Path, study: bool, output: Path) -> None:
    """Draw the figures of a paper from the runs in RUNS_DIR, each as PNG, PDF and SVG, with its caption as text.

    With --study: the losses of all runs, the position embeddings of the worst and of the best run, and for one image
    the attention of each layer, of each head and of all layers. These need neither models nor data. With the best
    run's checkpoint, a seventh figure has its filters, position embeddings and attention distances. What `harness
    verify` measured of the best verified run follows.

    \b
    Example:
      harness figures runs/grid --study -o figures
    """
    if not study:
        raise ConfigError("Name the figures: --study.")
    if not runs.is_dir():
        raise PathError(f"{runs} is not a folder. Give the folder that contains the run folders.")
    from harness.evidence.print_figures import verified_figures
    from harness.explain.drawing.study_figures import study_figures
    from harness.runs.figures import PRINT_FORMATS, save_for_print
    from harness.runs.owned_files import OwnedFiles

    drawn = [*study_figures(runs, functools.partial(click.echo, err=True)), *verified_figures(runs)]
    owned = OwnedFiles(output, FILE_LIST)
    names = [f"{figure.name}{suffix}" for figure in drawn for suffix in PRINT_FORMATS]
    owned.refuse_foreign(names)
    output.mkdir(parents=True, exist_ok=True)
    owned.add(names)
    for figure in drawn:
        for path in save_for_print(figure.draw(), output / figure.name, figure.caption):
            click.echo(path)
