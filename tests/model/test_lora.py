"""Adapters of low rank: exact when merged, resumed to the same bits, and a small share of the parameters."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import nn

from harness.config import RunConfig
from harness.errors import ConfigError
from harness.explain.attention.self_test import self_test
from harness.model.lora import adapted_weights, adapters, add_lora, counts, merge_lora, merged
from harness.model.packed_attention import pack_attention
from harness.model.preprocessing import Preprocessing
from harness.predict import Predictor
from harness.run_name import naming_by
from harness.runs.folder import BEST
from harness.runs.rules import ADAPTER
from harness.train import fit
from harness.training import checkpoint
from harness.training.checkpoint import load_tensors
from tests.helpers.built_models import loaded_model
from tests.helpers.timm_vits import small_timm
from tests.helpers.tiny_vits import random_images, tiny_vit
from tests.test_train import kill_after_step, same_bits, settings, weights_of


def packed_vit() -> nn.Module:
    """As it is trained."""
    model = tiny_vit()
    pack_attention(model)
    return model


MODELS = {
    "torchvision": packed_vit,
    "fused qkv": lambda: small_timm("vit_small_patch14_reg4_dinov2"),
    "queries, keys and values apart": lambda: small_timm("vit_base_patch16_sapiens2"),
}


SIDES = dict(zip(MODELS, (32, 56, 64), strict=True))


def trained_a_little(model: nn.Module) -> nn.Module:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(".0.b"):
                parameter.normal_(std=0.1)
    return model


@pytest.mark.parametrize("targets", ["attention", "all"])
@pytest.mark.parametrize("name", MODELS)
def test_merged_it_is_the_plain_model_that_computes_the_same(name: str, targets: str) -> None:
    model = MODELS[name]()
    names, images = model.state_dict().keys(), random_images(2, SIDES[name])
    with torch.no_grad():
        before = model(images)
        add_lora(model, 4, 8.0, targets, seed=0)
        torch.testing.assert_close(model(images), before, atol=1e-5, rtol=0)  # B starts at 0
        trained_a_little(model)
        adapted = model(images)
        assert (adapted - before).abs().max() > 1e-3
        assert self_test(model, images)["passed"]
        state = merged(model.state_dict())
        merge_lora(model)
        assert model.state_dict().keys() == names == state.keys()
        assert all(torch.equal(state[key], value) for key, value in model.state_dict().items())
        assert (model(images) - adapted).abs().max() <= 1e-5


def test_a_block_without_a_layer_to_adapt_is_refused_with_what_else_can_be_done() -> None:
    model = small_timm("vit_tiny_patch16_224")
    block = model.blocks[1]
    block.attn.projection, block.attn.qkv = block.attn.qkv, nn.Identity()
    attention = r"attention matches nothing in block 2: its attention \(Attention\) has no linear layer qkv"
    with pytest.raises(ConfigError, match=rf"{attention}.* Give --lora-targets all, or --lora-rank 0\.$"):
        adapted_weights(model, "attention")
    assert (block.attn.projection, "weight") in adapted_weights(model, "all")
    block.attn, block.mlp = nn.Identity(), nn.Identity()
    with pytest.raises(ConfigError, match=r"all matches nothing in block 2: it \(Block\) .* Give --lora-rank 0\.$"):
        adapted_weights(model, "all")


def test_only_adapters_and_the_head_are_trained() -> None:
    model = tiny_vit()
    add_lora(model, 2, 8.0, "attention", seed=0)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    start = "encoder.layers.encoder_layer_{}.self_attention.parametrizations.in_proj_weight.0.{}"
    expected = {start.format(block, part) for block in range(3) for part in "ab"}
    assert trained == expected | {"heads.head.weight", "heads.head.bias"}
    assert counts(model) == (3 * 2 * (36 + 108) + 5 * 37, sum(each.numel() for each in tiny_vit().parameters()))
    assert set(adapters(model.state_dict())) == {
        f"encoder.layers.encoder_layer_{block}.self_attention.in_proj_weight.lora_{part}"
        for block in range(3)
        for part in ("A", "B", "scale")
    }


@pytest.mark.parametrize("model", ["vit_ti_16", "timm:vit_tiny_patch16_224"])
def test_less_than_two_percent_are_trained(model: str) -> None:
    loaded = loaded_model(model, num_classes=100, weights="none", lora_rank=8)
    trained, total = counts(loaded.model)
    assert trained / total < 0.02
    numbers = f"{trained:,} parameters are trained, of {total:,} ({trained / total:.2%})."
    assert loaded.report[-1] == f"LoRA of rank 8: {numbers}"


@pytest.mark.parametrize("model", ["vit_demo", "timm:test_vit2"])
def test_a_run_resumes_with_the_same_bits_and_leaves_a_plain_checkpoint(
    data_folder: Path, tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = {
        "model": model,
        "lora_rank": 2,
        "drop_path": 0.1,
        "ema": True,
        "layer_decay": 0.8,
        "lr": 1e-2,
        "epochs": 1,
    }
    config = settings(data_folder, tmp_path / "killed", checkpoint_every=3, **changes)
    kill_after_step(config, 4, 1)
    [folder] = (tmp_path / "killed").iterdir()
    run = fit(config)
    whole = fit(dataclasses.replace(config, runs_dir=str(tmp_path / "whole")))
    assert same_bits(weights_of(folder), weights_of(whole))
    loaded = loaded_model(model, num_classes=3, weights="none", image_size=32, seed=config.seed)
    start, end = loaded.model.state_dict(), weights_of(run)
    changed = {name for name in start if not torch.equal(start[name], end[name])}
    assert changed and all("in_proj_weight" in name or "qkv.weight" in name or "head." in name for name in changed)
    small, _ = load_tensors(folder / "checkpoints" / ADAPTER)
    assert {name.rpartition(".")[2] for name in small} == {"lora_A", "lora_B", "lora_scale"}
    assert 0 < run.summary["parameters/trained"] < run.summary["parameters/total"]
    assert "LoRA of rank 2" in capsys.readouterr().out
    assert Predictor(folder).classes


def test_a_run_that_ends_between_the_two_files_writes_both_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The best checkpoint has the scores that the next one must beat, so it must not be ahead of its adapters."""
    model = tiny_vit()
    add_lora(model, 2, 8.0, "attention", seed=0)
    written = []
    monkeypatch.setattr(checkpoint, "save_tensors", lambda path, *_: written.append(path.name))
    prepared = Preprocessing(32, 32, "bilinear", (0.5,) * 3, (0.5,) * 3)
    checkpoint.save_best(tmp_path / BEST, model.state_dict(), RunConfig(data="d"), ["a"], prepared, {})
    assert written == [ADAPTER, BEST]


def test_settings_that_are_off_do_not_change_the_identity_of_a_run() -> None:
    plain = RunConfig(data="d")
    assert not {"lora_rank", "lora_alpha", "lora_targets"} & plain.identity_settings.keys()
    assert plain.identity != dataclasses.replace(plain, lora_rank=8).identity
    for changes in ({"lora_alpha": 8.0}, {"lora_targets": "all"}):
        changed = dataclasses.replace(plain, **changes)
        assert (changed.identity, changed.differences(plain)) == (plain.identity, [])
        with naming_by(list(changes)):
            assert changed.run_name == "s0"
        adapted = dataclasses.replace(changed, lora_rank=8)
        assert adapted.identity != dataclasses.replace(plain, lora_rank=8).identity
        assert adapted.differences(plain) == ["lora_rank", *changes]
    with pytest.raises(ConfigError, match="--lora-rank 8 adapts the backbone, and --freeze backbone freezes it"):
        RunConfig(data="d", lora_rank=8, freeze="backbone")
