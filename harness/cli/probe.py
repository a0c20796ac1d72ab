"""`harness probe`: a linear probe of one or more backbones, in a table."""

from __future__ import annotations

import dataclasses
import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.config import RunConfig
from harness.errors import printable
from harness.settings.model import MODELS
from harness.settings.option import option_name

if TYPE_CHECKING:
    from harness.probe.backbones import BackboneResult

COLUMNS = ("backbone", "validation F1", "test F1", "95 % interval", "test accuracy", "C", "features", "fit")


@click.command(short_help="Score a linear classifier on the features of frozen models.")
@click.option("--data", required=True, type=click.Path(), help="Folder with train/, valid/ and test/, as for training.")
@click.option(
    "--model",
    "models",
    multiple=True,
    default=("vit_b_16",),
    show_default=True,
    metavar=f"[{'|'.join(MODELS)}|timm:NAME]",
    help="Backbone; repeat the option to compare several.",
)
@click.option(
    "--weights",
    "weights",
    multiple=True,
    help="Weights, as for training: one for all models, or one for each. [default: each model's first named ones]",
)
@click.option("--image-size", type=int, help="Side of the input, in pixels. [default: from the weights]")
@click.option(
    "--bad-images", type=click.Choice(("fail", "skip")), default="fail", show_default=True, help="As for training."
)
@click.option("--cache-dir", type=click.Path(), help="Folder for decoded images and features.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per backbone instead of a table.")
def probe(models: tuple[str, ...], weights: tuple[str, ...], as_json: bool, **settings: Any) -> None:
    """Score a linear classifier on the features of frozen backbones: which weights suit these images?

    Takes one forward pass per image and no training. The L2 strength is chosen on the validation images; the test
    images are scored once. Features are cached, so a second call and runs with --head-init probe reuse them.

    \b
    Examples:
      harness probe --data data/sports100
      harness probe --data data/sports100 --model vit_b_16 --model vit_b_32
      harness probe --data data/sports100 --model vit_ti_16 --weights deit_tiny.pth
    """
    from harness.probe.backbones import pair_with_weights, probe_backbones

    configs = [
        RunConfig(model=model, weights=path, **settings).resolved()
        for model, path in pair_with_weights(models, weights)
    ]
    results = []
    for result in probe_backbones(configs):
        results.append(result)
        if as_json:
            click.echo(json.dumps(_numbers(result)))
    if not as_json:
        click.echo(_table(results, settings))


def _numbers(result: BackboneResult) -> dict[str, Any]:
    return {
        "model": result.model,
        "weights": result.weights,
        "val/f1": result.val.f1,
        "val/accuracy": result.val.accuracy,
        "val/loss": result.val.loss,
        "test/f1": result.test.f1,
        "test/f1_low": result.test_intervals.f1_low,
        "test/f1_high": result.test_intervals.f1_high,
        "test/accuracy": result.test.accuracy,
        "test/n": result.test.n,
        "inverse_strength": result.inverse_strength,
        "seconds/features": result.feature_seconds,
        "seconds/fit": result.fit_seconds,
    }


def _table(results: list[BackboneResult], settings: dict[str, Any]) -> str:
    """One row per backbone, best validation F1 first, and the command that fine-tunes the best."""
    from harness.runs.console import aligned

    ranked = sorted(results, key=lambda result: -result.val.f1)
    rows = [
        (
            printable(f"{result.model} {Path(result.weights).name}"),
            f"{result.val.f1:.4f}",
            f"{result.test.f1:.4f}",
            f"{result.test_intervals.f1_low:.4f} to {result.test_intervals.f1_high:.4f}",
            f"{result.test.accuracy:.4f}",
            f"{result.inverse_strength:g}",
            f"{result.feature_seconds:.1f} s",
            f"{result.fit_seconds:.1f} s",
        )
        for result in ranked
    ]
    best, place = ranked[0], Path(settings["data"]).absolute().name
    defaults = {field.name: field.default for field in dataclasses.fields(RunConfig)}
    given = {name: value for name, value in settings.items() if value != defaults[name]}
    chosen = {**given, "model": best.model, "weights": best.weights, "head_init": "probe"}
    command = [
        "harness",
        "train",
        *(word for name, value in chosen.items() for word in (option_name(name), str(value))),
    ]
    return "\n".join(
        [
            f"Linear probe on {printable(place)}: macro F1, {best.val.n} validation and "
            f"{best.test.n} test images, {len(best.test.support)} classes",
            *aligned([COLUMNS, *rows]),
            "",
            "Fine-tune the best by validation F1, starting from its probe:",
            f"  {printable(shlex.join(command))}",
        ]
    )
