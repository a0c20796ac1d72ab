"""Randomised models, and rank correlation."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from harness.evidence.figures import maps_figure
from harness.evidence.randomisation import measure_randomisation, partly_random, rank_correlation
from harness.evidence.verdict import FEWEST
from harness.runs.evidence_file import FAILS, HOLDS, OPEN
from harness.runs.rules import finite
from tests.evidence import planted
from tests.helpers.timm_vits import small_timm
from tests.helpers.tiny_vits import tiny_vit


def maps(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random((40, 16))


def test_only_what_lies_below_the_randomised_part_is_kept():
    model, random = tiny_vit(layers=4, seed=1), tiny_vit(layers=4, seed=2)
    kept_blocks = {"last block": 3, "upper half": 2, "all": 0}
    for stage, kept in kept_blocks.items():
        mixed = partly_random(model, random, stage).state_dict()
        for name, values in mixed.items():
            below = name.startswith(tuple(f"encoder.layers.encoder_layer_{index}." for index in range(kept)))
            below |= kept > 0 and name.startswith(("class_token", "conv_proj", "encoder.pos_embedding"))
            source = model if below else random
            assert torch.equal(values, source.state_dict()[name]), (stage, name)


def test_batch_norms_of_the_stem_are_kept_where_the_stem_is():
    model, random = (small_timm("vit_small_resnet26d_224", seed=seed) for seed in (1, 2))
    for values in model.buffers():
        values += 1  # of a new model they are all alike
    for stage, kept in (("last block", True), ("all", False)):
        mixed = partly_random(model, random, stage).state_dict()
        expected = (model if kept else random).state_dict()
        assert all(torch.equal(mixed[name], expected[name]) for name, _ in model.named_buffers())


def test_a_map_that_ignores_the_weights_is_found_out():
    fixed = maps(0)
    model = planted.new_vit()
    result = measure_randomisation(
        {"fixed": fixed}, lambda _: {"fixed": fixed}, model, planted.new_vit(1), beats_guessing=True
    )
    assert result.maps["fixed"].stages["all"].value == pytest.approx(1)
    assert result.claim("fixed").verdict == FAILS


def test_a_map_that_follows_the_weights_passes():
    # All images of one model share half of the map, so another image is not independent; another model is.
    common = np.random.default_rng(9).random(16)
    drawn = iter(range(1, 10))
    result = measure_randomisation(
        {"map": maps(0) + common},
        lambda _: {"map": maps(next(drawn))},
        planted.new_vit(),
        planted.new_vit(1),
        beats_guessing=True,
    )
    assert result.claim("map").verdict == HOLDS
    assert abs(result.maps["map"].stages["upper half"].value) < 0.15


def test_a_map_that_is_the_same_everywhere_has_no_correlation_and_no_verdict():
    flat, other = np.zeros((40, 16)), maps(0)
    result = measure_randomisation(
        {"flat": flat, "other": other},
        lambda _: {"flat": flat, "other": other},
        planted.new_vit(),
        planted.new_vit(1),
        beats_guessing=True,
    )
    claim = result.claim("flat")
    assert (claim.verdict, claim.n, claim.numbers) == (OPEN, 0, "not measured")
    assert result.maps["other"].n == 40 and result.claim("other").verdict == FAILS
    written = {"maps": {name: finite(dataclasses.asdict(one)) for name, one in result.maps.items()}, "n": 40}
    assert written["maps"]["flat"]["difference"] == {"value": None, "low": None, "high": None}
    legend = maps_figure({"randomisation": written}).axes[0].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["flat: the same everywhere", "other"]


def test_nothing_is_claimed_of_a_model_that_guesses():
    result = measure_randomisation(
        {"map": maps(0)}, lambda _: {"map": maps(0)}, planted.new_vit(), planted.new_vit(1), beats_guessing=False
    )
    assert result.claim("map").verdict == OPEN


def test_rank_correlation_by_hand():
    one = np.array([[1, 2, 3, 4], [1, 2, 3, 4], [1, 1, 2, 3], [5, 5, 5, 5]])
    other = np.array([[10, 20, 30, 40], [4, 3, 2, 1], [1, 2, 3, 4], [1, 2, 3, 4]])
    # Third row: ranks 1.5, 1.5, 3, 4 against 1, 2, 3, 4, so the correlation is 4.5 / sqrt(4.5 * 5).
    assert rank_correlation(one, other).tolist() == pytest.approx([1, -1, 4.5 / np.sqrt(22.5), np.nan], nan_ok=True)


@pytest.mark.parametrize(("varying", "verdict"), [(1, OPEN), (FEWEST - 1, OPEN), (FEWEST, FAILS)])
def test_few_images_whose_map_varies_give_no_verdict(varying: int, verdict: str):
    # Images after the varying ones have a flat map. The last varying one has no other image to compare with.
    values = maps(0)
    values[varying + 1 :] = 0
    result = measure_randomisation(
        {"map": values}, lambda _: {"map": values}, planted.new_vit(), planted.new_vit(1), beats_guessing=True
    )
    claim = result.claim("map")
    assert (claim.n, claim.verdict) == (varying, verdict)
    assert claim.measured.low > 0  # the interval alone would decide
