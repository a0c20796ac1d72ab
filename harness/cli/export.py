"""`harness export`: a run as files of other libraries. Heavy imports stay inside the command."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from harness.errors import printable
from harness.options import SETTINGS


@click.command(context_settings=SETTINGS, short_help="Export a run to timm, transformers or ONNX, and check it.")
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--to",
    "formats",
    default="timm,hf",
    show_default=True,
    metavar="FORMAT,...",
    help="timm: timm.create_model. hf: the same files in transformers, which then needs timm. hf-vit: transformers' "
    "ViTForImageClassification, without timm. onnx: a graph with dynamic batch. onnx-int8: with weights of 8 bits.",
)
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="New folder to write.")
@click.option(
    "--onnx-input",
    type=click.Choice(["float", "uint8"]),
    default="float",
    show_default=True,
    help="Input of the ONNX graph: normalised floats, or pixels from 0 to 255, normalised inside the graph.",
)
@click.option("--push", "repository", metavar="REPO", help="Then upload to this repository of the Hugging Face hub.")
@click.option("--data", "data_folder", help="Data folder with the test images. [default: the run's]")
@click.option("--cache-dir", type=click.Path(), help="Folder for decoded images.")
def export(
    run: Path,
    formats: str,
    output: Path,
    onnx_input: str,
    repository: str | None,
    data_folder: str | None,
    cache_dir: str | None,
) -> None:
    """Write the best checkpoint of RUN as a folder that other libraries open, with a model card and a demo page.

    Every format is checked: a fresh process opens the exported files with that library and scores the whole test
    split by the files' own preprocessing. A format whose probabilities differ from the run's by more than rounding
    explains is not written, and the exit code is 1. For onnx-int8, macro F1 may be lower by 0.02.

    \b
    Examples:
      harness export runs/lr1e-05_bs16_none_s0-1a2b3c4d -o exported
      harness export runs/lr1e-05_bs16_none_s0-1a2b3c4d --to timm,hf,onnx,onnx-int8 -o exported
      harness export runs/lr1e-05_bs16_none_s0-1a2b3c4d -o exported --push USER/REPO
    """
    from harness.export.export import CARD, export_run
    from harness.export.formats import parse_formats
    from harness.export.hub import check_hub, push
    from harness.export.onnx_file import FLOAT, UINT8
    from harness.runs.folder import check_exists

    check_exists(run)
    chosen = parse_formats(formats)
    if repository:
        check_hub(repository)
    element = UINT8 if onnx_input == "uint8" else FLOAT
    problems = export_run(run, chosen, output, element, data_folder, cache_dir, _say)
    for problem in problems:
        click.echo(f"Error: {printable(problem)}", err=True)
    if (output / CARD).is_file():
        click.echo(f"Exported: {printable(output)}")
    if problems:
        sys.exit(1)
    if repository:
        click.echo(f"Uploaded: {push(output, repository)}")


def _say(sentence: str) -> None:
    click.echo(printable(sentence))
