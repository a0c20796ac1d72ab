"""Models by name, the preparation of images, stochastic depth and recomputation."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
import torchvision
from PIL import Image
from torch import Tensor
from torchvision.models import VisionTransformer
from torchvision.transforms._presets import ImageClassification

from harness.config import MODELS
from harness.errors import ConfigError, WeightsError
from harness.model import vit as models
from harness.model.architectures import ARCHITECTURES, Architecture
from harness.model.vit import Preprocessing, build_model, preprocessing_for

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def demo(**options: Any) -> VisionTransformer:
    defaults: dict[str, Any] = {"num_classes": 3, "weights": "none", "head_init": "default"}
    return build_model("vit_demo", **defaults | options).model


def pictures(count: int = 4) -> Tensor:
    return torch.randn(count, 3, 64, 64, generator=torch.Generator().manual_seed(5))


def save(path: Path, model: VisionTransformer, preprocessing: object = None) -> str:
    text = preprocessing if isinstance(preprocessing, str) else json.dumps(preprocessing)
    metadata = {} if preprocessing is None else {"preprocessing": text}
    safetensors.torch.save_file(model.state_dict(), path, metadata)
    return str(path)


# Architectures


def test_the_models_are_those_of_the_option() -> None:
    assert tuple(ARCHITECTURES) == MODELS


@pytest.mark.parametrize("name", [name for name in MODELS if name in torchvision.models.list_models()])
def test_architectures_are_torchvisions(name: str) -> None:
    with torch.device("meta"):
        ours = VisionTransformer(**dataclasses.asdict(ARCHITECTURES[name]))
        theirs = torchvision.models.get_model(name)
    assert {k: v.shape for k, v in ours.state_dict().items()} == {k: v.shape for k, v in theirs.state_dict().items()}
    heads = [block.num_heads for block in ours.encoder.layers]
    assert heads == [block.num_heads for block in theirs.encoder.layers]


def test_small_architectures_have_the_published_number_of_parameters() -> None:
    counts = {}
    for name in ("vit_s_16", "vit_ti_16"):
        with torch.device("meta"):
            counts[name] = sum(
                p.numel() for p in VisionTransformer(**dataclasses.asdict(ARCHITECTURES[name])).parameters()
            )
    assert counts == {"vit_s_16": 22_050_664, "vit_ti_16": 5_717_416}  # DeiT-S and DeiT-Ti
    assert ARCHITECTURES["vit_demo"] == Architecture(64, 8, 6, 4, 128, 256)


# Preprocessing


@pytest.mark.parametrize(
    ("model", "weights", "options", "expected"),
    [
        ("vit_b_16", "imagenet", {}, Preprocessing(256, 224, "bilinear", *IMAGENET)),
        ("vit_l_16", "imagenet", {}, Preprocessing(242, 224, "bilinear", *IMAGENET)),
        ("vit_b_16", "imagenet-swag", {}, Preprocessing(384, 384, "bicubic", *IMAGENET)),
        ("vit_h_14", "imagenet-swag", {}, Preprocessing(518, 518, "bicubic", *IMAGENET)),
        ("vit_h_14", "imagenet-swag-linear", {}, Preprocessing(224, 224, "bicubic", *IMAGENET)),
        ("vit_b_16", "imagenet", {"image_size": 384}, Preprocessing(439, 384, "bilinear", *IMAGENET)),
        ("vit_l_16", "imagenet", {"image_size": 448}, Preprocessing(484, 448, "bilinear", *IMAGENET)),
        ("vit_b_16", "imagenet", {"crop_pct": 1.0}, Preprocessing(224, 224, "bilinear", *IMAGENET)),
        (
            "vit_b_16",
            "imagenet-swag",
            {"image_size": 224, "crop_pct": 0.9},
            Preprocessing(249, 224, "bicubic", *IMAGENET),
        ),
        ("vit_s_16", "none", {}, Preprocessing(256, 224, "bilinear", *IMAGENET)),
        ("vit_demo", "none", {}, Preprocessing(73, 64, "bilinear", *IMAGENET)),
        ("vit_demo", "demo", {}, Preprocessing(64, 64, "bilinear", *HALF)),
    ],
)
def test_preprocessing_goes_with_the_weights(
    model: str, weights: str, options: dict[str, Any], expected: Preprocessing
) -> None:
    assert preprocessing_for(model, weights, **options) == expected


def test_preprocessing_of_files(tmp_path: Path) -> None:
    own = Preprocessing(80, 64, "bicubic", (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    path = save(tmp_path / "own.safetensors", demo(), dataclasses.asdict(own))
    assert preprocessing_for("vit_demo", path) == own
    assert preprocessing_for("vit_demo", path, image_size=128) == dataclasses.replace(
        own, resize_size=160, crop_size=128
    )
    assert preprocessing_for("vit_demo", path, crop_pct=1.0) == dataclasses.replace(own, resize_size=64)
    plain = save(tmp_path / "plain.safetensors", demo())
    assert preprocessing_for("vit_demo", plain) == Preprocessing(73, 64, "bilinear", *IMAGENET)
    np.savez(tmp_path / "google.npz", a=np.ones(1))
    assert preprocessing_for("vit_b_16", str(tmp_path / "google.npz")) == Preprocessing(256, 224, "bilinear", *HALF)


@pytest.mark.parametrize(
    "change",
    [
        "[",
        "[]",
        "[" * 100_000,
        {"mean": [0.5, 0.5]},
        {"std": [0, 1, 1]},
        {"std": [float("nan")] * 3},
        {"resize_size": 10},
        {"crop_size": 10**9, "resize_size": 10**9},
        {"crop_size": float("inf")},
        {"interpolation": "nearest"},
        {"mean": None},
    ],
)
def test_unusable_preprocessing_in_a_file_is_an_error(tmp_path: Path, change: Any) -> None:
    if isinstance(change, dict):
        change = dataclasses.asdict(Preprocessing(80, 64, "bicubic", *HALF)) | change
    path = save(tmp_path / "w.safetensors", demo(), change)
    with pytest.raises(WeightsError, match=r"w\.safetensors: 'preprocessing' in its metadata cannot be used"):
        preprocessing_for("vit_demo", path)


@pytest.mark.parametrize(("size", "advice"), [(225, "224 or 240"), (9, "16")])
def test_an_image_size_that_is_no_whole_number_of_patches(size: int, advice: str) -> None:
    with pytest.raises(ConfigError) as caught:
        preprocessing_for("vit_b_16", "none", image_size=size)
    expected = f"--image-size {size} is not a multiple of vit_b_16's patch size, 16; take {advice}."
    assert caught.value.problems == (expected,)


# New weights


def test_new_weights_depend_on_the_seed_alone_and_leave_random_state_alone() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = demo(seed=3).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    again, other = demo(seed=3).state_dict(), demo(seed=4).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["conv_proj.weight"], other["conv_proj.weight"])
    assert not torch.equal(first["heads.head.weight"], other["heads.head.weight"])


def test_heads_start_at_zero_or_at_pytorchs_default() -> None:
    zero, default = demo(head_init="zero").heads.head, demo(head_init="default").heads.head
    assert not zero.weight.any()
    assert not zero.bias.any()
    bound = 128**-0.5  # nn.Linear draws from U(-1/sqrt(in), 1/sqrt(in))
    assert 0.95 * bound < default.weight.abs().max() <= bound


def test_a_frozen_backbone_leaves_the_head_to_train() -> None:
    model = demo(freeze="backbone", grad_checkpointing=True)
    assert [name for name, p in model.named_parameters() if p.requires_grad] == ["heads.head.weight", "heads.head.bias"]
    model.train()(pictures()).square().sum().backward()
    assert model.heads.head.weight.grad is not None
    assert model.conv_proj.weight.grad is None
    assert all(parameter.requires_grad for parameter in demo().parameters())


def test_a_model_without_pretrained_weights_says_so() -> None:
    loaded = build_model("vit_demo", num_classes=3, weights="none", seed=7)
    assert loaded.report == ("No pretrained weights: vit_demo starts from new ones, seed 7.",)
    assert (loaded.source, loaded.weights_digest) == ("none", None)


# Weights from files


def test_a_file_gives_back_its_model(tmp_path: Path) -> None:
    before = demo(seed=1).eval()
    path = save(tmp_path / "w.safetensors", before, dataclasses.asdict(Preprocessing(64, 64, "bilinear", *HALF)))
    loaded = build_model("vit_demo", num_classes=3, weights=path, seed=2)
    assert torch.equal(loaded.model.eval()(pictures()), before(pictures()))
    assert loaded.report == (f"vit_demo takes its weights from {path}.", "The head for 3 classes is the file's.")
    assert loaded.preprocessing == Preprocessing(64, 64, "bilinear", *HALF)
    assert loaded.source == path
    assert loaded.weights_digest == hashlib.sha256(Path(path).read_bytes()).hexdigest()


def test_another_number_of_classes_and_another_size(tmp_path: Path) -> None:
    before = demo(seed=1)
    path = save(tmp_path / "w.safetensors", before)
    loaded = build_model("vit_demo", num_classes=11, weights=path, image_size=96, seed=2)
    assert loaded.report == (
        f"vit_demo takes its weights from {path}.",
        "New head for 11 classes; the file has one for 3.",
        "Positional embeddings were resized from a grid of 8x8 to 12x12 (bicubic).",
        "It does not say how its images were prepared: ImageNet's mean and deviation are assumed.",
    )
    assert loaded.model(torch.zeros(1, 3, 96, 96)).tolist() == [[0.0] * 11]
    assert torch.equal(loaded.model.conv_proj.weight, before.conv_proj.weight)
    assert torch.equal(loaded.model.encoder.pos_embedding[:, 0], before.encoder.pos_embedding[:, 0])


def test_the_weights_of_another_model_name_the_one_they_are_for(tmp_path: Path) -> None:
    path = save(tmp_path / "w.safetensors", demo())
    with pytest.raises(WeightsError) as caught:
        build_model("vit_ti_16", num_classes=3, weights=path)
    assert caught.value.problems == (
        f"{path}: The file has patch size 8, 6 layers, hidden size 128 and MLP size 256, vit_ti_16 has patch size 16, "
        "12 layers, hidden size 192 and MLP size 768; it is for --model vit_demo.",
    )
    model = VisionTransformer(64, 8, 5, 4, 128, 256)
    with pytest.raises(WeightsError, match=r"5 layers.*vit_demo has.*6 layers.*; none of the models has that"):
        build_model("vit_demo", num_classes=3, weights=save(tmp_path / "w.safetensors", model))


def test_errors_of_loading_name_the_file(tmp_path: Path) -> None:
    model = demo()
    del model.encoder.ln
    path = save(tmp_path / "w.safetensors", model)
    with pytest.raises(WeightsError) as caught:
        build_model("vit_demo", num_classes=3, weights=path)
    listed = "'encoder.ln.weight' (128,), 'encoder.ln.bias' (128,)"
    assert caught.value.problems == (f"{path}: Missing in the file: {listed}.",)


def test_the_weights_behind_a_word_say_which_file_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.model.pretrained.DEMO_FILE", tmp_path / "vit_demo.safetensors")
    path = save(tmp_path / "vit_demo.safetensors", demo())
    loaded = build_model("vit_demo", num_classes=4, weights="demo")
    assert loaded.source == "demo (vit_demo.safetensors)"
    assert loaded.report == (
        f"vit_demo takes its weights from {path}.",
        "New head for 4 classes; the file has one for 3.",
    )
    assert loaded.preprocessing == Preprocessing(64, 64, "bilinear", *HALF)


@pytest.mark.skipif(
    not {"HARNESS_REAL_WEIGHTS", "HARNESS_REAL_DATA"} <= set(os.environ),
    reason="HARNESS_REAL_WEIGHTS (DeiT-Ti) and HARNESS_REAL_DATA (100 sports) name no files",
)
def test_real_weights_know_real_photographs() -> None:
    loaded = build_model("vit_ti_16", num_classes=1000, weights=os.environ["HARNESS_REAL_WEIGHTS"])
    assert "The head for 1000 classes is the file's." in loaded.report
    own = loaded.preprocessing
    prepare = ImageClassification(crop_size=own.crop_size, resize_size=own.resize_size, mean=own.mean, std=own.std)
    imagenet_names = torchvision.models.ViT_B_16_Weights.IMAGENET1K_V1.meta["categories"]
    for sport, name in {"bobsled": "bobsled", "billiards": "pool table", "croquet": "croquet ball"}.items():
        paths = sorted((Path(os.environ["HARNESS_REAL_DATA"]) / "test" / sport).iterdir())
        batch = torch.stack([prepare(Image.open(path).convert("RGB")) for path in paths])
        with torch.inference_mode():
            found = [imagenet_names[index] for index in loaded.model.eval()(batch).argmax(1)]
        assert found == [name] * 5


# Stochastic depth


def test_rates_rise_linearly_and_are_equal_within_a_block() -> None:
    rates = models.drop_path_rates(6, 0.5).tolist()
    assert rates == pytest.approx([0, 0, 0.1, 0.1, 0.2, 0.2, 0.3, 0.3, 0.4, 0.4, 0.5, 0.5])


def test_drop_path_keeps_names_and_changes_nothing_without_factors_or_in_evaluation() -> None:
    plain, dropping = demo().train(), demo(drop_path=0.2).train()
    assert list(dropping.state_dict()) == list(plain.state_dict())
    expected = plain(pictures())
    assert torch.equal(dropping(pictures()), expected)
    models.set_drop_path(dropping, torch.zeros(4, 12))
    assert not torch.allclose(dropping(pictures()), expected)
    torch.testing.assert_close(dropping.eval()(pictures()), plain.eval()(pictures()), rtol=0, atol=0)
    models.set_drop_path(dropping.train(), None)
    assert torch.equal(dropping(pictures()), expected)


def test_each_sample_and_branch_has_its_own_factor() -> None:
    model = demo(drop_path=0.2).train()
    keep = torch.ones(4, 12)
    keep[1] = 0  # sample 1 skips every branch
    keep[2, 2 * 3] = 0  # sample 2 skips the attention of block 3
    keep[3, 2 * 5 + 1] = 2  # sample 3 doubles the MLP of the last block
    models.set_drop_path(model, keep)
    tokens = {}
    for index, block in enumerate(model.encoder.layers):
        block.register_forward_hook(lambda _, inputs, output, i=index: tokens.update({i: (inputs[0], output)}))
    model(pictures())
    for index, block in enumerate(model.encoder.layers):
        before, after = tokens[index]
        normed = block.ln_1(before)
        attention = block.self_attention(normed, normed, normed, need_weights=False)[0] * keep[:, 2 * index, None, None]
        middle = before + attention
        hidden = torch.nn.functional.gelu(block.mlp[0](block.ln_2(middle)))
        expected = middle + block.mlp[3](hidden) * keep[:, 2 * index + 1, None, None]
        torch.testing.assert_close(after, expected)
        assert torch.equal(after[1], before[1])


def test_scaled_factors_keep_the_expectation_of_a_branch() -> None:
    drop = models.DropPath().train()
    rate = 0.3
    drop.keep = (torch.rand(20_000, generator=torch.Generator().manual_seed(0)) >= rate) / (1 - rate)
    mean = drop(torch.ones(20_000, 2, 3)).mean(0)
    assert mean == pytest.approx(torch.ones(2, 3), abs=4 * (rate / (1 - rate) / 20_000) ** 0.5)  # 4 standard errors


def test_factors_for_another_number_of_branches_are_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        models.set_drop_path(demo(), torch.ones(4, 12))
    models.set_drop_path(demo(), None)


# Gradient checkpointing


@pytest.mark.parametrize("drop_path", [0.0, 0.3])
def test_recomputation_gives_the_same_gradients_and_keeps_names(drop_path: float) -> None:
    plain, recomputed = demo(drop_path=drop_path), demo(drop_path=drop_path, grad_checkpointing=True)
    assert list(recomputed.state_dict()) == list(plain.state_dict())
    keep = (torch.rand(4, 12, generator=torch.Generator().manual_seed(0)) > 0.3) / 0.7
    calls = []
    recomputed.encoder.layers[2].ln_1.register_forward_hook(lambda *_: calls.append(1))
    for model in (plain, recomputed):
        models.set_drop_path(model.train(), keep if drop_path else None)
        model(pictures()).square().sum().backward()
    assert len(calls) == 2  # once forward, once again in the backward pass
    for (name, expected), actual in zip(plain.named_parameters(), recomputed.parameters(), strict=True):
        assert expected.grad.any(), name
        assert torch.equal(actual.grad, expected.grad), name
    recomputed.eval()(pictures()).sum().backward()
    assert len(calls) == 3  # nothing is recomputed outside training


def test_a_copy_of_a_recomputing_model_has_blocks_of_its_own() -> None:
    model = demo(drop_path=0.1, grad_checkpointing=True).train()
    twin = copy.deepcopy(model)
    torch.nn.init.zeros_(twin.encoder.layers[0].mlp[3].weight)
    assert model.encoder.layers[0].mlp[3].weight.any()
    assert not torch.equal(twin(pictures()), model(pictures()))


# Layer-wise decay


def test_depth_of_every_parameter() -> None:
    depths = {name: models.parameter_depth(name, 6) for name, _ in demo().named_parameters()}
    assert [name for name, depth in depths.items() if depth == 0] == [
        "class_token",
        "conv_proj.weight",
        "conv_proj.bias",
        "encoder.pos_embedding",
    ]
    assert {depth for name, depth in depths.items() if "encoder_layer_4." in name} == {5}
    assert depths["encoder.ln.weight"] == depths["heads.head.bias"] == 7
    assert models.parameter_depth("encoder.layers.encoder_layer_11.ln_1.weight", 12) == 12
    with pytest.raises(ValueError, match=r"fc\.weight is not a parameter"):
        models.parameter_depth("fc.weight", 6)
