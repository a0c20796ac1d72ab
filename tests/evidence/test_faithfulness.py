"""Faithfulness where the patch that a prediction rests on is known."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from harness.evidence.faithfulness import (
    STEPS,
    Faithfulness,
    area,
    baselines,
    curves,
    measure_faithfulness,
    not_measured,
    ranking,
)
from harness.evidence.subject import Subject
from harness.explain.localization import centre_prior
from harness.model.adapter import parts
from harness.runs.evidence_file import FAILS, HOLDS, OPEN
from tests.evidence import planted
from tests.helpers.register_vits import make_known, register_vit
from tests.helpers.tiny_vits import random_images


def measured(subject: Subject, maps: dict[str, np.ndarray]) -> Faithfulness | None:
    return measure_faithfulness(subject, maps, baselines(maps, centre_prior(planted.SIDE), len(subject)))


def test_the_map_of_the_true_patch_wins_and_a_map_against_it_loses():
    truth = planted.at_patch(planted.colour().patch)
    faithful = measured(planted.colour().subject, {"truth": truth, "opposite": 1 - truth})
    assert faithful.best == "truth"
    assert faithful.n + faithful.left_out == 60
    assert faithful.n >= 30
    assert faithful.maps["truth"].gain.low > 0.1
    assert faithful.maps["opposite"].gain.high < -0.1
    assert abs(faithful.maps["random"].gain.value) < 0.15 < faithful.maps["truth"].gain.value
    assert faithful.claim().verdict == HOLDS
    for each in faithful.maps.values():
        assert each.insertion[0] == each.deletion[-1] == pytest.approx(0)
        assert each.insertion[-1] == each.deletion[0] == pytest.approx(1)
        assert len(each.insertion) == len(each.deletion) == STEPS + 1


def test_a_map_that_avoids_the_true_patch_does_not_hold():
    opposite = 1 - planted.at_patch(planted.colour().patch)
    faithful = measured(planted.colour().subject, {"opposite": opposite})
    assert faithful.claim().verdict == FAILS


def test_the_claim_is_about_the_first_map_and_not_about_the_best():
    truth = planted.at_patch(planted.colour().patch)
    faithful = measured(planted.colour().subject, {"opposite": 1 - truth, "truth": truth})
    assert (faithful.shown, faithful.best) == ("opposite", "truth")
    assert faithful.claim().verdict == FAILS


def test_nothing_is_measured_where_patches_change_nothing():
    model = copy.deepcopy(planted.colour().subject.model)
    torch.nn.init.zeros_(model.heads.head.weight)
    subject = planted.subject_of(model, planted.by_colour(20, seed=3))
    truth = planted.at_patch(planted.by_colour(20, seed=3).patch.numpy())
    assert measured(subject, {"truth": truth}) is None
    assert not_measured().verdict == OPEN and not_measured().numbers == "not measured"


def test_a_map_drawn_at_random_is_not_faithful():
    noise = np.random.default_rng(5).random((60, planted.SIDE**2))
    faithful = measured(planted.colour().subject, {"noise": noise})
    assert faithful.claim().verdict != HOLDS


def test_nothing_is_claimed_of_a_model_that_guesses():
    images = planted.by_colour(40, seed=3)
    faithful = measured(
        planted.subject_of(planted.new_vit(), images), {"truth": planted.at_patch(images.patch.numpy())}
    )
    assert faithful is None or faithful.claim().verdict == OPEN


def test_a_head_that_reads_the_mean_of_patches_reads_zeros_without_any(monkeypatch: pytest.MonkeyPatch):
    make_known(monkeypatch)
    model, images = register_vit(pools_patches=True), random_images()
    with torch.no_grad():
        predicted = model(images).argmax(1)
        shares = torch.stack([parts(model).head.bias.softmax(0), *model(images).softmax(1)])
    subject = Subject(model, lambda: iter([images]), predicted.numpy(), predicted.numpy(), shares.shape[1])
    inserted, deleted = curves(subject, [np.tile(np.arange(16), (len(images), 1))])
    np.testing.assert_allclose(inserted[:, 0, 0], shares[0, predicted], rtol=1e-5)
    np.testing.assert_allclose(deleted[:, 0, 0], shares[1:][range(len(images)), predicted], rtol=1e-5)
    assert (inserted[:, 0, -1] == deleted[:, 0, 0]).all() and (inserted[:, 0, 0] == deleted[:, 0, -1]).all()


def test_area_is_the_trapezoidal_rule():
    assert area(np.array([[0, 0.5, 1.0], [1, 1, 1]])).tolist() == [0.5, 1]


def test_of_equal_values_the_first_patch_comes_first():
    assert ranking(np.array([[0.1, 0.3, 0.3, 0.2]])).tolist() == [[1, 2, 3, 0]]


def test_the_mean_of_other_images_leaves_the_image_itself_out():
    maps = {"map": np.array([[1.0, 0], [0, 2], [0, 3]])}
    others = baselines(maps, np.array([1.0, 0]), 3)["mean of other images"]
    assert others.tolist() == [[0, 1], [0.5, 0.5], [0.5, 0.5]]
