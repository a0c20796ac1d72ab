"""Position embeddings: maps and numbers in closed form, what they must not depend on, and the verdict."""

from __future__ import annotations

import copy
import dataclasses
import math

import numpy as np
import pytest
import torch

from harness.errors import HarnessError
from harness.explain.positions.change import content_length
from harness.explain.positions.measures import (
    Measured,
    Numbers,
    Positions,
    change_map,
    class_maps,
    effective_rank,
    measure,
    measure_change,
)
from harness.explain.positions.verdict import verdict
from harness.runs.embeddings import centred, cosine, typical_length
from harness.runs.similarity_tiles import similarity_tiles
from tests.helpers.tiny_vits import random_images, tiny_vit


def random_patches(side: int = 7, size: int = 32, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(side * side, size))


def sines(side: int = 7, size: int = 32) -> np.ndarray:
    """Sine and cosine of row and column at several wavelengths (P, D): an embedding that knows its place."""
    rows, columns = np.divmod(np.arange(side * side), side)
    frequencies = 100.0 ** -np.linspace(0, 1, size // 4)
    angles = [place[:, None] * frequencies for place in (rows, columns)]
    return np.concatenate([function(angle) for angle in angles for function in (np.sin, np.cos)], axis=1)


def positions(patches: np.ndarray) -> Positions:
    return Positions(patches, np.ones(patches.shape[1]), np.arange(float(patches.shape[1])))


def close(left: Numbers | Measured, right: Numbers | Measured) -> bool:
    def flat(value: Numbers | Measured) -> list[float]:
        return np.array(list(dataclasses.astuple(value))).ravel().tolist()

    return bool(np.allclose(flat(left), flat(right), rtol=1e-9, atol=1e-9))


# Maps


def test_cosines_are_those_worked_out_by_hand() -> None:
    left = np.array([[1.0, 0], [3, 4], [0, 0]])
    np.testing.assert_allclose(cosine(left, left), [[1, 0.6, 0], [0.6, 1, 0], [0, 0, 0]])


@pytest.mark.parametrize("side", [2, 7, 14, 24])
def test_tiles_show_each_patch_among_all(side: int) -> None:
    patches = random_patches(side)
    tiles = similarity_tiles(patches)
    assert tiles.shape == (side,) * 4
    rows, columns = np.indices((side, side))
    np.testing.assert_allclose(tiles[rows, columns, rows, columns], 1)
    first, second = patches[side + 1], patches[2 * side - 1]  # row 1, column 1; row 1, last column
    expected = first @ second / math.sqrt((first @ first) * (second @ second))
    assert tiles[1, 1, 1, side - 1] == pytest.approx(expected)


def test_positions_are_read_from_a_model_in_float64() -> None:
    model = tiny_vit(image_size=28, patch_size=4).bfloat16()
    found = Positions.of(model.encoder.pos_embedding, model.class_token)
    assert found.side == 7 and found.patches.shape == (49, 36) and found.patches.dtype == np.float64
    assert np.array_equal(found.position_zero, model.encoder.pos_embedding[0, 0].double().detach().numpy())
    assert np.array_equal(found.patches[8], model.encoder.pos_embedding[0, 9].double().detach().numpy())
    assert np.array_equal(found.class_token, model.class_token[0, 0].double().detach().numpy())
    assert {name: values.shape for name, values in class_maps(found).items()} == {
        "class_token": (7, 7),
        "P_0": (7, 7),
        "class_token + P_0": (7, 7),
    }


def test_class_token_maps_are_those_worked_out_by_hand() -> None:
    patches = np.array([[2.0, 1], [0, 1], [1, 2], [1, 0]])  # centred: right, left, up, down
    maps = class_maps(Positions(patches, position_zero=np.array([1.0, 0]), class_token=np.array([0.0, 2])))
    np.testing.assert_allclose(maps["class_token"], [[1 / 5**0.5, 1], [2 / 5**0.5, 0]])
    np.testing.assert_allclose(maps["P_0"], [[2 / 5**0.5, 0], [1 / 5**0.5, 1]])
    np.testing.assert_allclose(maps["class_token + P_0"], np.array([[1, -1], [2, -2]]) / 5**0.5)


def test_the_change_is_that_worked_out_by_hand() -> None:
    before = np.array([[1.0, 0], [-1, 0], [0, 1], [0, -1]])
    after = before + np.array([[0.3, 0], [0, 0], [0, 0], [-0.3, 0]]) + 9
    np.testing.assert_allclose(change_map(before, after), [[0.3, 0], [0, 0.3]], atol=1e-12)
    assert typical_length(before) == typical_length(before + 5) == 1
    assert measure_change(before, after).value == pytest.approx(math.sqrt(0.18 / 4))


def test_the_map_of_change_adds_up_to_the_number() -> None:
    before, after = sines(), sines() + 0.1 * random_patches()
    assert math.sqrt((change_map(before, after) ** 2).mean()) == pytest.approx(measure_change(before, after).value)


# Numbers


def test_effective_rank_in_closed_form() -> None:
    crosses = np.kron(np.eye(4), [[1.0], [-1]])  # eight patches in four directions, all as far out
    assert effective_rank(crosses) == pytest.approx(4)
    assert effective_rank(crosses + 3) == pytest.approx(4)
    assert effective_rank(np.outer(np.arange(9.0), np.ones(5))) == pytest.approx(1)
    assert effective_rank(np.ones((9, 5))) == 0
    shares = np.array([0.9, 0.1])
    assert effective_rank(crosses[:4, :2] * np.sqrt(shares)) == pytest.approx(
        math.exp(-(shares * np.log(shares)).sum())
    )
    tall, wide = random_patches(5, 10), random_patches(5, 200)
    for patches in (tall, wide):
        variances = np.linalg.svd(centred(patches), compute_uv=False) ** 2
        variances /= variances.sum()
        variances = variances[variances > 1e-20]
        assert effective_rank(patches) == pytest.approx(math.exp(-(variances * np.log(variances)).sum()))


def test_locality_is_spearmans_correlation() -> None:
    patches, places = sines(5), np.stack(np.divmod(np.arange(25), 5), 1)
    rows = centred(patches)
    alike, near = [], []
    for i in range(25):
        for j in range(i):
            alike.append(rows[i] @ rows[j] / np.linalg.norm(rows[i]) / np.linalg.norm(rows[j]))
            near.append(-math.dist(places[i], places[j]))

    def ranks(values: list[float]) -> np.ndarray:
        rounded = np.round(values, 12)
        return np.array([(rounded < value).sum() + ((rounded == value).sum() + 1) / 2 for value in rounded])

    assert measure(positions(patches)).locality.value == pytest.approx(np.corrcoef(ranks(alike), ranks(near))[0, 1])


def test_the_locality_of_four_patches_is_that_worked_out_by_hand() -> None:
    # Neighbours are at right angles, patches across the diagonal opposite each other: in step with distance.
    corners = np.array([[0.0, 0], [0, 1], [1, 0], [1, 1]])
    assert measure(positions(corners)).locality.value == pytest.approx(1)
    # With two swapped, two pairs of neighbours are opposite each other and no diagonal is.
    # Ranks about their mean: -2, 1, 1, -2 | 1, 1 for likeness, 1, 1, 1, 1 | -2, -2 for nearness.
    assert measure(positions(corners[[0, 3, 2, 1]])).locality.value == pytest.approx(-6 / 12)


def test_decoding_is_left_one_out_by_brute_force() -> None:
    patches = sines(5) + 0.5 * random_patches(5)
    rows, places = centred(patches), np.stack(np.divmod(np.arange(25.0), 5), 1)
    penalty = (rows**2).sum() / 25
    errors = 0.0
    for left_out in range(25):
        kept = np.arange(25) != left_out
        # The constant is not penalised: both sides minus their means over what is kept.
        x, y = rows[kept] - rows[kept].mean(0), places[kept] - places[kept].mean(0)
        weights = np.linalg.solve(x.T @ x + penalty * np.eye(32), x.T @ y)
        guess = places[kept].mean(0) + (rows[left_out] - rows[kept].mean(0)) @ weights
        errors += ((places[left_out] - guess) ** 2).sum()
    expected = 1 - errors / ((places - places.mean(0)) ** 2).sum()
    assert 0.2 < expected < 0.95
    assert measure(positions(patches)).decoding.value == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("side", [7, 14])
def test_an_embedding_with_structure_is_far_outside_its_range_by_chance(side: int) -> None:
    found = measure(positions(sines(side)))
    assert found.locality.value > 0.5 > 5 * found.locality.high
    assert found.decoding.value > 0.95 and found.decoding.high < 0.2
    assert found.effective_rank.value < 0.8 * found.effective_rank.low


@pytest.mark.parametrize("seed", range(3))
def test_a_shuffled_embedding_is_within_its_range_by_chance(seed: int) -> None:
    shuffled = np.random.default_rng(seed).permutation(sines(14))
    found = measure(positions(shuffled), seed=seed)
    assert found.locality.low <= found.locality.value <= found.locality.high
    assert found.decoding.low <= found.decoding.value <= found.decoding.high
    change = measure_change(sines(14), shuffled)
    assert change.low <= change.value <= change.high
    assert change.low < math.sqrt(2) < change.high


def test_chance_is_drawn_from_the_seed() -> None:
    patches = sines(5)
    assert measure(positions(patches), seed=3) == measure(positions(patches), seed=3)
    one, other = measure(positions(patches), seed=3), measure(positions(patches), seed=4)
    assert one.locality.value == other.locality.value and one.locality.high != other.locality.high


def test_an_embedding_that_is_the_same_everywhere() -> None:
    found = measure(positions(np.ones((16, 8))))
    assert (found.locality.value, found.decoding.value, found.effective_rank.value) == (0, 0, 0)


# What the model does not depend on


def test_an_offset_that_the_patch_projection_takes_back_changes_no_logit_and_no_number() -> None:
    model, images = tiny_vit(image_size=28, patch_size=4).double(), random_images(2, 28).double()
    shifted = copy.deepcopy(model)
    with torch.no_grad():
        offset = 10 * torch.randn(model.hidden_dim, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        shifted.encoder.pos_embedding[:, 1:] += offset
        shifted.conv_proj.bias -= offset
        # Nor is it known how much of their sum is the class token and how much its place.
        shifted.class_token += offset
        shifted.encoder.pos_embedding[:, 0] -= offset
        torch.testing.assert_close(shifted(images), model(images))
    before, after = (Positions.of(each.encoder.pos_embedding, each.class_token) for each in (model, shifted))
    assert close(measure(before), measure(after))
    assert measure_change(before.patches, after.patches).value < 1e-12
    np.testing.assert_allclose(change_map(before.patches, after.patches), 0, atol=1e-12)
    np.testing.assert_allclose(
        similarity_tiles(centred(before.patches)), similarity_tiles(centred(after.patches)), atol=1e-12
    )
    lengths = [content_length(images, each.conv_proj.weight) for each in (model, shifted)]
    assert lengths[0] == lengths[1]
    whole, parts = "class_token + P_0", ("class_token", "P_0")
    np.testing.assert_allclose(class_maps(before)[whole], class_maps(after)[whole], atol=1e-12)
    for name in parts:
        assert np.abs(class_maps(before)[name] - class_maps(after)[name]).max() > 0.1
    # The raw tiles, in contrast, would call it uniform.
    assert similarity_tiles(after.patches).min() > 0.5 > similarity_tiles(before.patches).min() + 0.5


def test_numbers_do_not_depend_on_size() -> None:
    assert close(measure(positions(sines())), measure(positions(1000 * sines())))


def test_content_is_what_the_projection_makes_of_the_images() -> None:
    model, images = tiny_vit(), random_images()
    with torch.no_grad():
        content = model._process_input(images) - model.conv_proj.bias
    expected = content.norm(dim=-1).square().mean().sqrt()
    torch.testing.assert_close(content_length(images, model.conv_proj.weight), expected)
    assert not content_length(images, model.conv_proj.weight).requires_grad


# Verdict


@pytest.mark.parametrize(
    ("noise", "expected"), [(0.0, "retained"), (0.1, "retained"), (0.8, "altered"), (100.0, "lost")]
)
def test_the_verdict_follows_the_noise_added_to_an_embedding(noise: float, expected: str) -> None:
    before = sines(10)
    after = before + noise * random_patches(10)
    change = measure_change(before, after)
    assert verdict(measure(positions(before)), measure(positions(after)), change).word == expected


def test_an_embedding_without_structure_before_training_has_none_to_keep() -> None:
    before, after = measure(positions(random_patches())), measure(positions(sines()))
    assert verdict(before, after, measure_change(random_patches(), sines())).word == "none to keep"


def test_the_verdict_follows_the_rule_for_each_number() -> None:
    def numbers(locality: float, decoding: float, by_chance: float = 0.05) -> Numbers:
        locality_, decoding_ = (Measured(value, -0.05, by_chance) for value in (locality, decoding))
        return Numbers(locality_, decoding_, Measured(6, 50, 60))

    def after(
        locality: float, decoding: float, change: float = 0.1, strength: float = 1.0, chance: float = 0.05
    ) -> str:
        of_both = numbers(0.6, 1.0), numbers(locality, decoding, chance)
        return verdict(*of_both, Measured(change, 1.3, 1.5), strength).word

    assert (
        after(0.6, 1.0) == after(0.55, 0.91) == after(0.7, 1.0, 0.49, 0.51) == after(0.6, 1.0, strength=4) == "retained"
    )
    assert (
        after(0.53, 1.0)
        == after(0.6, 0.89)
        == after(0.6, 1.0, change=0.51)
        == after(0.6, 1.0, strength=0.49)
        == "altered"
    )
    assert after(0.01, 0.2) == after(0.2, 0.01) == "altered"  # one of the two is enough to be there
    assert after(0.01, 0.01) == after(0.059, 0.09) == after(0.1, 0.2, chance=0.3) == "lost"
    assert after(0.6, 1.0, strength=0.049) == "lost"
    assert verdict(numbers(0.05, 0.04), numbers(0.6, 1.0), Measured(1, 1, 1)).word == "none to keep"


# What cannot be judged


def test_grids_that_are_not_square_and_values_that_are_not_finite() -> None:
    with pytest.raises(HarnessError, match="12 position embeddings"):
        positions(np.ones((12, 4)))
    with pytest.raises(HarnessError, match="diverged"):
        positions(np.full((16, 4), np.nan))


def test_embeddings_of_different_grids_are_not_compared() -> None:
    for compare in (measure_change, change_map):
        with pytest.raises(HarnessError, match="49 patches of size 32, the one after 16"):
            compare(sines(7), sines(4))


@pytest.mark.parametrize(
    ("locality", "change", "strength", "words", "decided_by"),
    [
        (0.60, 0.1, 1.00, ("retained", "retained"), "structure and strength"),
        (0.60, 0.1, 0.04, ("retained", "lost"), "strength"),
        (0.60, 0.1, 0.30, ("retained", "weakened"), "strength"),
        (0.19, 0.9, 1.00, ("altered", "retained"), "structure"),
        (0.01, 1.4, 1.00, ("lost", "retained"), "structure"),
    ],
)
def test_structure_and_strength_have_a_word_each_and_the_deciding_rule_is_named(
    locality: float, change: float, strength: float, words: tuple[str, str], decided_by: str
) -> None:
    def numbers(value: float) -> Numbers:
        measured = Measured(value, -0.05, 0.05)
        return Numbers(measured, measured, Measured(5, 4, 6))

    found = verdict(numbers(0.6), numbers(locality), Measured(change, 1.3, 1.5), strength)
    assert (found.structure, found.strength) == words
    assert found.decided_by == decided_by
