"""Attention rollout against products worked out by hand and multiplied by brute force."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from harness.errors import ConfigError
from harness.explain.attention.capture import capture_matrices
from harness.explain.attention.rollout import Rollout, rollout, row_of_product, transition
from tests.helpers.tiny_vits import CLASS_TOKEN, attention_by_torch, random_images, tiny_vit

PUBLISHED = Rollout()


def random_attention(pictures: int = 3, heads: int = 4, tokens: int = 10, layer: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(layer)
    return (3 * torch.randn(pictures, heads, tokens, tokens, generator=generator, dtype=torch.float64)).softmax(-1)


def of_model(model: torch.nn.Module, images: Tensor, settings: Rollout) -> Tensor:
    with (
        torch.no_grad(),
        capture_matrices(model, lambda matrix: transition(matrix, settings, CLASS_TOKEN)) as transitions,
    ):
        model(images)
        return rollout(transitions(), CLASS_TOKEN)


def test_the_rollout_of_two_blocks_is_that_worked_out_by_hand() -> None:
    # Heads of block 1 average to [[.5, .5, 0], [0, 1, 0], [1, 0, 0]], half of which and half the identity is Â_1.
    first = torch.tensor([[[1.0, 0, 0], [0, 1, 0], [1, 0, 0]], [[0.0, 1, 0], [0, 1, 0], [1, 0, 0]]])
    second = torch.tensor([[[0.0, 0, 1], [0, 1, 0], [0, 0, 1]]]).expand(2, 3, 3)
    one, two = transition(first[None], PUBLISHED, CLASS_TOKEN), transition(second[None], PUBLISHED, CLASS_TOKEN)
    assert torch.equal(one[0], torch.tensor([[0.75, 0.25, 0], [0, 1, 0], [0.5, 0, 0.5]]))
    # Row 0 of Â_2 is (½, 0, ½): half of row 0 and half of row 2 of Â_1.
    assert torch.equal(row_of_product([one, two], CLASS_TOKEN), torch.tensor([[0.625, 0.125, 0.25]]))
    assert torch.equal(rollout([one, two], CLASS_TOKEN), torch.tensor([[0.125, 0.25]]))


@pytest.mark.parametrize(
    "settings",
    [
        PUBLISHED,
        Rollout("max"),
        Rollout("min"),
        Rollout("mean", 0.0),
        Rollout("mean", 0.2, 0.9),
        Rollout("max", 0.5, 0.5),
    ],
    ids=str,
)
def test_the_row_is_that_of_the_whole_product(settings: Rollout) -> None:
    transitions = [transition(random_attention(layer=layer), settings, CLASS_TOKEN) for layer in range(5)]
    product = torch.eye(10, dtype=torch.float64)
    for matrix in transitions:
        torch.testing.assert_close(matrix.sum(-1), torch.ones(3, 10, dtype=torch.float64))
        product = matrix @ product
    row = row_of_product(transitions, CLASS_TOKEN)
    torch.testing.assert_close(row, product[:, 0], atol=1e-12, rtol=0)
    torch.testing.assert_close(row.sum(-1), torch.ones(3, dtype=torch.float64))
    assert torch.equal(rollout(transitions, CLASS_TOKEN), row[:, 1:])


def test_the_order_of_blocks_matters() -> None:
    transitions = [transition(random_attention(layer=layer), PUBLISHED, CLASS_TOKEN) for layer in range(5)]
    assert (rollout(transitions, CLASS_TOKEN) - rollout(transitions[::-1], CLASS_TOKEN)).abs().max() > 1e-2


@pytest.mark.parametrize(("fusion", "reduce"), [("mean", torch.mean), ("max", torch.amax), ("min", torch.amin)])
def test_heads_are_fused_and_rows_divided_by_their_sums(fusion: str, reduce: object) -> None:
    attention = random_attention()
    fused = reduce(attention, dim=1)  # type: ignore[operator]
    expected = torch.empty_like(fused)
    for picture in range(len(fused)):
        for row in range(10):
            expected[picture, row] = 0.7 * fused[picture, row] / fused[picture, row].sum()
            expected[picture, row, row] += 0.3
    torch.testing.assert_close(transition(attention, Rollout(fusion, 0.3), CLASS_TOKEN), expected)


def test_the_smallest_entries_between_patches_are_discarded_and_those_of_the_class_token_stay() -> None:
    attention = torch.tensor([[0.1, 0.2, 0.7], [0.05, 0.9, 0.05], [0.6, 0.3, 0.1]])[None, None]
    # Of 0.9, 0.05, 0.3 and 0.1 half are discarded; 0.1, 0.2, 0.7, 0.05 and 0.6 are the class token's.
    kept = torch.tensor([[0.1, 0.2, 0.7], [0.05 / 0.95, 0.9 / 0.95, 0], [0.6 / 0.9, 0.3 / 0.9, 0]])
    torch.testing.assert_close(transition(attention, Rollout("mean", 0.0, 0.5), CLASS_TOKEN)[0], kept)
    torch.testing.assert_close(
        transition(attention, Rollout("mean", 0.0, 0.99), CLASS_TOKEN)[0, 1], torch.tensor([0.05, 0.9, 0]) / 0.95
    )


def test_equal_entries_are_not_discarded() -> None:
    even = torch.full((1, 2, 5, 5), 0.2)
    assert torch.equal(transition(even, Rollout("mean", 0.0, 0.9), CLASS_TOKEN), even[:, 0])


def test_the_smallest_entries_are_discarded_per_image() -> None:
    attention, settings = random_attention(), Rollout("mean", 0.5, 0.7)
    attention[0] = attention[0].softmax(-1)  # far flatter: all of it would survive or fall by another's threshold
    together = transition(attention, settings, CLASS_TOKEN)
    assert ((together[:, 1:, 1:] == 0).sum((1, 2)) >= int(0.7 * 81) - 9).all()  # the diagonal is the residual's
    assert torch.equal(together, torch.cat([transition(one[None], settings, CLASS_TOKEN) for one in attention]))


def test_a_token_that_lost_all_its_attention_keeps_itself() -> None:
    apart = torch.tensor([[[1.0, 0], [0, 1]], [[0.0, 1], [0, 1]]])[None]
    assert torch.equal(transition(apart, Rollout("min"), CLASS_TOKEN)[0], torch.eye(2))


@pytest.mark.parametrize("settings", [PUBLISHED, Rollout("max", 0.5, 0.9)], ids=str)
def test_the_rollout_of_a_model_is_the_full_product_and_independent_of_batches(settings: Rollout) -> None:
    model, images = tiny_vit(image_size=28, patch_size=4), random_images(3, 28)
    maps = of_model(model, images, settings)
    assert maps.shape == (3, 49)
    single = torch.cat([of_model(model, image[None], settings) for image in images])
    torch.testing.assert_close(maps, single, atol=1e-6, rtol=0)
    if settings == PUBLISHED:
        product = torch.eye(50, dtype=torch.float64)
        for attention in attention_by_torch(model, images).double().mean(2).unbind(1):
            product = (0.5 * attention + 0.5 * torch.eye(50)) @ product
        torch.testing.assert_close(maps.double(), product[:, 0, 1:], atol=1e-6, rtol=0)


def test_every_unusable_setting_is_named() -> None:
    with pytest.raises(ConfigError) as error:
        Rollout("median", 1.0, -0.1)
    for words, problem in zip(
        (("fuse heads", "median"), ("residual", "1.0"), ("discard", "-0.1")), error.value.problems, strict=True
    ):
        assert [word for word in words if word not in problem] == []
    assert error.value.exit_code == 2
