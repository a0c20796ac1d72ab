"""Runs of timm's models: trained, killed and resumed, on two processes, explained, with weights from a file."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from harness.config import RunConfig
from harness.errors import ConfigError, HarnessError, WeightsError
from harness.evidence.verify import verify
from harness.model import adapter, timm_model
from harness.model.architectures import entry_of
from harness.model.pretrained import weights_path
from harness.model.weight_names import to_timm
from harness.predict import Predictor
from harness.runs.attention_files import Archive, read_archive
from harness.train import fit
from reports.page.build import build
from tests.evidence.test_verify import CLAIMS
from tests.helpers.built_models import loaded_model
from tests.test_train import kill_after_step, losses_of, on_ranks, same_bits, settings, weights_of

RANDOM = {"augment": "standard", "mixup": 0.4, "drop_path": 0.2, "ema": True, "layer_decay": 0.7}


def test_killed_and_resumed_it_ends_with_the_same_bits_and_is_explained(data_folder: Path, tmp_path: Path) -> None:
    """A model that pools by attention, has a register, and no class token."""
    changes = RANDOM | {
        "model": "timm:test_vit3",
        "image_size": 64,
        "explain": "3",
        "grad_checkpointing": True,
        "epochs": 1,
    }
    config = settings(data_folder, tmp_path / "killed", checkpoint_every=3, head_init="probe", **changes)
    kill_after_step(config, 4, 1)
    [folder] = (tmp_path / "killed").iterdir()
    run, whole = fit(config), fit(dataclasses.replace(config, runs_dir=str(tmp_path / "whole"), explain="none"))
    assert same_bits(weights_of(folder), weights_of(whole))
    assert run.summary["state"] == "finished" and run.summary["attention/n"] == 3
    arrays = read_archive(folder / "attention" / "attention.npz", Archive)
    blocks = timm_model.described("timm:test_vit3").blocks
    assert arrays.layers.shape == (3, blocks + 1, 16) and arrays.settings["pools_by_attention"] is True
    assert arrays.settings["head_layer"] == blocks + 1 and arrays.settings["prefix_tokens"] == 1
    assert run.summary["attention/distance"] == pytest.approx(float(arrays.distance[:, -2].mean()))
    assert build(tmp_path / "killed").is_file()
    claims = verify(folder, 6, None, None, 1, print)
    assert [claim.key for claim in claims] == [*CLAIMS]
    results = json.loads((folder / "evidence.json").read_text())["results"]
    heads = adapter.parts(Predictor(folder).model).attentions[0].num_heads
    assert len(results["depth"]["lens"]) == len(results["heads"]["loss_change"]) == blocks
    assert all(len(layer) == heads and np.any(layer) for layer in results["heads"]["loss_change"])


def test_two_processes_train_the_same(data_folder: Path, tmp_path: Path) -> None:
    changes = RANDOM | {"model": "timm:test_vit2", "image_size": 32, "epochs": 1}
    one = fit(settings(data_folder, tmp_path / "1", **changes))
    on_ranks(2, lambda: fit(settings(data_folder, tmp_path / "2", **changes)))
    [folder] = (tmp_path / "2").iterdir()
    assert losses_of(folder) == pytest.approx(losses_of(one), rel=1e-4, abs=1e-5)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (
            {"model": "timm:vit_tinny_patch16_224"},
            r"no model vit_tinny_patch16_224\. Similar names: vit_tiny",
        ),
        ({"model": "timm:samvit_base_patch16"}, "is not supported: its attention is within windows"),
        ({"model": "timm:naflexvit_base_patch16_gap"}, "is not supported: it takes images of any number of patches"),
        ({"model": "timm:vit_base_patch16_xp_224"}, "is not supported: its blocks hold two attention maps"),
        (
            {"model": "timm:vit_tiny_patch16_224.no_tag"},
            "no weights of this tag. Names with a tag: vit_tiny",
        ),
        ({"model": "timm:convnext_atto"}, "ConvNeXt is not a Vision Transformer of the kinds that are known here"),
        (
            {"model": "timm:eva02_tiny_patch14_224", "image_size": 28, "verify": True},
            "--verify cannot test timm:eva02_tiny_patch14_224: its blocks take rotary or relative positions",
        ),
        ({"model": "timm:vit_base_patch16_sapiens2"}, "are not square: give --image-size, a multiple of 16"),
        ({"model": "timm:test_vit", "image_size": 40}, "40 is not a multiple of timm:test_vit's patch size, 16"),
    ],
)
def test_a_model_that_cannot_be_trained_is_an_error_before_anything_is_written(
    data_folder: Path, tmp_path: Path, changes: dict[str, str], problem: str
) -> None:
    with pytest.raises(HarnessError, match=problem):
        fit(settings(data_folder, tmp_path / "runs", **({"image_size": None} | changes)))
    assert not list(tmp_path.glob("runs/*"))


def test_without_timm_one_sentence_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timm_model.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"needs timm, which is not installed: pip install 'vit-harness\[timm\]'"):
        loaded_model("timm:test_vit", num_classes=2, weights="none")
    for reads in (entry_of, lambda model: weights_path(model, "pretrained")):
        with pytest.raises(ConfigError, match="needs timm, which is not installed"):
            reads("timm:a_model_that_is_not_in_the_table")


def test_an_older_timm_lacks_a_model_of_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("timm.is_model", lambda name: name != "test_vit")
    with pytest.raises(ConfigError, match=r"has no model test_vit\. Similar names: test_vit\d"):
        loaded_model("timm:test_vit", num_classes=2, weights="none")


def test_nothing_is_downloaded_for_a_model_that_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *_, **__: pytest.fail("downloaded"))
    with pytest.raises(ConfigError, match="is not supported: its attention is within windows"):
        weights_path("timm:samvit_base_patch16", "pretrained")


def test_without_network_it_says_which_file_to_fetch_before_a_run_begins(
    data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))  # this machine may have the file
    model = "timm:vit_tiny_patch16_224.augreg_in21k"
    sentence = "Download model.safetensors from https://huggingface.co/timm/vit_tiny_patch16_224.augreg_in21k"
    with pytest.raises(WeightsError, match=sentence):
        loaded_model(model, num_classes=2, weights="pretrained")
    changes = {"model": model, "weights": "pretrained", "image_size": 100, "explain_layer": 13, "data": "nowhere"}
    with pytest.raises(HarnessError) as caught:
        fit(settings(data_folder, tmp_path / "runs", **changes))
    said = ("nowhere", "has layers 1 to 12", "100 is not a multiple of", sentence)
    assert len(caught.value.problems) == 4
    assert all(any(part in problem for problem in caught.value.problems) for part in said)
    assert not (tmp_path / "runs").exists()


def test_what_timm_cannot_build_and_lora_cannot_adapt_is_told_before_a_run_begins(
    data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings(data_folder, tmp_path / "runs", model="timm:test_vit", image_size=32, lora_rank=2)
    create_model = timm.create_model

    def with_another_name(*arguments: Any, **keywords: Any) -> Any:
        model = create_model(*arguments, **keywords)
        attention = model.blocks[0].attn
        attention.projection, attention.qkv = attention.qkv, None
        return model

    monkeypatch.setattr("timm.create_model", with_another_name)
    with pytest.raises(ConfigError, match="--lora-targets attention matches nothing in block 1"):
        fit(config)
    monkeypatch.undo()

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the grid must be square")

    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.setattr("timm.create_model", refuse)
    with pytest.raises(ConfigError, match=r"cannot build it for images of 32 pixels \(the grid must be square\)"):
        fit(config)
    assert not (tmp_path / "runs").exists()

    def broken(*_: object, **__: object) -> None:
        raise ImportError("timm.layers")

    monkeypatch.setattr("timm.create_model", broken)
    with pytest.raises(ImportError):  # not the size of the images
        timm_model.check_timm_build("timm:test_vit", 32, None)


@pytest.mark.parametrize(
    ("model", "weights", "problem"),
    [
        ("timm:test_vit", "imagenet", "for this model give one of pretrained, none, or a weights file"),
        ("vit_b_16", "pretrained", "only for models of timm"),
        ("timm:../x", "none", "must be one of"),
        ("timm:NAME/..", "none", "must be one of"),
    ],
)
def test_names_that_do_not_fit(model: str, weights: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        RunConfig(data="d", model=model, weights=weights)


def test_weights_of_any_naming_and_size_load_and_are_prepared_as_timm_says(tmp_path: Path) -> None:
    start = loaded_model("timm:test_vit", num_classes=3, weights="none", head_init="default", seed=4)
    assert (start.preprocessing.resize_size, start.preprocessing.crop_size) == (168, 160)
    assert start.preprocessing.interpolation == "bicubic" and start.preprocessing.mean == (0.5, 0.5, 0.5)
    state = start.model.state_dict()
    save_file(state, tmp_path / "timm.safetensors")
    same = loaded_model("timm:test_vit", num_classes=3, weights=str(tmp_path / "timm.safetensors"))
    assert all(map(torch.equal, same.model.state_dict().values(), state.values()))
    smaller = loaded_model("timm:test_vit", num_classes=2, weights=str(tmp_path / "timm.safetensors"), image_size=96)
    assert any("resampled the positional embeddings to a grid of 6x6" in line for line in smaller.report)
    assert any("New head for 2 classes" in line for line in smaller.report)
    images = torch.randn(2, 3, 96, 96)
    assert smaller.model(images).shape == (2, 2)
    save_file({name: tensor for name, tensor in state.items() if "blocks.1." not in name}, tmp_path / "cut.safetensors")
    with pytest.raises(WeightsError, match=r"Missing in the file: 'blocks\.1\.norm1\.weight'"):
        loaded_model("timm:test_vit", num_classes=3, weights=str(tmp_path / "cut.safetensors"))


def test_torchvisions_weights_in_timms_model_give_the_same_logits(tmp_path: Path) -> None:
    ours = loaded_model("vit_ti_16", num_classes=3, weights="none", image_size=32, head_init="default")
    save_file(ours.model.state_dict(), tmp_path / "torchvision.safetensors")
    save_file(to_timm(ours.model.state_dict()), tmp_path / "timm.safetensors")
    images = torch.randn(2, 3, 32, 32)
    for file in ("torchvision", "timm"):
        path = str(tmp_path / f"{file}.safetensors")
        theirs = loaded_model("timm:vit_tiny_patch16_224", num_classes=3, weights=path, image_size=32)
        torch.testing.assert_close(theirs.model.eval()(images), ours.model.eval()(images), atol=1e-6, rtol=1e-5)
    assert any(
        "converted to timm's" in line
        for line in loaded_model(
            "timm:vit_tiny_patch16_224", num_classes=3, weights=str(tmp_path / "torchvision.safetensors"), image_size=32
        ).report
    )


@pytest.mark.skipif("HARNESS_REAL_DATA" not in os.environ, reason="needs the photographs and DeiT-Ti's weights")
def test_on_photographs_it_scores_as_torchvisions(tmp_path: Path) -> None:
    weights, data = os.environ["HARNESS_REAL_WEIGHTS"], tmp_path / "data"
    for split in ("train", "valid", "test"):
        for source in sorted(Path(os.environ["HARNESS_REAL_DATA"], split).iterdir())[:4]:
            (data / split / source.name).mkdir(parents=True)
            for image in sorted(source.iterdir())[:2]:
                (data / split / source.name / image.name).symlink_to(image)
    changes = {"weights": weights, "image_size": None, "crop_pct": 0.875, "epochs": 1, "head_init": "probe", "lr": 1e-5}
    changes |= {"mean": "0.485,0.456,0.406", "std": "0.229,0.224,0.225", "interpolation": "bicubic"}
    keys = ("test/loss", "test/f1", "test/accuracy", "best/val_loss", "best/val_f1", "probe/val_f1")
    scores = []
    for model in ("vit_ti_16", "timm:deit_tiny_patch16_224"):
        run = fit(settings(data, tmp_path / model.partition(":")[0], model=model, **changes))
        scores.append({key: run.summary[key] for key in keys})
    assert scores[1] == pytest.approx(scores[0], abs=1e-6)
