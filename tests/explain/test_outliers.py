"""Patches with features far larger than the rest, and what attention they draw."""

from __future__ import annotations

import torch

from harness.explain.attention.capture import capture_rows, capture_tokens
from harness.explain.outliers import attention_on, outliers, patch_norms
from tests.helpers.tiny_vits import CLASS_TOKEN, random_images, tiny_vit


def test_norms_of_prefix_tokens_are_left_out() -> None:
    tokens = torch.tensor([[[100.0, 0], [3, 4], [0, 2]]])
    assert torch.equal(patch_norms(tokens, CLASS_TOKEN), torch.tensor([[5.0, 2]]))


def test_outliers_are_those_of_the_rule_worked_out_by_hand() -> None:
    # Median 10, absolute deviations 1, 1, 0, 1, 1, 0, ... : MAD 1, so above 17, which is above 1.5 times the median.
    norms = torch.tensor([9.0, 11, 10, 9, 11, 10, 9, 11, 10])
    assert not outliers(norms).any()
    for value, is_outlier in ((16.9, False), (17.1, True), (1.0, False)):  # far smaller is none
        changed = norms.clone()
        changed[4] = value
        expected = torch.zeros(9, dtype=torch.bool)
        expected[4] = is_outlier
        assert torch.equal(outliers(changed), expected), value


def test_norms_that_hardly_differ_have_no_outliers() -> None:
    norms = torch.full((100,), 10.0) + 1e-6 * torch.arange(100)
    norms[7] = 10.1  # thousands of deviations, and one percent
    assert not outliers(norms).any()
    assert not outliers(torch.full((100,), 3.0)).any()


def test_even_numbers_of_patches_have_a_median_in_the_middle() -> None:
    # Median 10 of ten, deviations 2, so MAD 2: above 24.
    norms = torch.tensor([8.0] * 5 + [12.0] * 4)
    for value, count in ((23.9, 0), (24.1, 1)):
        assert outliers(torch.cat([norms, torch.tensor([value])])).sum() == count


def test_outliers_are_relative_to_their_image_and_block() -> None:
    norms = torch.tensor([9.0, 11, 10, 9, 11, 10, 9, 11, 30]).repeat(2, 3, 1)
    norms[1] *= 1000  # no fixed norm
    found = outliers(norms)
    assert found.shape == (2, 3, 9)
    assert found.sum() == 6 and found[..., 8].all()


def test_normally_distributed_norms_have_hardly_any_outliers() -> None:
    norms = 40 + 3 * torch.randn(2000, 196, generator=torch.Generator().manual_seed(0))
    assert outliers(norms).float().mean() < 1e-5


def test_attention_on_outliers_is_that_worked_out_by_hand() -> None:
    rows = torch.tensor([[[[0.2, 0.6, 0.2, 0.0], [0.2, 0.0, 0.0, 0.8]]]])  # one image, one block, two heads
    # Over heads (0.3, 0.1, 0.4) on the patches, of 0.8 in all.
    torch.testing.assert_close(
        attention_on(torch.tensor([[[True, False, False]]]), rows, CLASS_TOKEN), torch.tensor([[0.375]])
    )
    torch.testing.assert_close(
        attention_on(torch.tensor([[[True, True, True]]]), rows, CLASS_TOKEN), torch.tensor([[1.0]])
    )
    only_itself = torch.tensor([[[[1.0, 0, 0, 0]]]])
    assert attention_on(torch.tensor([[[True, False, False]]]), only_itself, CLASS_TOKEN).item() == 0


def test_an_enlarged_patch_of_a_model_is_its_outlier() -> None:
    model, images = tiny_vit(), random_images(2)
    with torch.no_grad():
        model.encoder.pos_embedding[0, 1 + 5] *= 30
    with (
        torch.no_grad(),
        capture_rows(model) as rows,
        capture_tokens(model) as tokens,
    ):
        model(images)
    found = outliers(torch.stack([patch_norms(each, CLASS_TOKEN) for each in tokens()], dim=1))
    assert found.shape == (2, 4, 16)
    assert found[:, 0].nonzero().tolist() == [[0, 5], [1, 5]]
    taken = attention_on(found[:, :-1], rows(), CLASS_TOKEN)
    expected = rows()[..., 1 + 5].mean(2) / rows()[..., 1:].mean(2).sum(-1)
    torch.testing.assert_close(taken[:, 0], expected[:, 0])
