"""The command, from a run to a folder: every format opened by its own library, wrong ones refused."""

from __future__ import annotations

import errno
import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from click.testing import CliRunner
from PIL import Image

from harness.cli import main
from harness.export import export as export_module
from harness.export.agreement import agreement_of, problem_with, scored
from harness.export.formats import FORMATS, parse_formats
from harness.export.library_files import write_hugging_face, write_timm
from harness.export.reference import Reference, reference_of
from harness.training.checkpoint import BestCheckpoint
from tests.export.conftest import export, write_shapes

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

Ended = tuple[subprocess.CompletedProcess[str], Path]


@pytest.fixture(scope="module")
def compared(run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[BestCheckpoint, Reference]:
    best, _, reference = reference_of(run, None, str(tmp_path_factory.mktemp("cache")), lambda _: None)
    return best, reference


def test_formats_that_agree_are_written_and_said(ended: Ended) -> None:
    process, folder = ended
    lines = dict(line.split(": ", 1) for line in process.stdout.splitlines() if ": " in line)
    for name in ("timm", "hf", "onnx"):
        assert lines[name].startswith("21 of 21 the same class, largest |difference of probability| "), process.stderr
        assert float(lines[name].split("| ")[1].split(",")[0]) <= 1e-4
    f1 = lines["timm"].split("macro F1 ")[1][:6]
    assert lines["onnx"].split("macro F1 ")[1][:6] == f1
    assert sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()) == [
        "README.md",
        "config.json",
        "demo.py",
        "model.safetensors",
        "onnx/model.onnx",
        "onnx/model_int8.onnx",
        "onnx/preprocess.py",
    ]
    assert lines["Exported"] == str(folder)
    assert [path.name for path in folder.parent.iterdir() if path.name.startswith(".exported")] == []


def test_what_opens_differently_is_counted_apart(ended: Ended) -> None:
    """The large JPEG and the transparent image; not the one that EXIF turns."""
    assert "Pillow opens 2 of the images with other pixels than the run had" in ended[0].stdout
    assert "Pillow's `Image.open` gives 2 of these images other pixels" in (ended[1] / "README.md").read_text()


def test_a_format_that_cuts_one_pixel_off_is_not_written(ended: Ended) -> None:
    process, folder = ended
    assert process.returncode == 1
    [problem] = process.stderr.splitlines()[-1:]
    assert problem.startswith("Error: hf-vit is not written: scored from the exported files by transformers, ")
    assert "cut the centre of 4 of 21 images one pixel off; --to hf does not" in problem
    assert not (folder / "hf-vit").exists()


@pytest.mark.usefixtures("forked_scoring")
def test_square_images_are_written_for_transformers_alone(run: Path, tmp_path: Path) -> None:
    data = write_shapes(tmp_path / "square", ((40, 40), (64, 64)))
    command = ["export", str(run), "-o", str(tmp_path / "out"), "--to", "hf-vit", "--data", str(data)]
    result = CliRunner().invoke(main.main, command)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith("hf-vit: 6 of 6 the same class")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["README.md", "hf-vit"]


def edit(file: Path, **changes: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@pytest.mark.usefixtures("forked_scoring")
def test_a_squashing_transform_is_caught(compared: tuple[BestCheckpoint, Reference], tmp_path: Path) -> None:
    best, reference = compared
    write_timm(tmp_path, best.config.model, best.model, best.classes, best.preprocessing)
    form = FORMATS["timm"]
    right = agreement_of(reference, scored(form, tmp_path, reference))
    assert problem_with(form, right, reference) == ""
    config = json.loads((tmp_path / "config.json").read_text())
    edit(tmp_path / "config.json", pretrained_cfg=config["pretrained_cfg"] | {"crop_mode": "squash"})
    wrong = agreement_of(reference, scored(form, tmp_path, reference))
    assert wrong.largest_difference > 0.01 > 1e-4 > right.largest_difference
    assert "a probability differs by" in problem_with(form, wrong, reference)


@pytest.mark.usefixtures("forked_scoring")
def test_a_processor_that_resizes_to_a_square_is_caught(
    compared: tuple[BestCheckpoint, Reference], tmp_path: Path
) -> None:
    """ViTImageProcessor, which transformers has for its ViT by default."""
    best, reference = compared
    write_hugging_face(tmp_path / "hf-vit", best.config.model, best.model, best.classes, best.preprocessing)
    size = {"height": 32, "width": 32}
    edit(
        tmp_path / "hf-vit" / "preprocessor_config.json",
        image_processor_type="ViTImageProcessor",
        size=size,
        do_center_crop=False,
    )
    form = FORMATS["hf-vit"]
    wrong = agreement_of(reference, scored(form, tmp_path, reference))
    assert wrong.largest_difference > 0.01
    assert problem_with(form, wrong, reference).startswith("hf-vit is not written: ")


@pytest.mark.usefixtures("forked_scoring")
def test_nothing_is_left_of_formats_that_all_fail(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def with_wrong_mean(folder: Path, *arguments: object) -> None:
        write_timm(folder, *arguments)  # type: ignore[arg-type]
        config = json.loads((folder / "config.json").read_text())
        edit(folder / "config.json", pretrained_cfg=config["pretrained_cfg"] | {"mean": [0.0, 0.0, 0.0]})

    monkeypatch.setattr(export_module, "write_timm", with_wrong_mean)
    result = CliRunner().invoke(main.main, ["export", str(run), "--to", "timm", "-o", str(tmp_path / "out")])
    assert result.exit_code == 1
    [problem] = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert problem.startswith("Error: timm is not written: scored from the exported files by timm, a probability ")
    assert "Exported" not in result.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("forked_scoring")
def test_files_that_a_library_cannot_open_are_one_sentence(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_module, "write_timm", lambda folder, *_: (folder / "config.json").write_text("{"))
    result = CliRunner().invoke(main.main, ["export", str(run), "--to", "timm", "-o", str(tmp_path / "out")])
    assert result.exit_code == 1
    [problem] = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert problem.startswith("Error: timm is not written: timm cannot score the exported files: ")
    assert "Traceback" not in result.stderr


def test_a_model_that_torch_cannot_export_is_one_sentence_and_the_other_formats_are_written(
    compared: tuple[BestCheckpoint, Reference], run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("timm")

    def fails(*_: object, **__: object) -> None:
        try:
            raise ValueError("Cannot view a tensor")
        except ValueError as error:
            raise RuntimeError("\n# a page of advice") from error

    monkeypatch.setattr(torch.onnx, "export", fails)
    monkeypatch.setattr(export_module, "scored", lambda *_: compared[1].opened)
    result = CliRunner().invoke(main.main, ["export", str(run), "--to", "timm,onnx", "-o", str(tmp_path / "out")])
    assert result.exit_code == 1
    [problem] = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert problem.startswith("Error: onnx is not written: torch ")
    assert problem.endswith(" cannot export the model (Cannot view a tensor).")
    assert not (tmp_path / "out" / "onnx").exists() and (tmp_path / "out" / "model.safetensors").is_file()


def test_a_full_disk_is_one_sentence_and_leaves_nothing(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch.onnx, "export", fails)
    result = CliRunner().invoke(main.main, ["export", str(run), "--to", "onnx", "-o", str(tmp_path / "out")])
    assert result.exit_code == 1
    assert f"Error: No space left to save {tmp_path / 'out'}." in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_the_user_is_not_touched(run: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("kept")
    result = CliRunner().invoke(main.main, ["export", str(run), "--to", "timm", "-o", str(tmp_path / "out")])
    assert result.exit_code == 1
    assert "exists already and is not an empty folder. Give a new one." in result.stderr
    assert (tmp_path / "out" / "mine.txt").read_text() == "kept"


def test_the_current_folder_is_refused_before_any_work(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(export_module, "reference_of", lambda *_: pytest.fail("work was done"))
    result = CliRunner().invoke(main.main, ["export", str(run), "--to", "timm", "-o", "."])
    assert result.exit_code == 1
    assert "-o . is the current folder, which cannot be replaced. Give a new one." in result.stderr


def test_unknown_formats_and_missing_packages_are_named_together(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    command = ["export", str(run), "--to", "timm,keras", "-o", str(tmp_path / "out")]
    result = CliRunner().invoke(main.main, command)
    assert result.exit_code == 2
    assert result.stderr.splitlines() == [
        "Error: --to names keras; it must be one or more of timm, hf, hf-vit, onnx, onnx-int8, with commas between.",
        "Error: --to timm needs timm, to score the files as their users would: pip install 'vit-harness[timm]'.",
    ]
    assert [form.name for form in FORMATS.values()] == list(FORMATS)


def test_formats_are_taken_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    assert [form.name for form in parse_formats("onnx, timm,onnx,")] == ["onnx", "timm"]


def test_timm_opens_the_folder(exported: Path, compared: tuple[BestCheckpoint, Reference]) -> None:
    import timm

    best, _ = compared
    model = timm.create_model(f"local-dir:{exported}", pretrained=True).eval()
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(model(images), best.model.eval().cpu()(images), atol=1e-5, rtol=1e-5)
    assert model.pretrained_cfg["label_names"] == list(best.classes)


@pytest.mark.parametrize("element", ["float", "uint8"])
def test_onnx_takes_any_batch_and_its_input_is_described(
    element: str, run: Path, exported: Path, compared: tuple[BestCheckpoint, Reference], tmp_path: Path
) -> None:
    import onnxruntime

    best, _ = compared
    if element == "uint8":
        process = export(run, tmp_path / "out", "--to", "onnx", "--onnx-input", "uint8")
        assert process.returncode == 0, process.stderr
        exported = tmp_path / "out"
    session = onnxruntime.InferenceSession(exported / "onnx" / "model.onnx")
    about = session.get_modelmeta().custom_metadata_map
    rule = json.loads(about["preprocessing"])
    assert json.loads(about["classes"]) == list(best.classes)
    assert (rule["resize_size"], rule["crop_size"], rule["interpolation"]) == (37, 32, "bilinear")
    assert rule["input"] == {"float": "float32", "uint8": "uint8"}[element]
    generator = np.random.default_rng(0)
    mean, std = (np.float32(values).reshape(3, 1, 1) for values in (best.preprocessing.mean, best.preprocessing.std))
    for count in (1, 2, 5):
        pixels = generator.integers(0, 256, (count, 3, 32, 32)).astype(np.uint8)
        normalised = (pixels.astype(np.float32) / 255 - mean) / std
        [logits] = session.run(None, {"images": pixels if element == "uint8" else normalised})
        with torch.no_grad():
            expected = best.model.eval().cpu()(torch.from_numpy(normalised)).numpy()
        np.testing.assert_allclose(logits, expected, atol=1e-4)


def test_the_card_has_metadata_and_scores(ended: Ended, run: Path) -> None:
    text = (ended[1] / "README.md").read_text()
    _, block, body = text.split("---\n", 2)
    metadata = yaml.safe_load(block)
    summary = json.loads((run / "summary.json").read_text())
    [results] = metadata["model-index"][0]["results"]
    assert results["metrics"][0]["value"] == summary["test/f1"]
    assert (metadata["library_name"], metadata["pipeline_tag"]) == ("timm", "image-classification")
    assert "license" not in metadata  # this run has no start weights
    assert {"timm", "hf", "onnx", "onnx-int8"} < set(metadata["tags"])
    assert f"| test macro F1 | {summary['test/f1']:.4f} | {summary['test/f1_low']:.4f} to " in body
    assert json.loads((run / "manifest.json").read_text())["data"]["fingerprint"] in body
    assert "hf-vit" not in text


def test_an_image_by_the_pipeline_has_the_class_names_of_the_run(exported: Path, shapes: Path) -> None:
    from transformers import pipeline

    classify = pipeline("image-classification", str(exported))
    answer = classify(Image.open(shapes / "test" / "class 1" / "3.png"))
    assert {entry["label"] for entry in answer} == {"class 0", "class 1", "class 2"}
