"""Verdicts on planted truths, over all measures together, and how often nothing is taken for something."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from harness.evidence.depth import measure_depth
from harness.evidence.faithfulness import baselines, measure_faithfulness, not_measured
from harness.evidence.heads import measure_heads
from harness.evidence.pointing import measure_pointing
from harness.evidence.position_use import measure_position_use
from harness.evidence.randomisation import measure_randomisation
from harness.evidence.subject import Subject
from harness.evidence.verdict import FEWEST, above, below
from harness.explain.attention.relevance import relevance
from harness.explain.localization import centre_prior
from harness.runs.evidence_file import FAILS, HOLDS, OPEN, Claim, claim_of
from harness.runs.resampling import mean_intervals
from harness.runs.rules import finite
from tests.evidence import planted
from tests.evidence.test_depth import labelled
from tests.helpers.tiny_vits import legrad


def maps_of(model: torch.nn.Module, images: planted.Images) -> dict[str, np.ndarray]:
    predicted = model(images.values).argmax(1)
    kinds = {"relevance": relevance, "LeGrad": legrad}
    return {name: kind(model, images.values, predicted).double().numpy() for name, kind in kinds.items()}


def claims(subject: Subject, images: planted.Images) -> list[Claim]:
    """Every claim about the model on these images; the object is the patch that the labels follow from."""
    maps, covered = maps_of(subject.model, images), planted.at_patch(images.patch.numpy())
    orders = baselines(maps, centre_prior(planted.SIDE), len(subject))
    faithful = measure_faithfulness(subject, maps, orders)
    known = subject.beats_guessing
    random = measure_randomisation(
        maps, lambda model: maps_of(model, images), subject.model, planted.new_vit(5), beats_guessing=known
    )
    use = measure_position_use(subject)
    assert use is not None
    return [
        measure_depth(subject, subject, labelled(planted.by_colour(90, 1)), labelled(planted.by_colour(30, 2))).claim(),
        measure_heads(subject, subject).claim(),
        use.claim(),
        faithful.claim() if faithful else not_measured(),
        random.claim("relevance"),
        measure_pointing(maps, orders, covered, beats_guessing=known).claim("relevance"),
    ]


def test_a_model_that_reads_one_patch_has_maps_that_show_it() -> None:
    images = planted.by_colour(60, seed=10_000)
    verdicts = {claim.key: claim.verdict for claim in claims(planted.colour().subject, images)}
    assert verdicts["maps_are_faithful"] == verdicts["maps_point_at_objects"] == HOLDS


@pytest.mark.parametrize("reads_features", [True, False])  # True: its features still tell the classes apart
def test_a_model_that_predicts_one_class_gets_no_verdict(reads_features: bool) -> None:
    model, images = copy.deepcopy(planted.colour().subject.model), planted.by_colour(60, seed=10_000)
    with torch.no_grad():
        model.heads.head.bias[0] += 100
        model.heads.head.weight.mul_(reads_features)  # by 0, relevance is 0 everywhere
    subject = planted.subject_of(model, images)
    assert set(subject.predicted) == {0}
    found = claims(subject, images)
    assert [claim.verdict for claim in found] == [OPEN] * 6
    for claim in found:  # what is written can be read again
        assert claim_of(Path("evidence.json"), finite(dataclasses.asdict(claim))) == claim


@pytest.mark.parametrize("n", [20, 60])
def test_differences_of_nothing_are_claimed_at_the_nominal_rate(n: int) -> None:
    # 300 independent columns; that they share the resampled rows does not make their values depend on each other.
    verdicts = [above(interval, n) for interval in mean_intervals(np.random.default_rng(n).normal(size=(n, 300)))]
    # 2.5 % on either side is nominal, and a little more for the bootstrap of few images: 15 of 300 are expected.
    assert 3 <= sum(verdict != OPEN for verdict in verdicts) <= 31


def test_maps_at_random_point_at_objects_at_most_at_the_nominal_rate() -> None:
    random, side = np.random.default_rng(3), 4
    held = 0
    for _ in range(100):
        covered = planted.at_patch(random.integers(side**2, size=40))
        maps = {"noise": random.random((40, side**2))}
        orders = {"centre": random.random((40, side**2)), "mean of other images": random.random((40, side**2))}
        found = measure_pointing(maps, orders, covered, beats_guessing=True)
        held += found.claim("noise").verdict == HOLDS
    assert held <= 7  # 2.5 of 100 are nominal


def test_few_images_decide_nothing() -> None:
    [of_one, opposite] = mean_intervals(np.array([[0.4, -0.4]]))
    assert of_one.low == of_one.value == of_one.high
    for verdict in (above, below):
        assert verdict(of_one, 1) == verdict(of_one, FEWEST - 1) == verdict(opposite, FEWEST - 1) == OPEN
    assert above(of_one, FEWEST) == below(opposite, FEWEST) == HOLDS
    assert below(of_one, FEWEST) == above(opposite, FEWEST) == above(of_one, FEWEST, bound=0.5) == FAILS
    assert above(of_one, FEWEST, bound=0.4) == OPEN


def test_no_claim_is_decided_by_few_images_of_a_model_that_is_right() -> None:
    few = planted.by_colour(FEWEST - 1, seed=10_000)
    subject = planted.subject_of(planted.colour().subject.model, few)
    assert subject.beats_guessing
    found = claims(subject, few)
    assert [claim.verdict for claim in found] == [OPEN] * 6
    assert all(f"fewer than {FEWEST} images" in claim.rule for claim in found)
