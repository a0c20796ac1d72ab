"""harness.load: predictions and attention of images as people have them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import harness
from harness.errors import ConfigError, DataError, HarnessError
from harness.explain.attention.capture import capture_rows
from harness.explain.attention.relevance import relevance
from harness.predict import Predictor, normalised
from harness.train import fit
from harness.trained import TrainedModel
from tests import ROOT
from tests.test_train import settings


@pytest.fixture(scope="module")
def run(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    patch = pytest.MonkeyPatch()
    home = tmp_path_factory.mktemp("loaded")
    patch.setenv("WANDB_MODE", "disabled")
    patch.setenv("HARNESS_CACHE_DIR", str(home / "cache"))
    folder = fit(settings(data_folder, home / "runs", epochs=1)).folder
    patch.undo()
    return folder


@pytest.fixture(scope="module")
def model(run: Path) -> TrainedModel:
    return harness.load(run)


@pytest.fixture(scope="module")
def files(data_folder: Path) -> list[Path]:
    return sorted((data_folder / "test").rglob("*.png"))


def test_importing_harness_imports_neither_torch_nor_numpy() -> None:
    code = "import harness, sys; print([name for name in ('torch', 'numpy', 'PIL', 'wandb') if name in sys.modules])"
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ended.stdout == "[]\n"


def test_predictions_are_those_of_the_command(model: TrainedModel, run: Path, files: list[Path]) -> None:
    predicted = model.predict(files)
    expected = list(Predictor(run).predict(files))
    np.testing.assert_array_equal(predicted.probabilities, np.stack([each.probabilities for each in expected]))
    assert predicted.probabilities.shape == (9, 3)
    assert predicted.labels == [predicted.classes[each.top(1)[0][0]] for each in expected]
    assert predicted.top(2)[4] == [(predicted.classes[index], value) for index, value in expected[4].top(2)]


def test_an_image_may_be_a_path_a_pillow_image_or_an_array(model: TrainedModel, files: list[Path]) -> None:
    path = files[0]
    expected = model.predict(path).probabilities
    assert expected.shape == (1, 3)
    opened = Image.open(path)
    array = np.asarray(opened.convert("RGB"))
    for image in (
        str(path),
        opened,
        array,
        [path],
        [
            opened,
        ],
        array[None],
    ):
        np.testing.assert_array_equal(model.predict(image).probabilities, expected)
    grey = np.asarray(opened.convert("L"))
    np.testing.assert_array_equal(
        model.predict(grey).probabilities, model.predict(np.dstack([grey, grey, grey])).probabilities
    )


def test_a_pillow_image_is_upright_and_on_white_as_files_are(
    model: TrainedModel, files: list[Path], tmp_path: Path
) -> None:
    layer = Image.open(files[0]).convert("RGBA")
    layer.putalpha(Image.fromarray(np.tile(np.arange(32, dtype=np.uint8) * 8, (32, 1))))
    exif = Image.Exif()
    exif[0x0112] = 6
    layer.save(tmp_path / "image.png", exif=exif)
    np.testing.assert_array_equal(
        model.predict(Image.open(tmp_path / "image.png")).probabilities,
        model.predict(tmp_path / "image.png").probabilities,
    )


def test_all_images_that_cannot_be_used_are_named(model: TrainedModel, tmp_path: Path, files: list[Path]) -> None:
    (tmp_path / "notes.jpg").write_text("text")
    truncated = tmp_path / "short.png"
    truncated.write_bytes(files[0].read_bytes()[:300])
    images = [files[0], tmp_path / "notes.jpg", np.zeros((4, 4)), Image.open(truncated)]
    with pytest.raises(DataError) as raised:
        model.predict(images)
    problems = raised.value.problems
    assert len(problems) == 3
    assert problems[0].startswith(f"{tmp_path / 'notes.jpg'} cannot be used: ")
    assert problems[1] == (
        "Image 3 cannot be used: an array of float64 (4, 4); it must be uint8, (height, width, 3) or (height, width)."
    )
    assert problems[2].startswith("Image 4 cannot be used: ")
    with pytest.raises(DataError, match="There are no images"):
        model.predict([])


def test_attention_is_the_models_own(model: TrainedModel, files: list[Path]) -> None:
    maps = model.attention(files, layer=2)
    predictor = model._predictor
    pixels = torch.from_numpy(maps.images)
    inputs = normalised(pixels, model.preprocessing, predictor.device)
    with torch.no_grad(), capture_rows(predictor.model) as rows:
        logits = predictor.model(inputs)
        expected = rows()[..., 1:].unflatten(-1, (4, 4)).cpu().numpy()
    np.testing.assert_allclose(maps.layers, expected.mean(2), atol=1e-3)  # kept in half precision
    np.testing.assert_allclose(maps.heads, expected[:, 1], atol=1e-3)
    by_relevance = relevance(predictor.model, inputs, logits.argmax(1)).unflatten(-1, (4, 4)).cpu().numpy()
    np.testing.assert_allclose(maps.relevance, by_relevance, rtol=2e-3, atol=1e-4)
    assert maps.rollout.shape == (9, 4, 4)
    assert list(maps.labels) == model.predict(files).labels


def test_a_map_is_laid_over_the_image(model: TrainedModel, files: list[Path]) -> None:
    maps = model.attention(files[:2])
    assert maps.layers.shape == (2, 6, 4, 4)
    shown = maps.over_image(1)
    assert (shown.shape, shown.dtype) == ((32, 32, 3), np.uint8)
    peak = np.zeros((4, 4))
    peak[2, 1] = 1
    lit = np.abs(maps.over_image(0, peak).astype(int) - maps.over_image(0, np.zeros((4, 4)))).sum(2) > 0
    assert lit[16:24, 8:16].mean() > 0.9
    assert not lit[:16].any()


def test_wrong_layers_and_folders_are_refused(model: TrainedModel, tmp_path: Path, files: list[Path]) -> None:
    with pytest.raises(ConfigError, match="layer is 7; vit_demo has layers 1 to 6"):
        model.attention(files[0], layer=7)
    with pytest.raises(HarnessError, match="holds no best checkpoint"):
        harness.load(tmp_path)
