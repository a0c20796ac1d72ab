"""Attention rollout against products worked out by hand and multiplied by brute force."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.explain.attention.rollout import rollout, row_of_product, transition
from tests.helpers.tiny_vits import CLASS_TOKEN, attention_by_torch, matrices_of, random_images, tiny_vit


def random_attention(images: int = 3, heads: int = 4, tokens: int = 10, layer: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(layer)
    return (3 * torch.randn(images, heads, tokens, tokens, generator=generator, dtype=torch.float64)).softmax(-1)


def of_model(model: torch.nn.Module, images: Tensor) -> Tensor:
    return rollout([transition(matrix) for matrix in matrices_of(model, images)], CLASS_TOKEN)


def test_the_rollout_of_two_blocks_is_that_worked_out_by_hand() -> None:
    # Heads of block 1 average to [[.5, .5, 0], [0, 1, 0], [1, 0, 0]], half of which and half the identity is Â_1.
    first = torch.tensor([[[1.0, 0, 0], [0, 1, 0], [1, 0, 0]], [[0.0, 1, 0], [0, 1, 0], [1, 0, 0]]])
    second = torch.tensor([[[0.0, 0, 1], [0, 1, 0], [0, 0, 1]]]).expand(2, 3, 3)
    one, two = transition(first[None]), transition(second[None])
    assert torch.equal(one[0], torch.tensor([[0.75, 0.25, 0], [0, 1, 0], [0.5, 0, 0.5]]))
    # Row 0 of Â_2 is (½, 0, ½): half of row 0 and half of row 2 of Â_1.
    assert torch.equal(row_of_product([one, two], CLASS_TOKEN), torch.tensor([[0.625, 0.125, 0.25]]))
    assert torch.equal(rollout([one, two], CLASS_TOKEN), torch.tensor([[0.125, 0.25]]))


def test_the_row_is_that_of_the_whole_product() -> None:
    transitions = [transition(random_attention(layer=layer)) for layer in range(5)]
    product = torch.eye(10, dtype=torch.float64)
    for matrix in transitions:
        torch.testing.assert_close(matrix.sum(-1), torch.ones(3, 10, dtype=torch.float64))
        product = matrix @ product
    row = row_of_product(transitions, CLASS_TOKEN)
    torch.testing.assert_close(row, product[:, 0], atol=1e-12, rtol=0)
    torch.testing.assert_close(row.sum(-1), torch.ones(3, dtype=torch.float64))
    assert torch.equal(rollout(transitions, CLASS_TOKEN), row[:, 1:])


def test_the_order_of_blocks_matters() -> None:
    transitions = [transition(random_attention(layer=layer)) for layer in range(5)]
    assert (rollout(transitions, CLASS_TOKEN) - rollout(transitions[::-1], CLASS_TOKEN)).abs().max() > 1e-2


def test_heads_are_averaged_and_rows_divided_by_their_sums() -> None:
    attention = 3 * random_attention()
    mean = attention.mean(1)
    expected = torch.empty_like(mean)
    for image in range(len(mean)):
        for row in range(10):
            expected[image, row] = 0.5 * mean[image, row] / mean[image, row].sum()
            expected[image, row, row] += 0.5
    torch.testing.assert_close(transition(attention), expected)


def test_a_token_that_lost_all_its_attention_keeps_itself() -> None:
    assert torch.equal(transition(torch.tensor([[[[0.0, 0], [0, 1]]]]))[0], torch.eye(2))


def test_the_rollout_of_a_model_is_the_full_product_and_independent_of_batches() -> None:
    model, images = tiny_vit(image_size=28, patch_size=4), random_images(3, 28)
    maps = of_model(model, images)
    assert maps.shape == (3, 49)
    single = torch.cat([of_model(model, image[None]) for image in images])
    torch.testing.assert_close(maps, single, atol=1e-6, rtol=0)
    product = torch.eye(50, dtype=torch.float64)
    for attention in attention_by_torch(model, images).double().mean(2).unbind(1):
        product = (0.5 * attention + 0.5 * torch.eye(50)) @ product
    torch.testing.assert_close(maps.double(), product[:, 0, 1:], atol=1e-6, rtol=0)
