"""A run on images of many shapes and kinds, and its export by the command itself."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from harness.cli import main
from harness.export import agreement, scoring
from harness.train import fit
from tests import ROOT
from tests.helpers.forked import run_captured
from tests.test_train import settings

# Width and height; what is left of each beside a crop of 32 from a short side of 37 is odd, even and 3 more than a
# multiple of 4, where transformers rounds otherwise than torchvision.
SHAPES = ((37, 37), (37, 43), (52, 40), (64, 41), (48, 100), (80, 80))
BARE = ROOT / "tests" / "helpers" / "bare"
FORMATS = "timm,hf,hf-vit,onnx,onnx-int8"


def write_shapes(root: Path, shapes: tuple[tuple[int, int], ...] = SHAPES) -> Path:
    """Three classes by colour; in test also a large JPEG, a transparent image and one that EXIF turns."""
    for number, split in enumerate(("train", "valid", "test")):
        for hue in range(3):
            folder = root / split / f"class {hue}"
            folder.mkdir(parents=True)
            generator = np.random.default_rng([number, hue])
            for index, (width, height) in enumerate(shapes):
                pixels = generator.integers(0, 160, (height, width, 3)).astype(np.uint8)
                pixels[: height // 3, :, hue] += 90
                Image.fromarray(pixels).save(folder / f"{index}.png")
    return root


def add_odd_kinds(folder: Path) -> None:
    """Files of which Pillow's plain `open` gives other pixels than the program, and one that EXIF turns."""
    generator = np.random.default_rng(5)
    smooth = np.kron(generator.integers(0, 255, (10, 8, 3)), np.ones((40, 40, 1))).astype(np.uint8)
    Image.fromarray(smooth).save(folder / "large.jpg")
    layer = np.dstack([smooth[:60, :60], np.where(np.indices((60, 60)).sum(0) % 3, 255, 0).astype(np.uint8)])
    Image.fromarray(layer).save(folder / "transparent.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(smooth[:50, :70]).save(folder / "turned.png", exif=exif)


def train(data: Path, home: Path) -> Path:
    patch = pytest.MonkeyPatch()
    patch.setenv("WANDB_MODE", "disabled")
    patch.setenv("HARNESS_CACHE_DIR", str(home / "cache"))
    try:
        return fit(settings(data, home / "runs", lr=3e-3, epochs=3, image_size=32, crop_pct=0.875)).folder
    finally:
        patch.undo()


def export(run: Path, output: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `harness export` in a forked process, because torch's ONNX exporter leaves threads running.

    The processes that score the exported files are new ones, in a bare environment.
    """
    home = output.parent
    path = os.pathsep.join((str(BARE), str(ROOT)))

    def work() -> None:
        os.environ.update(HARNESS_CACHE_DIR=str(home / "cache"), HOME=str(home), PYTHONPATH=path)
        main.main(["export", str(run), "-o", str(output), *arguments])

    return run_captured("export", work)


@pytest.fixture
def forked_scoring(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores come from a fork of this process, which has imported the libraries: that takes a new one seconds."""
    pytest.importorskip("transformers").pipeline  # noqa: B018 (it is imported when it is asked for)

    def run_script(command: list[str], *, env: Mapping[str, str], **_: Any) -> subprocess.CompletedProcess[str]:
        def work() -> None:
            os.environ.update(env)
            sys.argv = command[command.index(scoring.__file__) :]
            runpy.run_path(sys.argv[0], run_name="__main__")

        return run_captured("scoring", work)

    monkeypatch.setattr(agreement, "subprocess", SimpleNamespace(run=run_script))


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data whose images have many shapes; not to be written to."""
    root = write_shapes(tmp_path_factory.mktemp("shapes"))
    add_odd_kinds(root / "test" / "class 0")
    return root


@pytest.fixture(scope="session")
def run(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on `shapes`; not to be written to."""
    return train(shapes, tmp_path_factory.mktemp("trained"))


@pytest.fixture(scope="session")
def ended(run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess[str], Path]:
    """All formats of that run: how the command ended, and the folder."""
    for package in ("timm", "transformers", "onnx", "onnxruntime", "onnxscript"):
        pytest.importorskip(package, reason=f"{package} is not installed: pip install -e '.[dev]'")
    output = tmp_path_factory.mktemp("exports") / "exported"
    return export(run, output, "--to", FORMATS), output


@pytest.fixture(scope="session")
def exported(ended: tuple[subprocess.CompletedProcess[str], Path]) -> Path:
    return ended[1]
