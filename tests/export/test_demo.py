"""The demo page that lies in an export, without a browser."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image

from harness.explain.attention.capture import capture_rows
from harness.predict import Predictor

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def demo(exported: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("exported_demo", exported / "demo.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_is_short(exported: Path) -> None:
    assert len((exported / "demo.py").read_text().splitlines()) <= 40


def test_it_shows_the_runs_probabilities_and_attention(demo: ModuleType, run: Path, shapes: Path) -> None:
    file = shapes / "test" / "class 1" / "3.png"
    probabilities, shown = demo.explain(Image.open(file))
    predictor = Predictor(run)
    [expected] = predictor.predict([file])
    assert list(probabilities) == list(predictor.classes)
    np.testing.assert_allclose(list(probabilities.values()), expected.probabilities, atol=1e-4)

    pixels = demo.transform(Image.open(file))
    with torch.no_grad(), capture_rows(predictor.model) as rows:
        predictor.model(pixels[None].to(predictor.device))
        attention = rows()[0, -1, :, 1:].mean(0).view(4, 4).cpu()
    red = torch.tensor([1, 0.1, 0.1])
    share = 0.6 * (attention / attention.max()).repeat_interleave(8, 0).repeat_interleave(8, 1)[..., None]
    std, mean = (torch.tensor(demo.config[name]) for name in ("std", "mean"))
    image = pixels.permute(1, 2, 0) * std + mean
    overlay = (image.clamp(0, 1) * (1 - share) + red * share) * 255
    np.testing.assert_allclose(shown.astype(float), overlay.numpy(), atol=1.01)


def test_gradio_builds_the_page(demo: ModuleType, shapes: Path) -> None:
    pytest.importorskip("gradio", reason="gradio is not installed: pip install 'vit-harness[demo]'")
    page = demo.page()
    assert [type(part).__name__ for part in page.output_components] == ["Label", "Image"]
    assert page.fn is demo.explain
