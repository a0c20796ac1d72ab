"""`harness probe`: the table, its order, the pairing of models and weights, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness.cli.main import main
from harness.errors import ConfigError
from harness.probe.backbones import pair_with_weights

TINY = ("--image-size", "32")


def test_table_has_a_row_per_backbone_and_the_next_command(data_folder: Path, tmp_path: Path) -> None:
    images = shutil.copytree(data_folder, tmp_path / "my images")
    backbones = ("--model", "vit_demo", "--model", "vit_demo", "--weights", "none", "--weights", "demo")
    result = CliRunner().invoke(main, ["probe", "--data", str(images), *backbones, *TINY])
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == "Linear probe on my images: macro F1, 9 validation and 9 test images, 3 classes"
    assert lines[1].split()[:3] == ["backbone", "validation", "F1"]
    scores = [float(line.split()[2]) for line in lines[2:4]]
    assert scores == sorted(scores, reverse=True)
    assert lines[-1].startswith(f"  harness train --data '{images}' --image-size 32 --model vit_demo --weights ")
    assert lines[-1].endswith("--head-init probe")


def test_json_has_the_same_scores_at_every_call(data_folder: Path) -> None:
    command = ["probe", "--data", str(data_folder), "--model", "vit_demo", *TINY, "--json"]
    first, second = (json.loads(CliRunner().invoke(main, command).stdout) for _ in range(2))
    timings = {"seconds/features", "seconds/fit"}
    assert {key: first[key] for key in first.keys() - timings} == {key: second[key] for key in second.keys() - timings}
    assert first["weights"] == "demo" and first["test/n"] == 9
    assert first["test/f1_low"] <= first["test/f1"] <= first["test/f1_high"]
    assert first["val/f1"] == 1.0  # three colours


def test_models_are_paired_with_weights() -> None:
    assert pair_with_weights(["vit_b_16", "vit_h_14"], []) == [("vit_b_16", "imagenet"), ("vit_h_14", "imagenet-swag")]
    assert pair_with_weights(["vit_b_16", "vit_l_16"], ["imagenet-swag"]) == [
        ("vit_b_16", "imagenet-swag"),
        ("vit_l_16", "imagenet-swag"),
    ]
    assert pair_with_weights(["vit_ti_16", "vit_s_16"], ["a", "b"]) == [("vit_ti_16", "a"), ("vit_s_16", "b")]
    with pytest.raises(ConfigError, match="No named weights exist for --model vit_ti_16"):
        pair_with_weights(["vit_b_16", "vit_ti_16"], [])
    with pytest.raises(ConfigError, match="3 --model and 2 --weights were given"):
        pair_with_weights(["vit_b_16"] * 3, ["a", "b"])


def test_mistakes_are_one_line_without_a_traceback(data_folder: Path, tmp_path: Path) -> None:
    for command, code, sentence in [
        (["--data", str(tmp_path / "nowhere"), "--model", "vit_demo"], 1, "no such folder"),
        (["--data", str(data_folder), "--model", "vit_demos"], 2, "--model is 'vit_demos'; it must be one of"),
        (["--data", str(data_folder), "--model", "vit_ti_16"], 2, "No named weights exist"),
        (["--data", str(data_folder), "--model", "vit_demo", "--weights", "no.pth"], 1, "--weights no.pth is neither"),
        (["--data", str(data_folder), "--model", "vit_demo", "--image-size", "30"], 2, "not a multiple of"),
    ]:
        result = CliRunner().invoke(main, ["probe", *command])
        assert result.exit_code == code, result.output
        assert sentence in result.stderr and "Traceback" not in result.stderr
