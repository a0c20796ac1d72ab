"""The snippets of the guide to using a model, and the notebook, run as they stand."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from harness.demo import scenes
from harness.export.formats import FORMATS
from tests import ROOT
from tests.export.conftest import train

GUIDE = ROOT / "docs" / "guides" / "using-the-model.md"
NOTEBOOK = GUIDE.with_name("trained-model.ipynb")
SECTIONS = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", GUIDE.read_text(), re.DOTALL | re.MULTILINE))
CODE = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
SNIPPETS = {title: code[1] for title, text in SECTIONS.items() if (code := CODE.search(text))}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_each_library_has_a_snippet_of_five_lines_besides_imports() -> None:
    assert list(SNIPPETS) == ["timm", "transformers", "onnxruntime", "Gradio", "Python"]
    for code in SNIPPETS.values():
        assert len([line for line in code.splitlines() if line and not line.startswith(("import ", "from "))]) <= 5


def test_the_table_of_a_real_export_has_every_format_within_its_tolerance() -> None:
    rows = dict(re.findall(r"^\| `([\w-]+)` \| (\d+ of \d+ \| \S+ \| \S+) \|$", GUIDE.read_text(), re.MULTILINE))
    assert list(rows) == list(FORMATS)
    for name, row in rows.items():
        same, difference, f1 = row.split(" | ")
        alike, count = map(int, same.split(" of "))
        tolerance = FORMATS[name].tolerance
        assert count == 500 and count - alike <= tolerance.other_class * count
        assert float(difference) <= tolerance.probability and float(f1) >= 0.8048 - tolerance.f1


@pytest.fixture
def folder(exported: Path, run: Path, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the guide's reader is: the export, an image, and the run."""
    (tmp_path / "exported").symlink_to(exported)
    Image.open(shapes / "test" / "class 1" / "3.png").save(tmp_path / "image.jpg", quality=100)
    name = re.search(r'"runs/(\S+)"', SNIPPETS["Python"])
    assert name
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / name[1]).symlink_to(run)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path


def test_the_code_of_the_model_card_opens_every_format(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = (exported / "README.md").read_text()
    passed = re.findall(r"^\| ([\w-]+) \| `", card, re.MULTILINE)
    assert "timm" in passed and "onnx" in passed
    [code] = CODE.findall(card)
    monkeypatch.chdir(exported)
    names: dict[str, Any] = {}
    exec(code, names)
    assert names["model"].num_classes == names["classify"].model.config.num_labels == 3
    assert names["session"].get_outputs()[0].shape[1] == 3 and callable(names["transform"])


@pytest.mark.parametrize("library", SNIPPETS)
def test_the_snippet_runs(library: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if library != "Python":
        pytest.importorskip(library.lower(), reason=f"{library} is not installed: pip install -e '.[dev,demo]'")
    names: dict[str, object] = {}
    exec(SNIPPETS[library], names)
    if library != "Gradio":
        assert re.search(r"class [012]", capsys.readouterr().out)
    if library == "Python":
        assert names["shown"].shape == (32, 32, 3)  # type: ignore[attr-defined]


def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    assert not any(cell.get("outputs") for cell in cells)
    scenes.write(tmp_path / "scenes")
    run = train(tmp_path / "scenes", tmp_path)
    assert run.is_relative_to(tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    capsys.readouterr()  # what the training printed
    names: dict[str, object] = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)
    assert len(capsys.readouterr().out.splitlines()) == 4
    assert names["maps"].layers.shape[:2] == (4, 6)  # type: ignore[attr-defined]
    assert os.fspath(names["run"]) == os.fspath(run.relative_to(tmp_path))  # type: ignore[arg-type]
