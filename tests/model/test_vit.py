"""Models by name: architectures, new weights, and weights from files."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from pathlib import Path

import pytest
import torch
import torchvision
from PIL import Image
from torchvision.models import VisionTransformer
from torchvision.transforms._presets import ImageClassification

from harness.errors import WeightsError
from harness.model.architectures import ARCHITECTURES, Architecture
from harness.model.preprocessing import Preprocessing
from harness.settings.model import MODELS
from tests.helpers.built_models import loaded_model
from tests.helpers.demo_vits import demo, random_images, save

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


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
    model.train()(random_images()).square().sum().backward()
    assert model.heads.head.weight.grad is not None
    assert model.conv_proj.weight.grad is None
    assert all(parameter.requires_grad for parameter in demo().parameters())


def test_a_model_without_pretrained_weights_says_so() -> None:
    loaded = loaded_model("vit_demo", num_classes=3, weights="none", seed=7)
    assert loaded.report == ("No pretrained weights: vit_demo starts from new ones, seed 7.",)
    assert (loaded.source, loaded.weights_digest) == ("none", None)


# Weights from files


def test_a_file_gives_back_its_model(tmp_path: Path) -> None:
    before = demo(seed=1).eval()
    path = save(tmp_path / "w.safetensors", before, dataclasses.asdict(Preprocessing(64, 64, "bilinear", *HALF)))
    loaded = loaded_model("vit_demo", num_classes=3, weights=path, seed=2)
    assert torch.equal(loaded.model.eval()(random_images()), before(random_images()))
    assert loaded.report == (f"vit_demo takes its weights from {path}.", "The head for 3 classes is the file's.")
    assert loaded.preprocessing == Preprocessing(64, 64, "bilinear", *HALF)
    assert loaded.source == path
    assert loaded.weights_digest == hashlib.sha256(Path(path).read_bytes()).hexdigest()


def test_another_number_of_classes_and_another_size(tmp_path: Path) -> None:
    before = demo(seed=1)
    path = save(tmp_path / "w.safetensors", before)
    loaded = loaded_model("vit_demo", num_classes=11, weights=path, image_size=96, seed=2)
    assert loaded.report == (
        f"vit_demo takes its weights from {path}.",
        "New head for 11 classes; the file has one for 3.",
        "Positional embeddings were resized from a grid of 8x8 to 12x12 (bicubic).",
        "It does not say how its images were prepared: ImageNet's mean and deviation are assumed. Others are given "
        "with --mean and --std.",
        "It does not say its number of attention heads or its pooling: 4 heads and the class token, as in vit_demo, "
        "are assumed.",
    )
    assert loaded.model(torch.zeros(1, 3, 96, 96)).tolist() == [[0.0] * 11]
    assert torch.equal(loaded.model.conv_proj.weight, before.conv_proj.weight)
    assert torch.equal(loaded.model.encoder.pos_embedding[:, 0], before.encoder.pos_embedding[:, 0])


def test_the_weights_of_another_model_name_the_one_they_are_for(tmp_path: Path) -> None:
    path = save(tmp_path / "w.safetensors", demo())
    with pytest.raises(WeightsError) as caught:
        loaded_model("vit_ti_16", num_classes=3, weights=path)
    assert caught.value.problems == (
        f"{path}: The file has patch size 8, 6 layers, hidden size 128 and MLP size 256, vit_ti_16 has patch size 16, "
        "12 layers, hidden size 192 and MLP size 768; it is for --model vit_demo.",
    )
    model = VisionTransformer(64, 8, 5, 4, 128, 256)
    with pytest.raises(WeightsError, match=r"5 layers.*vit_demo has.*6 layers.*; none of the models has that"):
        loaded_model("vit_demo", num_classes=3, weights=save(tmp_path / "w.safetensors", model))


def test_errors_of_loading_name_the_file(tmp_path: Path) -> None:
    model = demo()
    del model.encoder.ln
    path = save(tmp_path / "w.safetensors", model)
    with pytest.raises(WeightsError) as caught:
        loaded_model("vit_demo", num_classes=3, weights=path)
    listed = "'encoder.ln.weight' (128,), 'encoder.ln.bias' (128,)"
    assert caught.value.problems == (f"{path}: Missing in the file: {listed}.",)


def test_the_weights_behind_a_word_say_which_file_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.model.pretrained.DEMO_FILE", tmp_path / "vit_demo.safetensors")
    path = save(tmp_path / "vit_demo.safetensors", demo())
    loaded = loaded_model("vit_demo", num_classes=4, weights="demo")
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
def test_real_weights_classify_real_images() -> None:
    loaded = loaded_model("vit_ti_16", num_classes=1000, weights=os.environ["HARNESS_REAL_WEIGHTS"])
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
