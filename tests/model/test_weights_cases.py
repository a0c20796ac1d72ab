"""Files of other models and formats than the plain one: each loads with its library's logits, or is refused, early.

What training programs put around weights is in test_weights_file.py.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import timm
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from harness.config import RunConfig
from harness.errors import WeightsError
from harness.export.library_files import write_hugging_face
from harness.model.architectures import ARCHITECTURES, Architecture
from harness.model.norm_eps import norm_eps, set_norm_eps
from harness.model.weights import check_header
from harness.training.checkpoint import save_best
from tests.helpers.built_models import loaded_model
from tests.model.test_state_dict_keys import randomised

NAME = "vit_demo"
SIZES = Architecture(32, 8, 2, 2, 16, 24)
TIMM = {"patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2, "mlp_ratio": 1.5, "num_classes": 3}
IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(5))


@pytest.fixture(autouse=True)
def _tiny_architecture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ARCHITECTURES, NAME, SIZES)


def of_timm(**options: Any) -> VisionTransformer:
    return randomised(VisionTransformer(**{"img_size": 32} | TIMM | options))


def distilled() -> nn.Module:
    return randomised(timm.models.deit.VisionTransformerDistilled(img_size=32, **TIMM))


# What stands in the file, and what is said of it. Only not-a-number needs the numbers, and is found on loading.
REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "a whole model": (of_timm, "was refused: it holds Python objects besides tensors (timm.models.vision_transformer"),
    "NumPy arrays": (
        lambda: {name: tensor.numpy() for name, tensor in of_timm().state_dict().items()},
        "was refused: it holds Python objects besides tensors (numpy.",
    ),
    "not a number": (
        lambda: of_timm().state_dict() | {"blocks.1.mlp.fc1.weight": torch.full((24, 16), torch.nan)},
        "Infinite or not a number: 'encoder.layers.encoder_layer_1.mlp.0.weight' (24, 16)",
    ),
    "mean of patches": (lambda: of_timm(global_pool="avg").state_dict(), "a norm after average pooling"),
    "no class token": (
        lambda: of_timm(global_pool="avg", class_token=False).state_dict(),
        "a norm after average pooling",
    ),
    "registers": (lambda: of_timm(reg_tokens=4).state_dict(), "register tokens"),
    "layer scale": (lambda: of_timm(init_values=0.1).state_dict(), "layer scale"),
    "queries without bias": (lambda: of_timm(qkv_bias=False).state_dict(), "attention without biases"),
    "a norm before the blocks": (lambda: of_timm(pre_norm=True).state_dict(), "a norm before the blocks"),
    "normed queries": (lambda: of_timm(qk_norm=True).state_dict(), "norms of queries and keys"),
    "distilled": (lambda: distilled().state_dict(), "a distillation token (distilled DeiT)"),
    "positions of patches alone": (
        lambda: of_timm(no_embed_class=True).state_dict(),
        "The weights have 16 positional embeddings; there must be one for the class token and one for each field",
    ),
    "images that are not square": (lambda: of_timm(img_size=(24, 32)).state_dict(), "have 13 positional embeddings"),
    "no final norm": (lambda: of_timm(final_norm=False).state_dict(), "Missing in the file: 'encoder.ln.weight'"),
    "no positions": (lambda: of_timm(pos_embed="none").state_dict(), "Missing in the file: 'encoder.pos_embedding'"),
    "grey images": (
        lambda: of_timm(in_chans=1).state_dict(),
        "Of another shape: 'conv_proj.weight' (16, 1, 8, 8) instead of (16, 3, 8, 8)",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_before_a_run_begins_and_why(tmp_path: Path, case: str) -> None:
    contents, sentence = REFUSED[case]
    torch.save(contents(), tmp_path / "w.pth")
    if case != "not a number":
        with pytest.raises(WeightsError, match=re.escape(sentence)):
            check_header(NAME, tmp_path / "w.pth", None)
    with pytest.raises(WeightsError, match=re.escape(sentence)):
        loaded_model(NAME, num_classes=3, weights=str(tmp_path / "w.pth"))


def loaded(path: Path, **options: Any) -> tuple[Tensor, str]:
    """Logits, and what the run prints of the weights."""
    check_header(NAME, path, None)
    built = loaded_model(NAME, num_classes=3, weights=str(path), **options)
    with torch.no_grad():
        return built.model.eval()(IMAGES), " ".join(built.report)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 5e-3), (torch.float64, 1e-6)])
def test_other_precisions_are_turned_into_float32(tmp_path: Path, dtype: torch.dtype, tolerance: float) -> None:
    model = of_timm()
    torch.save({name: tensor.to(dtype) for name, tensor in model.state_dict().items()}, tmp_path / "w.pth")
    logits, report = loaded(tmp_path / "w.pth")
    torch.testing.assert_close(logits, model(IMAGES).detach(), atol=tolerance, rtol=tolerance)
    assert f"Weights in {str(dtype).removeprefix('torch.')} were turned into float32." in report


def test_the_assumed_number_of_heads_and_the_assumed_pooling_are_reported(tmp_path: Path) -> None:
    for number, options in enumerate(({"num_heads": 4}, {"global_pool": "avg", "fc_norm": False})):
        torch.save(of_timm(**options).state_dict(), tmp_path / f"{number}.pth")
        report = loaded(tmp_path / f"{number}.pth")[1]
        assert "2 heads and the class token, as in vit_demo, are assumed." in report


def test_another_image_size_and_number_of_classes_are_said(tmp_path: Path) -> None:
    torch.save(of_timm(img_size=64, num_classes=10).state_dict(), tmp_path / "w.pth")
    report = loaded(tmp_path / "w.pth")[1]
    assert "Positional embeddings were resized from a grid of 8x8 to 4x4 (bicubic)." in report
    assert "New head for 3 classes; the file has one for 10." in report


HUGGING_FACE = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "image_size": 32,
    "patch_size": 8,
}


@pytest.mark.parametrize("shards", ["100GB", "5KB"])
def test_a_folder_of_hugging_face_loads_whole_or_in_shards(tmp_path: Path, shards: str) -> None:
    transformers = pytest.importorskip("transformers")
    model = randomised(transformers.ViTForImageClassification(transformers.ViTConfig(num_labels=3, **HUGGING_FACE)))
    model.save_pretrained(tmp_path, max_shard_size=shards)
    assert (tmp_path / "model.safetensors.index.json").exists() == (shards == "5KB")
    logits, report = loaded(tmp_path)
    torch.testing.assert_close(logits, model(pixel_values=IMAGES).logits.detach(), atol=1e-5, rtol=1e-5)
    assert "The head for 3 classes is the file's." in report and "are assumed. It" not in report
    assert "Its layer norms add 1e-12 to the variance" in report


def test_hugging_faces_names_in_a_checkpoint_of_lightning_and_without_a_head(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(num_labels=3, layer_norm_eps=1e-6, **HUGGING_FACE)
    model = randomised(transformers.ViTForImageClassification(config))
    model.save_pretrained(tmp_path / "whole")
    state = safetensors.torch.load_file(tmp_path / "whole" / "model.safetensors")
    torch.save({"state_dict": {f"model.{name}": tensor for name, tensor in state.items()}}, tmp_path / "w.ckpt")
    logits, report = loaded(tmp_path / "w.ckpt")
    torch.testing.assert_close(logits, model(pixel_values=IMAGES).logits.detach(), atol=1e-5, rtol=1e-5)
    assert "The head for 3 classes is the file's." in report
    randomised(transformers.ViTModel(config)).save_pretrained(tmp_path / "base")
    assert "Left out: the pooler. New head for 3 classes; the file has none." in loaded(tmp_path / "base")[1]


@pytest.mark.parametrize("eps", [1e-12, 1e-3])
def test_the_eps_of_layer_norms_is_loaded_kept_in_checkpoints_and_exported(tmp_path: Path, eps: float) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(num_labels=3, layer_norm_eps=eps, **HUGGING_FACE)
    source = randomised(transformers.ViTForImageClassification(config))
    with torch.no_grad():
        source.vit.embeddings.patch_embeddings.projection.weight.mul_(1e-3)  # where the number matters
        source.vit.embeddings.position_embeddings.mul_(1e-3)
        source.vit.embeddings.cls_token.mul_(1e-3)
        expected = source(pixel_values=IMAGES).logits
    source.save_pretrained(tmp_path / "in")
    built = loaded_model(NAME, num_classes=3, weights=str(tmp_path / "in"))
    torch.testing.assert_close(built.model.eval()(IMAGES), expected, atol=1e-5, rtol=1e-5)
    plain = copy.deepcopy(built.model)
    set_norm_eps(plain, 1e-6)
    assert (plain(IMAGES) - expected).abs().max() > 1e-3

    # Through the checkpoint of a run, and as the start weights of another.
    best = tmp_path / "best.safetensors"
    run = RunConfig(data="d", model="vit_demo", weights="none")
    save_best(best, built.model.state_dict(), run, ["a", "b", "c"], built.preprocessing, {}, norm_eps(built.model))
    again = loaded_model(NAME, num_classes=3, weights=str(best))
    assert norm_eps(again.model) == eps and again.weights_digest is not None
    write_hugging_face(tmp_path / "out", NAME, built.model, ("a", "b", "c"), built.preprocessing)
    opened = transformers.ViTForImageClassification.from_pretrained(tmp_path / "out").eval()
    torch.testing.assert_close(opened(pixel_values=IMAGES).logits, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("eps", ["small", 0, -1e-6, 2, True])
def test_a_description_with_an_impossible_number_for_layer_norms_is_refused(tmp_path: Path, eps: object) -> None:
    safetensors.torch.save_file(of_timm().state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vit", "layer_norm_eps": eps}))
    with pytest.raises(WeightsError, match="the eps of its layer norms is"):
        check_header(NAME, tmp_path, None)


def test_a_masked_autoencoder_of_hugging_face_loads_without_its_decoder(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    decoder = {"decoder_hidden_size": 8, "decoder_intermediate_size": 16, "decoder_num_attention_heads": 2}
    config = transformers.ViTMAEConfig(decoder_num_hidden_layers=1, **decoder, **HUGGING_FACE)
    transformers.ViTMAEForPreTraining(config).save_pretrained(tmp_path)
    report = loaded(tmp_path)[1]
    assert "Left out, because they are not under 'vit.': 'decoder." in report
    assert "New head for 3 classes; the file has none." in report


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [("Dinov2", "layer scale"), ("DeiT", "a distillation token (distilled DeiT)")],
)
def test_other_models_of_hugging_face_are_refused(tmp_path: Path, kind: str, sentence: str) -> None:
    transformers = pytest.importorskip("transformers")
    sizes = {name: value for name, value in HUGGING_FACE.items() if kind == "DeiT" or name != "intermediate_size"}
    config = getattr(transformers, f"{kind}Config")(**sizes)
    getattr(transformers, f"{kind}ForImageClassification")(config).save_pretrained(tmp_path)
    with pytest.raises(WeightsError, match=rf"The weights have {re.escape(sentence)}"):
        check_header(NAME, tmp_path, None)
