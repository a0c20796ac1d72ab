"""The parts of a Vision Transformer, by the names of its family."""

from __future__ import annotations

import pytest

from harness.model import adapter
from tests.helpers.demo_vits import demo


def test_depth_of_every_parameter() -> None:
    depth = adapter.parts(demo()).depth
    depths = {name: depth(name) for name, _ in demo().named_parameters()}
    assert [name for name, depth in depths.items() if depth == 0] == [
        "class_token",
        "conv_proj.weight",
        "conv_proj.bias",
        "encoder.pos_embedding",
    ]
    assert {depth for name, depth in depths.items() if "encoder_layer_4." in name} == {5}
    assert depths["encoder.ln.weight"] == depths["heads.head.bias"] == 7
    assert depth("encoder.layers.encoder_layer_5.ln_1.weight") == 6
    with pytest.raises(ValueError, match=r"fc\.weight is not a parameter"):
        depth("fc.weight")
