"""Every family of timm's models takes the program's training steps: resumed with the same bits, on two processes alike.

Whole runs of two of them are in tests/test_timm_run.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from harness.config import RunConfig
from harness.data.loader import Batch, share_of
from harness.model import adapter
from harness.model.drop_path import add_drop_path
from harness.training.checkpoint import save_tensors
from harness.training.distributed import Processes
from harness.training.state import TrainState
from harness.training.step import STEPS_UNTIL_MEMORY_IS_KNOWN, training_step
from tests.helpers.timm_vits import FAMILIES, small_timm
from tests.test_train import on_ranks, same_bits

IMAGES = 3  # of a global batch: two processes have shares of 2 and 1
STEPS = STEPS_UNTIL_MEMORY_IS_KNOWN + 2  # from then on, processes exchange gradients during the backward pass
LR = {"adamw": 1e-3, "sgd": 0.1}


def config_of(name: str, optimizer: str) -> RunConfig:
    settings = {"layer_decay": 0.7, "drop_path": 0.2, "ema": True, "clip_grad": 1.0, "threads": 1, "weights": "none"}
    return RunConfig(data="unread", model=f"timm:{name}", optimizer=optimizer, lr=LR[optimizer], **settings)


def state_of(name: str, config: RunConfig, processes: Processes, seed: int = 0) -> TrainState:
    model = small_timm(name, 64 if "patch32" in name else 32, seed)  # 4 patches, or 16 of 8 pixels
    add_drop_path(model)
    state = TrainState(model.train(), config, processes.accelerator)
    state.progress.micro_batch = IMAGES
    return state


def batch_of(step: int, image_size: int, rank: int, world: int) -> Batch:
    """A rank's share of the global batch of a step, with soft targets and dropped branches."""
    generator = torch.Generator().manual_seed(step)
    images = torch.randn(IMAGES, 3, image_size, image_size, generator=generator)
    targets = torch.rand(IMAGES, 5, generator=generator).softmax(1)
    scale = (torch.rand(IMAGES, 4, generator=generator) > 0.2).float() / 0.8
    own = slice(*share_of(IMAGES, rank, world))
    samples = np.arange(IMAGES)[own]
    return Batch(images[own], targets[own], samples, torch.ones(len(samples)), IMAGES, scale[own], IMAGES)


def train(state: TrainState, config: RunConfig, processes: Processes, until: int) -> list[Tensor]:
    """Take steps up to number `until`; returns this rank's part of each loss."""
    side = adapter.parts(state.model).image_size
    losses = []
    while (step := state.progress.step) < until:
        batch = batch_of(step, side, processes.rank, processes.world)
        losses.append(training_step(state, batch, config.lr, config, processes))
    return losses


def everything(state: TrainState) -> dict[str, Tensor]:
    assert state.average
    averages = {f"average.{name}": value for name, value in state.average.weights.items()}
    return {name: value.clone() for name, value in (state.model.state_dict() | averages).items()}


@pytest.fixture
def alone() -> Iterator[Processes]:
    processes = Processes(config_of("test_vit", "adamw"))
    yield processes
    processes.close()


@pytest.fixture(scope="module")
def by_two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes make of all families, one after another: files NAME.safetensors, or NAME.txt with an error."""
    folder = tmp_path_factory.mktemp("by_two")

    def work() -> None:
        processes = Processes(config_of("test_vit", "sgd"))
        for name in FAMILIES:
            config = config_of(name, "sgd")
            try:
                state = state_of(name, config, processes)
                losses = processes.sum_on_device(torch.stack(train(state, config, processes, STEPS)))
            except RuntimeError as error:  # both ranks have it: DDP's, of parameters without a gradient
                (folder / f"{name}.txt").write_text(str(error))
                continue
            if processes.is_main:
                save_file(everything(state) | {"losses": losses}, folder / f"{name}.safetensors")

    on_ranks(2, work)
    return folder


@pytest.mark.parametrize("name", FAMILIES)
def test_a_resumed_state_trains_to_the_same_bits(name: str, alone: Processes, tmp_path: Path) -> None:
    config = config_of(name, "adamw")
    whole = state_of(name, config, alone)
    train(whole, config, alone, 1)
    save_tensors(tmp_path / "state.safetensors", whole.tensors(), whole.metadata({}))
    train(whole, config, alone, 3)
    resumed = state_of(name, config, alone, seed=1)
    resumed.restore(tmp_path / "state.safetensors", {})
    train(resumed, config, alone, 3)
    assert same_bits(everything(resumed), everything(whole))


@pytest.mark.parametrize("name", FAMILIES)
def test_two_processes_train_as_one(name: str, alone: Processes, by_two: Path) -> None:
    assert (by_two / f"{name}.safetensors").exists(), (by_two / f"{name}.txt").read_text()
    theirs = load_file(by_two / f"{name}.safetensors")
    config = config_of(name, "sgd")
    state = state_of(name, config, alone)
    before: dict[str, Any] = everything(state)
    losses = train(state, config, alone, STEPS)
    torch.testing.assert_close(theirs.pop("losses"), torch.stack(losses), atol=1e-6, rtol=1e-5)
    ours = everything(state)
    assert ours.keys() == theirs.keys()
    for key, value in ours.items():
        torch.testing.assert_close(theirs[key], value, atol=2e-6, rtol=1e-5, msg=lambda text, key=key: f"{key}: {text}")
    # Agreeing means something only of weights that moved. A softmax cancels a bias that all positions share.
    unmoved = [key for key, _ in state.model.named_parameters() if torch.equal(before[key], ours[key])]
    assert all("rel_pos.mlp" in key for key in unmoved), unmoved
