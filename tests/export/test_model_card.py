from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import yaml

from harness.export.agreement import Agreement
from harness.export.caveats import caveats_of
from harness.export.formats import FORMATS
from harness.export.licences import LICENCES, licence_of, name_of
from harness.export.model_card import model_card
from harness.predict import best_of
from harness.runs.evidence_file import HOLDS, Claim
from harness.runs.folder import RunFolder
from harness.runs.resampling import Interval
from harness.settings.model import NAMED_WEIGHTS

AGREEMENT = Agreement(21, 21, 3e-6, 0.7829, 0.7829, 0, 0.0)


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run, tmp_path / "copy"))


def card(
    folder: Path,
    weights: str = "none",
    formats: tuple[str, ...] = ("timm",),
    fingerprint: str = "",
    model: str = "vit_demo",
) -> str:
    best = best_of(folder)
    best = dataclasses.replace(best, config=dataclasses.replace(best.config, weights=weights, model=model))
    passed = {FORMATS[name]: AGREEMENT for name in formats}
    return model_card(folder, best, passed, "float32", fingerprint)


def test_every_kind_of_weights_has_its_licence() -> None:
    assert NAMED_WEIGHTS.keys() <= LICENCES.keys()
    assert licence_of("imagenet-swag").hub_id == "cc-by-nc-4.0"
    assert licence_of("/home/me/deit.pth").text.startswith("unknown; check it")
    assert name_of("/home/me/deit.pth") == "deit.pth"


def test_the_licence_of_a_file_is_unknown_and_its_folder_is_private(copy: Path) -> None:
    text = card(copy, weights="/home/me/deit.pth")
    assert yaml.safe_load(text.split("---\n")[1])["license"] == "unknown"
    assert "* Start weights: deit.pth" in text
    assert "/home/me" not in text


def test_a_licence_that_the_hub_does_not_list_has_its_name(copy: Path) -> None:
    values = yaml.safe_load(card(copy, weights="imagenet", model="vit_b_16").split("---\n")[1])
    assert (values["license"], values["license_name"]) == ("other", "torchvision")
    dinov3 = licence_of("pretrained", "timm:vit_small_patch16_dinov3.lvd1689m")
    assert (dinov3.hub_id, dinov3.name) == ("other", "dinov3-license")
    assert "license_name" not in card(copy, weights="imagenet-swag", model="vit_b_16")


def test_evidence_is_shown_and_its_absence_said(copy: Path) -> None:
    assert "Not measured for this run" in card(copy)
    claim = Claim("k", "Maps show it.", "bits", Interval(0.5, 0.4, 0.6), 90, HOLDS, "rule")
    RunFolder(copy).write("evidence.json", {"claims": [dataclasses.asdict(claim)]})
    assert "| Maps show it. | holds | bits | 0.500 (0.400 to 0.600), n = 90 |" in card(copy)
    (copy / "evidence.json").write_text("{")
    assert "Not known: evidence.json is damaged" in card(copy)


def test_a_damaged_manifest_is_a_caveat(copy: Path) -> None:
    (copy / "manifest.json").write_text("[]")
    text = card(copy)
    assert "manifest.json is damaged (it holds a list instead of an object): the run's data, start weights" in text
    assert str(copy.parent) not in text.replace("\\", "")  # where the run is stored is private


def test_names_from_a_run_folder_are_text(copy: Path) -> None:
    hostile = "<script>alert(1)</script>|*x*\n# title\x1b[2J"
    table = (copy / "per_class.csv").read_text().replace("class 0", f'"{hostile}"')
    (copy / "per_class.csv").write_text(table)
    RunFolder(copy).update("manifest.json", {"problems": {"attention": hostile}})
    text = card(copy)
    assert "<script>" not in text
    assert "\x1b" not in text
    assert "\n# title" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;\\|\\*x\\*\\\\n\\# title" in text


def test_caveats_say_what_a_score_does_not() -> None:
    manifest = {
        "data": {"fingerprint": "a", "skipped": {"x.jpg": "truncated"}},
        "problems": {"attention": "It failed."},
        "notes": ["valid was cut from train"],
    }
    summary = {"state": "stopped", "test/n": 40, "probe/gain": -0.01, "probe/gain_low": -0.03}
    sentences = caveats_of(summary, manifest, "b")
    for part in (
        "The run ended as stopped",
        "The test split has 40 images",
        "not shown to be better than a linear probe of the start weights (-0.0100 macro F1",
        "could not be read and were left out: 1.",
        "scored on other images than the run",
        "attention: It failed.",
        "valid was cut from train",
    ):
        assert sum(part in sentence for sentence in sentences) == 1, part
    [last] = caveats_of({"state": "finished", "test/n": 500}, {"data": {"fingerprint": "a"}}, "a")
    assert last.startswith("Scores are those of images like the test images")


def test_a_run_without_test_scores_says_so(copy: Path) -> None:
    (copy / "summary.json").write_text(json.dumps({"state": "stopped"}))
    (copy / "per_class.csv").unlink()
    text = card(copy, formats=("onnx",))
    assert "The run has no test scores." in text
    metadata = yaml.safe_load(text.split("---\n")[1])
    assert "model-index" not in metadata
    assert metadata["library_name"] == "onnx"
