"""Packed attention: the parameters, names and values of nn.MultiheadAttention, with fewer operations."""

from __future__ import annotations

import copy
from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.models import VisionTransformer

from harness.model.packed_attention import PackedAttention, pack_attention
from tests.helpers.built_models import loaded_model
from tests.helpers.tiny_vits import random_images, tiny_vit

COPIES = ("clone", "copy_", "cat", "stack", "fill_", "zeros")


class CountedOperations(TorchDispatchMode):
    """Counts the operations that torch dispatches, without views."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not operation.is_view:
            self.calls[operation.overloadpacket.__name__] += 1
        return operation(*args, **(kwargs or {}))


def both(layers: int = 3) -> tuple[VisionTransformer, VisionTransformer]:
    """A model as torchvision builds it, and the same one packed."""
    plain = tiny_vit(layers=layers, packed=False)
    packed = copy.deepcopy(plain)
    pack_attention(packed)
    return plain, packed


def step(model: VisionTransformer) -> Tensor:
    """The logits of a forward pass; their gradients are in the parameters."""
    model.zero_grad()
    logits = model(random_images())
    logits.square().mean().backward()
    return logits


def counted_step(model: VisionTransformer) -> Counter[str]:
    model.train()
    step(model)  # the first step allocates
    with CountedOperations() as counted:
        step(model)
    return counted.calls


def test_names_and_parameters_stay() -> None:
    plain, packed = both()
    assert {name: tuple(value.shape) for name, value in packed.named_parameters()} == {
        name: tuple(value.shape) for name, value in plain.named_parameters()
    }
    assert list(packed.state_dict()) == list(plain.state_dict())
    packed.load_state_dict(plain.state_dict(), strict=True)


def test_pack_attention_keeps_the_parameters_themselves() -> None:
    model = tiny_vit()
    before = dict(model.named_parameters())
    pack_attention(model)
    assert all(parameter is before[name] for name, parameter in model.named_parameters())


@pytest.mark.parametrize("training", [True, False])
def test_logits_and_gradients_equal_those_of_multihead_attention(training: bool) -> None:
    plain, packed = both()
    torch.testing.assert_close(step(packed.train(training)), step(plain.train(training)), rtol=1e-5, atol=1e-5)
    for (name, one), other in zip(packed.named_parameters(), plain.parameters(), strict=True):
        assert one.grad is not None and other.grad is not None
        assert (one.grad - other.grad).abs().max() <= 1e-5 * other.grad.abs().max(), name


def test_weights_on_request_are_those_of_multihead_attention() -> None:
    plain, packed = both()
    tokens = torch.randn(2, 17, 36, generator=torch.Generator().manual_seed(1))
    for one, other in zip(plain.encoder.layers, packed.encoder.layers, strict=True):
        expected = one.self_attention(tokens, tokens, tokens, need_weights=True, average_attn_weights=False)
        values = other.self_attention(tokens, tokens, tokens, need_weights=True, average_attn_weights=False)
        assert torch.equal(values[0], expected[0]) and torch.equal(values[1], expected[1])


def test_dropout_of_attention_acts_in_training_alone() -> None:
    attention = PackedAttention(24, 2, dropout=0.5, batch_first=True)
    tokens = torch.randn(2, 5, 24, generator=torch.Generator().manual_seed(1))

    def twice() -> bool:
        one, other = (attention(tokens, tokens, tokens, need_weights=False)[0] for _ in range(2))
        return torch.equal(one, other)

    assert not twice()
    attention.eval()
    assert twice()


def test_a_training_step_has_few_operations_and_copies() -> None:
    """Per block. Of the copies, one joins the gradients of queries, keys and values, one is of the attended tokens."""
    plain, packed = ((counted_step(both(layers=4)[way]), counted_step(both(layers=2)[way])) for way in (0, 1))
    operations = [(four.total() - two.total()) / 2 for four, two in (plain, packed)]
    copies = [sum(four[name] - two[name] for name in COPIES) / 2 for four, two in (plain, packed)]
    assert copies[1] <= 2 < 8 <= copies[0]
    assert operations[1] <= 0.65 * operations[0]


def test_every_built_model_has_packed_attention() -> None:
    model = loaded_model("vit_demo", num_classes=3, weights="none").model
    assert {type(block.self_attention) for block in model.encoder.layers} == {PackedAttention}
    assert isinstance(model.encoder.layers[0].self_attention, nn.MultiheadAttention)
