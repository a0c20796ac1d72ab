"""Statistics of heads, in closed form."""

from __future__ import annotations

import functools
import math
import operator

import pytest
import torch

from harness.explain.attention.head_statistics import STATISTICS, RunningMean, entropy, head_statistics, patch_distances
from tests.helpers.tiny_vits import CLASS_TOKEN, attention_by_torch, matrices_of, random_images, tiny_vit


def statistics(
    attention: torch.Tensor, grid: tuple[int, int] = (2, 2), patch_size: int = 10
) -> dict[str, torch.Tensor]:
    """By name, (B, H) each."""
    return dict(
        zip(
            STATISTICS,
            head_statistics(attention, patch_distances(grid, patch_size), CLASS_TOKEN).unbind(-1),
            strict=True,
        )
    )


def test_distances_are_in_pixels_row_by_row() -> None:
    distances = patch_distances((2, 3), 16)
    assert distances.shape == (6, 6)
    assert torch.equal(distances[0], 16 * torch.tensor([0, 1, 2, 1, math.sqrt(2), math.sqrt(5)]))
    assert torch.equal(distances, distances.T)


def test_statistics_of_uniform_attention() -> None:
    found = statistics(torch.full((3, 2, 5, 5), 0.2))
    expected = {
        "distance": (0 + 10 + 10 + 10 * math.sqrt(2)) / 4,
        "entropy": math.log(5),
        "class_entropy": math.log(5),
        "patches_on_class": 0.2,
        "class_on_class": 0.2,
    }
    for name, value in expected.items():
        torch.testing.assert_close(found[name], torch.full((3, 2), value))


def test_statistics_of_tokens_that_attend_to_themselves() -> None:
    found = statistics(torch.eye(5).expand(1, 1, 5, 5))
    assert {name: value.item() for name, value in found.items()} == {
        "distance": 0,
        "entropy": 0,
        "class_entropy": 0,
        "patches_on_class": 0,
        "class_on_class": 1,
    }


def test_attention_on_the_class_token_does_not_shorten_distances() -> None:
    # Every patch looks at its horizontal neighbour, 10 pixels away, with what it does not give the class token.
    neighbour = torch.tensor([[0.0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]])
    for on_class in (0.0, 0.75):
        attention = torch.zeros(1, 1, 5, 5)
        attention[..., 0, 0] = 1
        attention[..., 1:, 0] = on_class
        attention[..., 1:, 1:] = (1 - on_class) * neighbour
        found = statistics(attention)
        assert found["distance"].item() == 10
        assert found["patches_on_class"].item() == on_class


def test_patches_that_attend_to_the_class_token_alone_have_no_distance() -> None:
    attention = torch.zeros(1, 1, 5, 5)
    attention[..., 0] = 1
    found = statistics(attention)
    assert (found["distance"].item(), found["patches_on_class"].item()) == (0, 1)


def test_entropy_of_the_class_token_and_of_all_rows() -> None:
    attention = torch.eye(5).repeat(1, 1, 1, 1)
    attention[0, 0, 0] = torch.tensor([0.5, 0.5, 0, 0, 0])
    found = statistics(attention)
    assert found["class_entropy"].item() == pytest.approx(math.log(2))
    assert found["entropy"].item() == pytest.approx(math.log(2) / 5)


def test_entropy_is_torchs() -> None:
    shares = (5 * torch.randn(50, 20, generator=torch.Generator().manual_seed(0))).softmax(-1)
    shares[:, 3] = 0
    torch.testing.assert_close(entropy(shares), torch.special.entr(shares).sum(-1))


def test_of_a_model_per_head_and_by_brute_force() -> None:
    model, images = tiny_vit(image_size=28, patch_size=4), random_images(2, 28)
    distances = patch_distances((7, 7), 4)
    layers = [head_statistics(matrix, distances, CLASS_TOKEN) for matrix in matrices_of(model, images)]
    found = torch.stack(layers, dim=1)
    assert found.shape == (2, 3, 3, 5)
    attention = attention_by_torch(model, images)[1, 2, 0].double()  # image 1, block 2, head 0
    lengths = []
    for i in range(49):
        row = attention[1 + i, 1:] / attention[1 + i, 1:].sum()
        places = [4 * math.hypot(i // 7 - j // 7, i % 7 - j % 7) for j in range(49)]
        lengths.append(sum(share * place for share, place in zip(row.tolist(), places, strict=True)))
    assert found[1, 2, 0, 0].item() == pytest.approx(sum(lengths) / 49, rel=1e-5)
    assert found[1, 2, 0, 3].item() == pytest.approx(attention[1:, 0].mean().item(), rel=1e-5)


def test_means_do_not_depend_on_how_images_are_divided_into_batches() -> None:
    values = torch.randn(7, 3, 2, generator=torch.Generator().manual_seed(0))
    whole = RunningMean.of(values)
    assert whole.count == 7 and whole.total.dtype == torch.float64
    for sizes in ([7], [3, 4], [1, 5, 1], [2, 0, 5]):
        parts = functools.reduce(operator.add, [RunningMean.of(part).to("cpu") for part in values.split(sizes)])
        assert parts.count == 7
        torch.testing.assert_close(parts.mean(), values.double().mean(0), rtol=0, atol=1e-15)
    # The mean of the batches' means would count the images of the small batch more.
    assert (torch.stack([values[:1].mean(0), values[1:].mean(0)]).mean(0) - whole.mean()).abs().max() > 0.1
