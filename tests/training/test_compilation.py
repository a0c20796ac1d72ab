"""Compiled models: the same training as plain ones, one graph for all blocks, and plain blocks for evaluation.

Once a process has run a compiled function, autograd refuses to work in its children, and other tests fork theirs. So
these tests compile in a child. `aot_eager` traces as inductor does, and does not need a C++ compiler.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from harness.config import RunConfig
from harness.data.loader import Batch
from harness.errors import ConfigError
from harness.explain.attention.capture import capture_rows
from harness.model import adapter
from harness.model.drop_path import add_drop_path
from harness.model.grad_checkpointing import enable_grad_checkpointing
from harness.model.lora import add_lora
from harness.model.packed_attention import pack_attention
from harness.options import arguments, parse
from harness.train import fit
from harness.training import state as state_module
from harness.training.compilation import STEPS_TO_REPAY, CompiledParts, should_compile
from harness.training.distributed import Processes
from harness.training.state import TrainState
from harness.training.step import training_step
from tests.helpers.forked import in_child
from tests.helpers.timm_vits import small_timm
from tests.helpers.tiny_vits import random_images, tiny_vit
from tests.test_train import losses_of, same_bits, settings, weights_of

CONFIG = RunConfig(data="images", model="vit_demo", weights="none", compile=True, threads=1, lr=1e-3)
SECONDS = 300  # tracing takes a few seconds of processor time
AOT_EAGER = partial(CompiledParts, backend="aot_eager")


def plain_vit(layers: int = 3) -> nn.Module:
    model = tiny_vit(layers=layers)
    pack_attention(model)
    return model


def with_lora() -> nn.Module:
    model = plain_vit(layers=2)
    add_lora(model, 2, 4.0, "all", 0)
    return model


def recomputed_with_drop_path() -> nn.Module:
    model = plain_vit()
    add_drop_path(model)
    enable_grad_checkpointing(model)
    return model


# The model and settings; a graph each for 4 images, for 3 (a micro-batch) and for 1.
CASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "everything": (recomputed_with_drop_path, {"ema": True, "clip_grad": 1.0, "layer_decay": 0.7}),
    "LoRA": (with_lora, {"lora_rank": 2}),
    "timm": (lambda: small_timm("deit3_small_patch16_224"), {}),
}


def batch(count: int, size: int, branches: int) -> Batch:
    generator = torch.Generator().manual_seed(count)
    return Batch(
        images=random_images(count, size),
        targets=torch.eye(5)[torch.arange(count) % 5],
        samples=np.arange(count),
        weight=torch.ones(count),
        total=count,
        drop_path_scale=torch.rand(count, branches, generator=generator).round() * 2 if branches else None,
        mass=float(count),
    )


def train(make: Any, config: RunConfig) -> tuple[list[float], dict[str, torch.Tensor], int]:
    """Losses of five steps, weights after them, and the number of graphs that were compiled."""
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    processes = Processes(config)
    try:
        model = make()
        state = TrainState(model, config, processes.accelerator)
        branches = sum(type(module).__name__ == "DropPath" for module in model.modules())
        size, losses = adapter.parts(model).image_size, []
        for count, micro_batch in ((4, 4), (4, 4), (1, 4), (4, 3), (4, 4)):
            state.train()
            state.progress.micro_batch = micro_batch
            losses.append(training_step(state, batch(count, size, branches), 1e-3, config, processes).item())
            state.train(False)
            state.forward(random_images(2, size))
        return losses, dict(state.weights()), torch._dynamo.utils.counters["stats"]["unique_graphs"]
    finally:
        processes.close()


@pytest.mark.parametrize("name", CASES)
def test_a_compiled_model_trains_as_a_plain_one_and_its_blocks_share_their_graphs(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_module, "CompiledParts", AOT_EAGER)
    make, changes = CASES[name]
    config = dataclasses.replace(CONFIG, **changes)

    def differences() -> tuple[float, float, int, int]:
        losses, weights, graphs = train(make, config)
        expected_losses, expected, no_graphs = train(make, dataclasses.replace(config, compile=False))
        by_loss = max(abs(one - other) for one, other in zip(losses, expected_losses, strict=True))
        by_weight = max(float((weights[key] - expected[key]).abs().max()) for key in expected)
        return by_loss, by_weight, graphs, no_graphs

    by_loss, by_weight, graphs, no_graphs = in_child(differences, SECONDS)
    assert (graphs, no_graphs) == (3, 0)
    assert by_loss < 1e-5
    assert by_weight < 1e-5


def test_in_evaluation_mode_blocks_are_plain_and_attention_can_be_captured() -> None:
    def captured() -> bool:
        model = plain_vit()
        expected = model(random_images())
        blocks = CompiledParts(model, "aot_eager")
        blocks.use(True)
        assert all(block._compiled_call_impl for block in adapter.parts(model).blocks)
        model(random_images())
        blocks.use(False)
        with capture_rows(model) as rows:
            logits = model(random_images())
        return torch.equal(logits, expected) and rows().shape[1] == 3

    assert in_child(captured, SECONDS)


def test_a_compiled_run_resumes_with_the_same_bits(
    data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 21 images in batches of 5, the last has one; explained at the end, by plain blocks."""
    monkeypatch.setattr(state_module, "CompiledParts", AOT_EAGER)
    config = settings(data_folder, tmp_path / "stopped", compile=True, mixup=0.4, drop_path=0.2, explain="2")
    take_step = training_step

    def stop_after_seven(state: TrainState, *rest: Any) -> torch.Tensor:
        loss = take_step(state, *rest)
        if state.progress.step == 7:
            raise KeyboardInterrupt
        return loss

    def both() -> tuple[list[float], list[float], bool]:
        whole = fit(dataclasses.replace(config, runs_dir=str(tmp_path / "whole")))
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr("harness.train.training_step", stop_after_seven)
            fit(config)
        resumed = fit(config)
        return losses_of(resumed), losses_of(whole), same_bits(weights_of(resumed), weights_of(whole))

    resumed, whole, same = in_child(both, SECONDS)
    assert same
    assert resumed == whole
    plain = fit(dataclasses.replace(config, runs_dir=str(tmp_path / "plain"), compile=False, explain="none"))
    assert whole == pytest.approx(losses_of(plain), rel=1e-4)


def test_auto_compiles_long_runs_on_a_gpu() -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert [should_compile(setting, 10**9, cpu) for setting in (True, False, "auto")] == [True, False, False]
    assert [should_compile("auto", STEPS_TO_REPAY - less, gpu) for less in (0, 1)] == [True, False]
    assert not should_compile(False, 10**9, gpu)


@pytest.mark.parametrize(
    ("word", "value"), [("True", True), ("False", False), ("true", True), ("auto", "auto"), (None, True)]
)
def test_words_of_sweeps_and_of_the_command_line_are_read(word: str | None, value: bool | str) -> None:
    config = parse(["--data=images", f"--compile={word}" if word else "--compile"])
    assert config.compile == value
    assert parse(arguments(config)) == config == RunConfig.from_dict(config.to_dict())


def test_another_word_is_refused() -> None:
    with pytest.raises(ConfigError, match="--compile is 'fast'; it must be one of auto, true, false"):
        parse(["--data=images", "--compile=fast"])
