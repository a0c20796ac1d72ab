"""Stochastic depth: rates, factors of each image and branch, names of weights."""

from __future__ import annotations

import pytest
import torch

from harness.model.drop_path import DropPath, drop_path_rates, set_drop_path
from tests.helpers.demo_vits import demo, random_images


def test_rates_rise_linearly_and_are_equal_within_a_block() -> None:
    rates = drop_path_rates(6, 0.5).tolist()
    assert rates == pytest.approx([0, 0, 0.1, 0.1, 0.2, 0.2, 0.3, 0.3, 0.4, 0.4, 0.5, 0.5])


def test_drop_path_keeps_names_and_changes_nothing_without_factors_or_in_evaluation() -> None:
    plain, dropping = demo().train(), demo(drop_path=0.2).train()
    assert list(dropping.state_dict()) == list(plain.state_dict())
    expected = plain(random_images())
    assert torch.equal(dropping(random_images()), expected)
    set_drop_path(dropping, torch.zeros(4, 12))
    assert not torch.allclose(dropping(random_images()), expected)
    torch.testing.assert_close(dropping.eval()(random_images()), plain.eval()(random_images()), rtol=0, atol=0)
    set_drop_path(dropping.train(), None)
    assert torch.equal(dropping(random_images()), expected)


def test_each_sample_and_branch_has_its_own_factor() -> None:
    model = demo(drop_path=0.2).train()
    keep = torch.ones(4, 12)
    keep[1] = 0  # sample 1 skips every branch
    keep[2, 2 * 3] = 0  # sample 2 skips the attention of block 3
    keep[3, 2 * 5 + 1] = 2  # sample 3 doubles the MLP of the last block
    set_drop_path(model, keep)
    tokens = {}
    for index, block in enumerate(model.encoder.layers):
        block.register_forward_hook(lambda _, inputs, output, i=index: tokens.update({i: (inputs[0], output)}))
    model(random_images())
    for index, block in enumerate(model.encoder.layers):
        before, after = tokens[index]
        normed = block.ln_1(before)
        attention = block.self_attention(normed, normed, normed, need_weights=False)[0] * keep[:, 2 * index, None, None]
        middle = before + attention
        hidden = torch.nn.functional.gelu(block.mlp[0](block.ln_2(middle)))
        expected = middle + block.mlp[3](hidden) * keep[:, 2 * index + 1, None, None]
        torch.testing.assert_close(after, expected)
        assert torch.equal(after[1], before[1])


def test_scaled_factors_keep_the_expectation_of_a_branch() -> None:
    drop = DropPath().train()
    rate = 0.3
    drop.scale = (torch.rand(20_000, generator=torch.Generator().manual_seed(0)) >= rate) / (1 - rate)
    mean = drop(torch.ones(20_000, 2, 3)).mean(0)
    assert mean == pytest.approx(torch.ones(2, 3), abs=4 * (rate / (1 - rate) / 20_000) ** 0.5)  # 4 standard errors


def test_factors_for_another_number_of_branches_are_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        set_drop_path(demo(), torch.ones(4, 12))
    set_drop_path(demo(), None)
