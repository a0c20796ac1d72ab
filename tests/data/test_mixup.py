"""Mixup, CutMix and soft targets against the arithmetic of their papers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from harness.data import mixup
from harness.data.augment import Augment, Box
from harness.data.mixup import Mix


def drawn(settings: Augment, count: int = 2000) -> list[Mix]:
    mixes = [mixup.draw(settings, epoch=0, step=step, size=32) for step in range(count)]
    assert all(mixes)
    return mixes


def test_without_mixup_and_cutmix_no_random_number_is_drawn() -> None:
    assert mixup.draw(Augment("standard"), epoch=0, step=0, size=32) is None


@pytest.mark.parametrize("alpha", [0.2, 1.0, 8.0])
def test_mixup_shares_follow_beta(alpha: float) -> None:
    mixes = drawn(Augment(mixup=alpha))
    shares = np.array([mix.lam for mix in mixes])
    assert all(mix.box is None for mix in mixes)
    assert abs(shares.mean() - 0.5) < 0.03
    assert shares.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.1)


def test_cutmix_shares_are_the_area_that_is_left() -> None:
    mixes = drawn(Augment(cutmix=1.0))
    boxes = [mix.box for mix in mixes]
    for mix, (top, left, height, width) in zip(mixes, boxes, strict=True):
        assert mix.lam == 1 - height * width / 32**2
        assert top >= 0
        assert left >= 0
        assert top + height <= 32
        assert left + width <= 32
    centres = np.array([box.top + box.height / 2 for box in boxes])
    assert abs(centres.mean() - 16) < 0.5


def test_mixup_and_cutmix_are_each_drawn_for_about_half_of_the_batches() -> None:
    cut = np.mean([mix.box is not None for mix in drawn(Augment(mixup=0.8, cutmix=1.0))])
    assert abs(cut - 0.5) < 0.04


def test_the_draw_depends_on_seed_epoch_and_step() -> None:
    settings = Augment(mixup=1.0)
    base = mixup.draw(settings, epoch=1, step=2, size=32)
    assert mixup.draw(settings, epoch=1, step=2, size=32) == base
    assert mixup.draw(settings, epoch=2, step=2, size=32) != base
    assert mixup.draw(settings, epoch=1, step=3, size=32) != base
    assert mixup.draw(Augment(mixup=1.0, seed=1), epoch=1, step=2, size=32) != base


@pytest.mark.parametrize(
    ("share", "row", "column", "box"),
    [
        (0.75, 16, 16, Box(8, 8, 16, 16)),
        (0.75, 0, 31, Box(0, 23, 8, 9)),  # cut off at two sides
        (1.0, 5, 5, Box(5, 5, 0, 0)),
        (0.0, 16, 16, Box(0, 0, 32, 32)),
    ],
)
def test_the_box_is_a_square_around_its_centre(share: float, row: int, column: int, box: Box) -> None:
    assert mixup.cut_box(share, row, column, 32) == box


def test_targets_are_smoothed_over_all_classes() -> None:
    targets = mixup.soft_targets(torch.tensor([2, 0]), 4, 0.1)
    assert torch.allclose(targets, torch.tensor([[0.025, 0.025, 0.925, 0.025], [0.925, 0.025, 0.025, 0.025]]))
    assert torch.equal(mixup.soft_targets(torch.tensor([1]), 3, 0.0), torch.tensor([[0.0, 1.0, 0.0]]))
    logits = torch.randn(2, 4)
    expected = torch.nn.functional.cross_entropy(logits, torch.tensor([2, 0]), label_smoothing=0.1)
    assert torch.nn.functional.cross_entropy(logits, targets).item() == pytest.approx(expected.item(), abs=1e-6)


def test_mixup_blends_neighbours_and_leaves_an_odd_last_image() -> None:
    images, targets = torch.rand(5, 3, 8, 8), torch.eye(5)
    before = images.clone()
    mixup.mix_pairs(images, targets, Mix(0.7, None))
    for row, partner in [(0, 1), (1, 0), (2, 3), (3, 2)]:
        assert torch.allclose(images[row], 0.7 * before[row] + 0.3 * before[partner])
        assert targets[row, row] == pytest.approx(0.7)
        assert targets[row, partner] == pytest.approx(0.3)
    assert torch.equal(images[4], before[4])
    assert torch.equal(targets[4], torch.eye(5)[4])
    assert torch.allclose(targets.sum(1), torch.ones(5))


def test_cutmix_trades_the_patch_bit_for_bit() -> None:
    images, targets = torch.rand(3, 3, 8, 8), torch.eye(3)
    before = images.clone()
    mixup.mix_pairs(images, targets, Mix(1 - 6 / 64, Box(1, 4, 2, 3)))
    inside = torch.zeros(8, 8, dtype=torch.bool)
    inside[1:3, 4:7] = True
    for row, partner in [(0, 1), (1, 0)]:
        assert torch.equal(images[row], torch.where(inside, before[partner], before[row]))
        assert targets[row, partner] == pytest.approx(6 / 64)
    assert torch.equal(images[2], before[2])
