from __future__ import annotations

import math

import pytest
import torch
from torchvision.models import VisionTransformer

from harness.config import RunConfig
from harness.training.optim import MovingAverage, build_optimizer, learning_rate, parameter_groups, set_learning_rate


@pytest.fixture
def model() -> VisionTransformer:
    return VisionTransformer(
        image_size=16, patch_size=8, num_layers=2, num_heads=2, hidden_dim=8, mlp_dim=16, num_classes=3
    )


def test_norms_biases_class_token_and_positions_are_not_decayed(model: VisionTransformer) -> None:
    groups = parameter_groups(model, weight_decay=0.1, layer_decay=1.0)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decayed = {names[id(parameter)] for group in groups if group["weight_decay"] for parameter in group["params"]}
    assert decayed == {
        "conv_proj.weight",
        *(
            f"encoder.layers.encoder_layer_{layer}.{part}"
            for layer in range(2)
            for part in (
                "self_attention.in_proj_weight",
                "self_attention.out_proj.weight",
                "mlp.0.weight",
                "mlp.3.weight",
            )
        ),
        "heads.head.weight",
    }
    assert sorted(map(len, (group["params"] for group in groups))) == [10, 22]


def test_layer_decay_lowers_the_rate_with_the_distance_from_the_head(model: VisionTransformer) -> None:
    groups = parameter_groups(model, weight_decay=0.0, layer_decay=0.5)
    scale = {id(parameter): group["lr_scale"] for group in groups for parameter in group["params"]}
    assert scale[id(model.heads.head.weight)] == scale[id(model.encoder.ln.weight)] == 1.0
    assert scale[id(model.encoder.layers[1].mlp[0].weight)] == 0.5
    assert scale[id(model.encoder.layers[0].mlp[0].weight)] == 0.25
    assert scale[id(model.conv_proj.weight)] == scale[id(model.encoder.pos_embedding)] == 0.125
    optimizer = torch.optim.SGD(groups, lr=1.0)
    set_learning_rate(optimizer, 0.4)
    assert {group["lr"] for group in optimizer.param_groups} == {0.4, 0.2, 0.1, 0.05}


def test_frozen_parameters_are_left_to_nobody(model: VisionTransformer) -> None:
    for name, parameter in model.named_parameters():
        parameter.requires_grad = name.startswith("heads.")
    optimizer = build_optimizer(model, RunConfig(data="images", recipe="study"), torch.device("cpu"))
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 2
    assert isinstance(optimizer, torch.optim.AdamW)
    assert optimizer.defaults["fused"] is True


def test_the_schedule_counts_optimiser_steps() -> None:
    config = RunConfig(data="images", lr=2.0, epochs=4, warmup_epochs=0.5, schedule="cosine")
    rates = [learning_rate(step, config, steps_per_epoch=10) for step in range(40)]
    assert rates[:5] == pytest.approx([0.4, 0.8, 1.2, 1.6, 2.0])
    assert rates[5] == 2.0
    assert rates[5:] == pytest.approx([1 + math.cos(math.pi * step / 35) for step in range(35)])
    constant = RunConfig(data="images", recipe="study", lr=2.0, epochs=4)
    assert {learning_rate(step, constant, steps_per_epoch=10) for step in range(40)} == {2.0}


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_captured_step_reads_the_learning_rate_of_each_group_from_the_same_memory(
    model: VisionTransformer, optimizer: str
) -> None:
    config = RunConfig(data="images", optimizer=optimizer, layer_decay=0.5, cuda_graph=True)
    groups = build_optimizer(model, config, torch.device("cpu")).param_groups
    assert all(group["fused"] and group.get("capturable", True) for group in groups)
    before = [group["lr"] for group in groups]
    assert len({rate.data_ptr() for rate in before}) == len(groups) == 8
    built = build_optimizer(model, config, torch.device("cpu"))
    rates = [group["lr"] for group in built.param_groups]
    set_learning_rate(built, 0.5)
    assert all(group["lr"] is rate for group, rate in zip(built.param_groups, rates, strict=True))
    assert sorted({rate.item() for rate in rates}) == [0.0625, 0.125, 0.25, 0.5]


@pytest.mark.parametrize("captured", [False, True])
def test_the_average_follows_the_weights(model: VisionTransformer, captured: bool) -> None:
    average = MovingAverage(model, decay=0.9, captured=captured)
    name = "heads.head.bias"
    expected = model.heads.head.bias.detach().clone()
    for step in range(1, 200):
        with torch.no_grad():
            model.heads.head.bias.fill_(float(step))
        average.set_step(step)
        average.update(model)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * step
    assert torch.allclose(average.weights[name], expected, rtol=1e-5)
    assert average.weights[name].mean() < model.heads.head.bias.mean()


def test_a_decay_that_a_short_run_does_not_reach_is_named() -> None:
    model = torch.nn.Linear(1, 1)
    assert MovingAverage(model, decay=0.9).shortfall(100) == ""
    assert "is not reached in 100 steps" in MovingAverage(model, decay=0.999).shortfall(100)
    assert "to 0.9182" in MovingAverage(model, decay=0.99).shortfall(100)  # 101 / 110
