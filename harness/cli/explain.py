"""`harness explain ...`: parse, call, print. Heavy imports stay inside the command."""

from __future__ import annotations

from pathlib import Path

import click

from harness.errors import ConfigError, printable
from harness.options import SETTINGS
from harness.settings.model import MODELS, TIMM_MODEL


@click.command(context_settings=SETTINGS, short_help="Draw attention maps of test images, or of other images.")
@click.argument("words", metavar="RUN [IMAGE...]", nargs=-1, type=click.Path(path_type=Path))
@click.option("--layer", type=click.IntRange(1), help="Layer whose heads are drawn one by one. [default: the last]")
@click.option("--redraw", is_flag=True, help="Draw again from the saved arrays, without the model.")
@click.option(
    "--weights", help="Explain these weights instead of a run: a file, or the name of published weights of --model."
)
@click.option("--model", metavar=f"[{'|'.join(MODELS)}|timm:NAME]", help="Architecture of --weights.")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    help="Folder to write to. [default: attention/ of the run, or ./attention]",
)
@click.option("--data", "data_folder", type=click.Path(), help="Data folder with the test images. [default: the run's]")
@click.option("--cache-dir", type=click.Path(), help="Folder for decoded images.")
def explain(
    words: tuple[Path, ...],
    layer: int | None,
    redraw: bool,
    weights: str | None,
    model: str | None,
    output: Path | None,
    data_folder: str | None,
    cache_dir: str | None,
) -> None:
    """Draw attention maps by layer, by head and over all layers, of RUN's test images or of other images.

    IMAGE is an image, a folder (all images in it and below it but hidden ones) or a pattern such as 'holiday/*.jpg'.
    With --weights and --model, leave RUN out.

    \b
    Examples:
      harness explain runs/lr1e-05_bs16_none_s0-1a2b3c4d
      harness explain runs/lr1e-05_bs16_none_s0-1a2b3c4d holiday/ --layer 6
      harness explain runs/lr1e-05_bs16_none_s0-1a2b3c4d --redraw
      harness explain --weights deit_tiny.pth --model vit_ti_16 holiday/ --output holiday_attention
    """
    _refuse(words, layer, redraw, weights, model)
    from harness.explain import standalone
    from harness.explain.output_folder import OutputFolder
    from harness.runs.folder import check_exists

    if not weights:
        check_exists(words[0])
    images = words if weights else words[1:]
    if output or weights:
        place = OutputFolder.named(output or Path("attention"))
    else:
        place = OutputFolder.of_run_images(words[0]) if images else OutputFolder.of_run(words[0])
    place.open()  # refuses a folder with files of the user before any work
    if redraw:
        standalone.redraw(place, data_folder, _say)
        _say(f"Drawn again: {place.path}")
        return
    if weights:
        assert model
        predictions = standalone.explain_images_with_weights(weights, model, images, place, layer, _say)
    elif images:
        predictions = standalone.explain_images_with_run(words[0], images, place, layer, _say)
    else:
        standalone.explain_run(words[0], place, layer, data_folder, cache_dir, _say)
        predictions = []
    for path, top in predictions:
        classes = ", ".join(f"{printable(name)} {probability:.1%}" for name, probability in top)
        click.echo(f"{printable(path)}: {classes}")


def _say(sentence: str) -> None:
    click.echo(printable(sentence))


def _refuse(words: tuple[Path, ...], layer: int | None, redraw: bool, weights: str | None, model: str | None) -> None:
    problems = []
    if not words and not (weights and redraw):
        what = "the images to explain" if weights else "a run (and images), or --weights, --model and images"
        problems.append(f"Name {what}.")
    if bool(weights) != bool(model) and not redraw:
        problems.append("--weights and --model go together: a weights file does not name its architecture.")
    if model and model not in MODELS and not TIMM_MODEL.fullmatch(model):
        problems.append(f"--model is {model!r}; it must be one of {', '.join(MODELS)}, or timm:NAME.")
    if redraw and layer:
        problems.append(
            "--layer cannot be chosen with --redraw: only the heads of one layer are saved. Leave one option out."
        )
    if problems:
        raise ConfigError(problems)
