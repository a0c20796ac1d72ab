"""Gradient checkpointing: the same gradients, the same names of weights."""

from __future__ import annotations

import copy

import pytest
import torch

from harness.model.drop_path import set_drop_path
from tests.helpers.demo_vits import demo, random_images


@pytest.mark.parametrize("drop_path", [0.0, 0.3])
def test_recomputation_gives_the_same_gradients_and_keeps_names(drop_path: float) -> None:
    plain, recomputed = demo(drop_path=drop_path), demo(drop_path=drop_path, grad_checkpointing=True)
    assert list(recomputed.state_dict()) == list(plain.state_dict())
    keep = (torch.rand(4, 12, generator=torch.Generator().manual_seed(0)) > 0.3) / 0.7
    calls = []
    recomputed.encoder.layers[2].ln_1.register_forward_hook(lambda *_: calls.append(1))
    for model in (plain, recomputed):
        set_drop_path(model.train(), keep if drop_path else None)
        model(random_images()).square().sum().backward()
    assert len(calls) == 2  # once forward, once again in the backward pass
    for (name, expected), actual in zip(plain.named_parameters(), recomputed.parameters(), strict=True):
        assert expected.grad.any(), name
        assert torch.equal(actual.grad, expected.grad), name
    recomputed.eval()(random_images()).sum().backward()
    assert len(calls) == 3  # nothing is recomputed outside training


def test_a_copy_of_a_recomputing_model_has_blocks_of_its_own() -> None:
    model = demo(drop_path=0.1, grad_checkpointing=True).train()
    twin = copy.deepcopy(model)
    torch.nn.init.zeros_(twin.encoder.layers[0].mlp[3].weight)
    assert model.encoder.layers[0].mlp[3].weight.any()
    assert not torch.equal(twin(random_images()), model(random_images()))
