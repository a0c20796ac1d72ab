"""The figures of the study from run folders, by the command that draws them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from harness.cli.figures import FILE_LIST
from harness.cli.main import main
from harness.config import RunConfig
from harness.explain.archive import write_archive
from harness.explain.drawing import study_figures as drawing
from harness.explain.drawing.sprites import draw_sprites
from harness.explain.drawing.study_figures import study_figures
from harness.runs import figures
from harness.runs.folder import BEST
from harness.training.checkpoint import save_best
from tests.helpers.built_models import loaded_model
from tests.helpers.explained import made_up_archive, made_up_positions, plain_images

pytestmark = pytest.mark.figures

NAMES = ["1_loss_curves", "2_positions_worst", "3_positions_best", "4_layers", "5_heads", "6_combined"]


def run_folder(path: Path, lr: float, f1: float, *, maps: bool = True) -> Path:
    path.mkdir(parents=True)
    config = {"lr": lr, "batch_size": 16, "augment": "none", "data": "data/sports", "model": "vit_demo"}
    (path / "config.json").write_text(json.dumps(config))
    (path / "summary.json").write_text(json.dumps({"state": "finished", "best/val_f1": f1}))
    rows = [{"step": 1, "epoch": 1, "train/loss": 2.0}, {"step": 1, "epoch": 1, "val/loss": 1.5, "val/f1": f1}]
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if maps:
        seen = made_up_archive()
        write_archive(path / "attention" / "attention.npz", seen)
        write_archive(path / "attention" / "positions.npz", made_up_positions())
        images = plain_images(seen)
        draw_sprites(seen, lambda index: images[index], path / "attention" / "sprites")
    return path


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    run_folder(tmp_path / "runs" / "good", 1e-4, 0.9)
    run_folder(tmp_path / "runs" / "bad", 1e-1, 0.1)
    return tmp_path / "runs"


def test_every_figure_is_there_as_png_pdf_svg_and_caption(runs: Path, tmp_path: Path) -> None:
    output = tmp_path / "figures"
    result = CliRunner().invoke(main, ["figures", str(runs), "--study", "-o", str(output)])
    assert result.exit_code == 0, result.output
    expected = sorted(f"{name}.{kind}" for name in NAMES for kind in ("png", "pdf", "svg", "txt"))
    written = sorted(path.name for path in output.iterdir())
    assert written == [FILE_LIST, *expected]
    for name in NAMES:
        with Image.open(output / f"{name}.png") as image:
            assert image.width > 1000 and len(np.unique(np.asarray(image.convert("L")))) > 10
        assert (output / f"{name}.pdf").read_bytes().startswith(b"%PDF")
        assert ElementTree.parse(output / f"{name}.svg").getroot().tag == "{http://www.w3.org/2000/svg}svg"
    assert "lr 0.1, batch 16" in (output / "2_positions_worst.txt").read_text()
    assert "lr 0.0001, batch 16" in (output / "3_positions_best.txt").read_text()
    # Image 4 is the surest of those classified correctly.
    assert "bee/4.png, predicted bee with 86 %" in (output / "4_layers.txt").read_text()


def test_a_run_with_a_checkpoint_has_a_figure_of_its_filters(runs: Path) -> None:
    vit = loaded_model("vit_demo", num_classes=3, weights="none", image_size=32)
    config = RunConfig(data="sports", model="vit_demo", weights="none", image_size=32)
    (runs / "good" / "checkpoints").mkdir()
    best = runs / "good" / "checkpoints" / BEST
    save_best(best, vit.model.state_dict(), config, ("ant", "bee", "cat"), vit.preprocessing, {})
    *_, last = study_figures(runs)
    assert last.name == "7_inside" and "lr 0.0001, batch 16" in last.caption
    assert [axes.get_title().split("\n")[0] for axes in last.draw().axes if axes.get_title()] == [
        "patch projection:",
        "position embeddings:",
        "attention distance",
    ]


def test_a_damaged_checkpoint_loses_only_its_own_figure(runs: Path, tmp_path: Path) -> None:
    (runs / "good" / "checkpoints").mkdir()
    (runs / "good" / "checkpoints" / BEST).write_bytes(b"damaged")
    output = tmp_path / "figures"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "save_for_print", lambda _, path, __: [path])
        result = CliRunner().invoke(main, ["figures", str(runs), "--study", "-o", str(output)])
    assert result.exit_code == 0, result.output
    assert result.stdout.split() == [str(output / name) for name in NAMES]
    assert result.stderr.startswith("The figure 7_inside is not drawn: ") and "is damaged" in result.stderr


def test_filters_without_colours_are_not_drawn(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (runs / "good" / "checkpoints").mkdir()
    (runs / "good" / "checkpoints" / BEST).touch()
    vit = loaded_model("vit_demo", num_classes=3, weights="none", image_size=32).model
    vit.conv_proj = torch.nn.Conv2d(24, vit.hidden_dim, 1)
    monkeypatch.setattr(drawing, "load_best", lambda _: SimpleNamespace(model=vit))
    said: list[str] = []
    assert [figure.name for figure in study_figures(runs, said.append)] == NAMES
    assert said == [
        "The figure 7_inside is not drawn: filters of 24 channels have no colour; it needs those of 3 (RGB)."
    ]


def test_one_run_is_not_drawn_as_the_worst_and_the_best(runs: Path) -> None:
    shutil.rmtree(runs / "bad" / "attention")
    said: list[str] = []
    assert [figure.name for figure in study_figures(runs, said.append)] == [NAMES[0], *NAMES[2:]]
    assert said == ["The figure 2_positions_worst is not drawn: only one run has position embeddings."]


def test_the_loss_curves_are_those_of_the_runs(runs: Path) -> None:
    first = next(study_figures(runs))
    [axes] = first.draw().axes
    lines = {line.get_label(): line.get_ydata().tolist() for line in axes.lines if "lr" in str(line.get_label())}
    assert lines == {
        "lr 0.0001, batch 16, augmentation none": [1.5],
        "lr 0.1, batch 16, augmentation none": [1.5],
    }
    assert "of 2 runs on sports with vit_demo" in first.caption


@pytest.mark.parametrize(
    ("arguments", "message"),
    [([], "Name the figures: --study."), (["--study"], "holds no finished run")],
)
def test_missing_runs_and_options_are_named(tmp_path: Path, arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(main, ["figures", str(tmp_path), "-o", str(tmp_path / "out"), *arguments])
    assert result.exit_code != 0 and message in result.output


def test_runs_without_maps_are_named(tmp_path: Path) -> None:
    run_folder(tmp_path / "runs" / "plain", 1e-4, 0.9, maps=False)
    result = CliRunner().invoke(main, ["figures", str(tmp_path / "runs"), "--study", "-o", str(tmp_path / "out")])
    assert result.exit_code == 1 and "has attention maps" in result.output
