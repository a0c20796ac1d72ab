"""The loss of a global batch is PyTorch's, however it is split, and without corrections it is what it was."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from harness.config import RunConfig
from harness.data.loader import Batch, share_of
from harness.data.mixup import Mix, mix_pairs, soft_targets
from harness.training.distributed import Processes
from harness.training.loss import Loss, training_loss
from harness.training.state import TrainState
from harness.training.step import training_step
from tests.helpers.built_models import loaded_model
from tests.test_train import on_ranks

WEIGHTS = np.array([0.5, 1.0, 3.0], np.float32)
LABELS = torch.tensor([0, 2, 1, 0, 0, 1, 2])
LOGITS = torch.linspace(-2, 3, 21).sin().reshape(7, 3)


def test_a_batch_of_two_worked_by_hand() -> None:
    # Equal logits: every class has probability 1/3, so every loss is log 3, whatever the weights.
    loss = Loss(torch.from_numpy(WEIGHTS))
    targets = soft_targets(torch.tensor([0, 2]), 3, 0.0)
    assert loss.per_image(torch.zeros(2, 3), targets).tolist() == pytest.approx([0.5 * math.log(3), 3 * math.log(3)])
    # Logits (log 2, 0, 0): probabilities 1/2, 1/4, 1/4. Of labels 0 and 2: (0.5 log 2 + 3 log 4) / (0.5 + 3).
    logits = torch.tensor([[math.log(2), 0, 0]] * 2)
    total = loss.per_image(logits, targets).sum() / 3.5
    assert total.item() == pytest.approx((0.5 * math.log(2) + 3 * math.log(4)) / 3.5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_weighted_mean_is_that_of_pytorch(smoothing: float) -> None:
    loss = training_loss(WEIGHTS, LABELS.numpy(), 3, 0.0, torch.device("cpu"))
    losses = loss.per_image(LOGITS, soft_targets(LABELS, 3, smoothing))
    mass = WEIGHTS[LABELS.numpy()].sum()
    expected = torch.nn.CrossEntropyLoss(torch.from_numpy(WEIGHTS), label_smoothing=smoothing)(LOGITS, LABELS)
    assert (losses.sum() / mass).item() == pytest.approx(expected.item(), rel=1e-6)


def test_a_mixed_image_counts_as_its_shares_of_two() -> None:
    images, targets = torch.zeros(2, 3, 4, 4), soft_targets(torch.tensor([0, 2]), 3, 0.0)
    mix_pairs(images, targets, Mix(0.75, None))
    losses = Loss(torch.from_numpy(WEIGHTS)).per_image(LOGITS[:2], targets)
    by_class = -LOGITS[:2].log_softmax(1)
    expected = 0.75 * 0.5 * by_class[0, 0] + 0.25 * 3 * by_class[0, 2]
    expected += 0.75 * 3 * by_class[1, 2] + 0.25 * 0.5 * by_class[1, 0]
    assert losses.sum().item() == pytest.approx(expected.item(), rel=1e-6)
    # And so does the denominator: 0.75 * 0.5 + 0.25 * 3 + 0.75 * 3 + 0.25 * 0.5 = 0.5 + 3.
    assert (targets @ torch.from_numpy(WEIGHTS)).sum().item() == 3.5


def test_logits_are_adjusted_by_the_log_of_the_shares() -> None:
    loss = training_loss(None, np.array([0, 0, 0, 1, 1, 1, 1, 2]), 3, 2.0, torch.device("cpu"))
    assert loss.class_weights is None
    assert loss.logit_offsets is not None
    assert loss.logit_offsets.tolist() == pytest.approx([2 * math.log(3 / 8), 2 * math.log(1 / 2), 2 * math.log(1 / 8)])
    # Equal logits then have probabilities in proportion to the squares of 3, 4 and 1.
    losses = loss.per_image(torch.zeros(3, 3), torch.eye(3))
    assert losses.tolist() == pytest.approx([math.log(26 / 9), math.log(26 / 16), math.log(26)], rel=1e-5)


def test_without_corrections_the_loss_is_what_it_was_to_the_last_bit() -> None:
    loss = training_loss(None, LABELS.numpy(), 3, 0.0, torch.device("cpu"))
    assert loss.origin() == {}
    targets, logits = soft_targets(LABELS, 3, 0.1), LOGITS.bfloat16()
    assert torch.equal(loss.per_image(logits, targets), cross_entropy(logits.float(), targets, reduction="none"))


def test_the_digest_follows_the_weights() -> None:
    one, other = (Loss(torch.tensor(weights)).origin() for weights in ([1.0, 2.0], [1.0, 2.5]))
    assert one.keys() == other.keys() == {"class weights"}
    assert one != other


CONFIG = RunConfig(
    data="images", model="vit_demo", weights="none", optimizer="sgd", momentum=0.0, weight_decay=0.0, threads=1
)


def take_step(rank: int, world: int, micro_batch: int) -> tuple[float, torch.Tensor]:
    """One optimiser step of a weighted loss: this rank's part of the loss, and the head's weights after it."""
    torch.manual_seed(0)
    model = loaded_model("vit_demo", num_classes=3, weights="none", image_size=32, head_init="default").model
    processes = Processes(CONFIG)
    loss = training_loss(WEIGHTS, LABELS.numpy(), 3, 0.0, processes.device)
    state = TrainState(model, CONFIG, processes.accelerator, loss)
    state.progress.micro_batch = micro_batch
    own = slice(*share_of(len(LABELS), rank, world))
    batch = Batch(
        images=pixels()[own],
        targets=soft_targets(LABELS, 3, 0.1)[own],
        samples=np.arange(len(LABELS))[own],
        weight=torch.ones(len(LABELS))[own],
        total=len(LABELS),
        drop_path_scale=None,
        mass=float(WEIGHTS[LABELS.numpy()].sum()),
    )
    value = training_step(state, batch, 0.1, CONFIG, processes).item()
    return value, model.heads.head.weight.detach().clone()


def pixels() -> torch.Tensor:
    return torch.linspace(-3, 3, 7 * 3 * 32 * 32).cos().reshape(7, 3, 32, 32)


def expected_step() -> tuple[float, torch.Tensor]:
    """The same with PyTorch alone: CrossEntropyLoss over the whole batch, and SGD."""
    torch.manual_seed(0)
    model = loaded_model("vit_demo", num_classes=3, weights="none", image_size=32, head_init="default").model
    loss = torch.nn.CrossEntropyLoss(torch.from_numpy(WEIGHTS), label_smoothing=0.1)(model(pixels()), LABELS)
    loss.backward()
    head = model.heads.head.weight
    assert head.grad is not None
    return loss.item(), (head - 0.1 * head.grad).detach()


@pytest.mark.parametrize("micro_batch", [7, 3])
def test_a_step_of_one_process_is_that_of_pytorch(micro_batch: int) -> None:
    loss, head = take_step(0, 1, micro_batch)
    expected_loss, expected_head = expected_step()
    assert loss == pytest.approx(expected_loss, rel=1e-5)
    assert torch.allclose(head, expected_head, rtol=0, atol=1e-6)


def test_a_step_of_two_processes_is_that_of_pytorch(tmp_path: Path) -> None:
    """Four images on one rank and three on the other, of different mass: the mean of the two would be another loss."""

    def step() -> None:
        rank = int(os.environ["RANK"])
        loss, head = take_step(rank, 2, 4)
        torch.save((loss, head), tmp_path / f"{rank}.pt")

    on_ranks(2, step)
    expected_loss, expected_head = expected_step()
    results = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    assert sum(loss for loss, _ in results) == pytest.approx(expected_loss, rel=1e-5)
    for _, head in results:
        assert torch.allclose(head, expected_head, rtol=0, atol=1e-6)
