"""Files of other sizes and names in models of timm: what timm makes of them is said, and only that."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from torch import Tensor

from harness.errors import WeightsError
from harness.model.timm_weights import to_names_of
from harness.model.weights import load_into
from tests.helpers.timm_vits import small_timm

SIZES = {"depth": 1, "embed_dim": 48, "num_heads": 3, "num_classes": 3}
State = dict[str, Tensor]


def small(name: str, **options: Any) -> Any:
    return timm.create_model(name, **SIZES | options)


def test_a_resampled_patch_projection_is_said() -> None:
    """Otherwise a file for patches of 16 pixels, given for a model of 32, would be taken without a word."""
    name = "vit_base_patch32_224"
    model = small(name, img_size=64)
    state, sentences = to_names_of(model, name, small("vit_base_patch16_224", img_size=64).state_dict())
    assert sentences == (
        "timm resampled the positional embeddings to a grid of 2x2.",
        "timm resampled the patch projection from 16x16 to 32x32 pixels.",
    )
    load_into(model, state)


def official_dinov2(state: State) -> State:
    """Of timm's model with registers, under the names of its authors' file: the class token has a position there."""
    official = {name: tensor for name, tensor in state.items() if name not in ("reg_token", "pos_embed")}
    positions = torch.cat([torch.ones_like(state["cls_token"]), state["pos_embed"]], dim=1)
    return official | {
        "register_tokens": state["reg_token"],
        "pos_embed": positions,
        "mask_token": torch.zeros(1, 48),
        "cls_token": state["cls_token"] - 1,
    }


def test_positions_that_only_lose_that_of_the_class_token_are_not_called_resampled() -> None:
    name = "vit_small_patch14_reg4_dinov2"
    model = small_timm(name)
    state, sentences = to_names_of(model, name, official_dinov2(model.state_dict()))
    assert not any("resampled" in sentence for sentence in sentences)
    torch.testing.assert_close(state, dict(model.state_dict()))
    _, sentences = to_names_of(small_timm(name, 96), name, official_dinov2(model.state_dict()))
    assert sentences == ("timm resampled the positional embeddings to a grid of 6x6.",)


def test_positions_of_an_impossible_shape_are_one_sentence() -> None:
    name = "vit_tiny_patch16_224"
    model = small(name, img_size=32)
    with pytest.raises(WeightsError, match=f"timm cannot turn its names and shapes into those of {name}"):
        to_names_of(model, name, model.state_dict() | {"pos_embed": torch.zeros(48)})


def test_parts_that_other_libraries_name_are_refused_with_what_to_give() -> None:
    """As in Hugging Face's files of DINOv2, whose layer scale timm's model does have."""
    name = "vit_small_patch14_dinov2"
    state = {
        "embeddings.patch_embeddings.projection.weight": torch.zeros(48, 3, 14, 14),
        "encoder.layer.0.layer_scale1.lambda1": torch.zeros(48),
    }
    with pytest.raises(WeightsError) as caught:
        to_names_of(small_timm(name), name, state)
    assert caught.value.problems[-1].endswith("give a file with timm's names.")
