"""Renamed weights must give the logits of the implementation they come from."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision.models import VisionTransformer

from harness.errors import WeightsError
from harness.model.state_dict_keys import to_torchvision
from harness.model.weights import load_into
from harness.model.weights_file import read_weights, select

SIZES: dict[str, Any] = {
    "image_size": 32,
    "patch_size": 8,
    "num_layers": 2,
    "num_heads": 2,
    "hidden_dim": 16,
    "mlp_dim": 24,
    "num_classes": 5,
}


def tiny() -> VisionTransformer:
    return VisionTransformer(**SIZES).eval()


def randomised(model: Any) -> Any:
    """Every parameter away from its initial value: zeros and ones would hide a mix-up."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return model.eval()


def random_images(side: int = 32) -> Tensor:
    return torch.randn(3, 3, side, side, generator=torch.Generator().manual_seed(2))


def converted_logits(state: dict[str, Tensor]) -> Tensor:
    model = tiny()
    load_into(model, to_torchvision(select(state, Path("weights.pth"))[0])[0])
    with torch.no_grad():
        return model(random_images())


def timm_model(**options: Any) -> nn.Module:
    timm = pytest.importorskip("timm")
    return randomised(
        timm.models.vision_transformer.VisionTransformer(
            img_size=32, patch_size=8, embed_dim=16, depth=2, num_heads=2, mlp_ratio=1.5, num_classes=5, **options
        )
    )


def google_arrays(model: VisionTransformer) -> dict[str, np.ndarray]:
    """The model's weights under the names and in the shapes of Google's .npz files."""
    state = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    heads, width = SIZES["num_heads"], SIZES["hidden_dim"]
    arrays = {
        "cls": state["class_token"],
        "embedding/kernel": state["conv_proj.weight"].transpose(2, 3, 1, 0),
        "embedding/bias": state["conv_proj.bias"],
        "Transformer/posembed_input/pos_embedding": state["encoder.pos_embedding"],
        "Transformer/encoder_norm/scale": state["encoder.ln.weight"],
        "Transformer/encoder_norm/bias": state["encoder.ln.bias"],
        "head/kernel": state["heads.head.weight"].T,
        "head/bias": state["heads.head.bias"],
    }
    for i in range(SIZES["num_layers"]):
        ours, theirs = f"encoder.layers.encoder_layer_{i}.", f"Transformer/encoderblock_{i}/"
        for norm, number in (("ln_1", 0), ("ln_2", 2)):
            arrays[f"{theirs}LayerNorm_{number}/scale"] = state[f"{ours}{norm}.weight"]
            arrays[f"{theirs}LayerNorm_{number}/bias"] = state[f"{ours}{norm}.bias"]
        attention = f"{theirs}MultiHeadDotProductAttention_1/"
        weights = np.split(state[f"{ours}self_attention.in_proj_weight"], 3)
        biases = np.split(state[f"{ours}self_attention.in_proj_bias"], 3)
        for part, weight, bias in zip(("query", "key", "value"), weights, biases, strict=True):
            arrays[f"{attention}{part}/kernel"] = weight.T.reshape(width, heads, -1)
            arrays[f"{attention}{part}/bias"] = bias.reshape(heads, -1)
        arrays[f"{attention}out/kernel"] = state[f"{ours}self_attention.out_proj.weight"].T.reshape(heads, -1, width)
        arrays[f"{attention}out/bias"] = state[f"{ours}self_attention.out_proj.bias"]
        for dense, layer in ((0, 0), (1, 3)):
            arrays[f"{theirs}MlpBlock_3/Dense_{dense}/kernel"] = state[f"{ours}mlp.{layer}.weight"].T
            arrays[f"{theirs}MlpBlock_3/Dense_{dense}/bias"] = state[f"{ours}mlp.{layer}.bias"]
    return arrays


def test_timm_weights_give_timms_logits() -> None:
    model = timm_model()
    with torch.no_grad():
        expected = model(random_images())
    torch.testing.assert_close(converted_logits(model.state_dict()), expected, atol=1e-5, rtol=0)
    assert expected.std() > 0.1


@pytest.mark.parametrize("base_model_alone", [False, True])
@pytest.mark.parametrize("from_file", [False, True])
def test_hugging_face_weights_give_hugging_faces_logits(
    tmp_path: Path, base_model_alone: bool, from_file: bool
) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        image_size=32,
        patch_size=8,
        num_labels=5,
        layer_norm_eps=1e-6,  # torchvision's; Hugging Face's own is 1e-12
    )
    model = randomised(transformers.ViTForImageClassification(config))
    kept = model.vit if base_model_alone else model
    state = kept.state_dict()
    if from_file:  # files keep the older names
        kept.save_pretrained(tmp_path)
        state = read_weights(tmp_path / "model.safetensors")[0]
    with torch.no_grad():
        expected = model(random_images()).logits
        hidden = model.vit(random_images()).last_hidden_state[:, 0]
    if base_model_alone:
        ours = tiny()
        assert "New head for 5 classes; the file has none." in load_into(ours, to_torchvision(state)[0])
        ours.heads = nn.Identity()
        torch.testing.assert_close(ours(random_images()).detach(), hidden, atol=1e-5, rtol=0)
    else:
        torch.testing.assert_close(converted_logits(state), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("prefix", ["", "opt/target/"])
def test_google_weights_give_the_same_logits(tmp_path: Path, prefix: str) -> None:
    model = randomised(tiny())
    path = tmp_path / "vit.npz"
    np.savez(path, **{prefix + name: array for name, array in google_arrays(model).items()})
    state = read_weights(path)[0]
    with torch.no_grad():
        expected = model(random_images())
    torch.testing.assert_close(converted_logits(state), expected, atol=1e-6, rtol=0)


def test_google_weights_mean_to_timm_what_they_mean_here(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    path = tmp_path / "vit.npz"
    np.savez(path, **google_arrays(randomised(tiny())))
    theirs = timm_model()
    timm.models.vision_transformer._load_weights(theirs, str(path))
    with torch.no_grad():
        expected = theirs(random_images())
    torch.testing.assert_close(converted_logits(read_weights(path)[0]), expected, atol=1e-5, rtol=0)


def test_names_of_torchvision_and_its_older_versions() -> None:
    model = randomised(tiny())
    new = model.state_dict()
    old = {name.replace("mlp.0", "mlp.linear_1").replace("mlp.3", "mlp.linear_2"): new[name] for name in new}
    assert old.keys() != new.keys()
    for state in (new, old):
        same, sentences = to_torchvision(state)
        assert sentences == ()
        assert all(torch.equal(same[name], new[name]) for name in new)
        assert same.keys() == new.keys()


def test_the_layer_before_the_head_is_dropped_together_with_the_head() -> None:
    arrays = google_arrays(randomised(tiny()))
    state = {name: torch.from_numpy(array) for name, array in arrays.items()}
    state |= {"pre_logits/kernel": torch.ones(16, 16), "pre_logits/bias": torch.ones(16)}
    converted, sentences = to_torchvision(state)
    assert sentences == (
        "Names were converted from Google's.",
        "Left out: the layer before the head (pre_logits), and with it the head.",
    )
    assert not [name for name in converted if "head" in name or "logits" in name]
    assert "New head for 5 classes; the file has none." in load_into(tiny(), converted)


@pytest.mark.parametrize(
    ("options", "what", "name"),
    [
        ({"init_values": 0.1}, "layer scale", "'blocks.0.ls1.gamma'"),
        ({"reg_tokens": 2}, "register tokens", "'reg_token'"),
        ({"global_pool": "avg"}, "a norm after average pooling", "'fc_norm.weight'"),
        ({"qk_norm": True}, "norms of queries and keys", "'blocks.0.attn.q_norm.weight'"),
        ({"pre_norm": True}, "a norm before the blocks", "'norm_pre.weight'"),
        ({"qkv_bias": False}, "attention without biases", "encoder_layer_0.self_attention.in_proj_weight'"),
    ],
)
def test_timm_parts_without_a_place_in_torchvision_are_refused_by_name(
    options: dict[str, Any], what: str, name: str
) -> None:
    with pytest.raises(WeightsError, match=rf"The weights have {what}.*{re.escape(name)}"):
        to_torchvision(timm_model(**options).state_dict())


@pytest.mark.parametrize(
    "name", ["dist_token", "vit.embeddings.distillation_token", "deit.embeddings.distillation_token"]
)
def test_distilled_deit_is_refused(name: str) -> None:
    with pytest.raises(WeightsError, match=r"a distillation token \(distilled DeiT\), which"):
        to_torchvision({"patch_embed.proj.weight": torch.zeros(16, 3, 8, 8), name: torch.zeros(1, 1, 16)})


def test_another_network_is_refused_with_a_few_of_its_names() -> None:
    with pytest.raises(WeightsError, match=r"not those of a Vision Transformer.*'layer0', .*'layer7', and 4 more\.$"):
        to_torchvision({f"layer{i}": torch.zeros(1) for i in range(12)})
