"""Two maps of the same image, compared with those of other images."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from harness.evidence.pairs import PairedMaps, last_block, of_last_block, of_mistakes, pairs_figure, prediction_captions
from harness.explain.attention.relevance import relevance
from tests.evidence import planted


def test_equal_maps_correlate_fully_and_those_of_other_images_do_not() -> None:
    maps = np.random.default_rng(0).random((40, 16))
    measured = PairedMaps(np.arange(40), maps, maps).measured()
    assert measured.n == 40
    assert measured.same_image.value == measured.same_image.low == pytest.approx(1)
    assert abs(measured.other_image.value) < 0.15


def test_mistakes_have_the_relevance_of_their_truth() -> None:
    images = planted.by_colour(40, seed=3)
    subject = planted.subject_of(planted.new_vit(), images, batch=7)
    wrong = np.flatnonzero(subject.labels != subject.predicted)
    assert 2 <= len(wrong) < 40
    predicted = relevance(subject.model, images.values, torch.from_numpy(subject.predicted)).numpy()
    found = of_mistakes(subject, predicted)
    assert found is not None
    np.testing.assert_array_equal(found.rows, wrong)
    np.testing.assert_array_equal(found.first, predicted[wrong])
    expected = relevance(subject.model, images.values[wrong], images.labels[wrong])
    np.testing.assert_allclose(found.second, expected, rtol=1e-4, atol=1e-8)


def test_the_same_block_is_compared_where_pooling_attention_is_a_layer_more() -> None:
    model, images = planted.new_vit(), planted.by_colour(8, seed=3)
    before = last_block(model, planted.subject_of(model, images))
    first, pool = np.zeros_like(before), np.ones_like(before)
    archive = SimpleNamespace(layers=np.stack([first, before, pool], axis=1))  # of two blocks
    np.testing.assert_array_equal(of_last_block(archive, model), before)


def test_the_figure_names_what_it_shows() -> None:
    images = planted.by_colour(40, seed=3)
    subject = planted.subject_of(planted.new_vit(), images)
    found = of_mistakes(subject, np.random.default_rng(1).random((40, 16)))
    assert found is not None
    captions = prediction_captions(["red", "green", "blue"], subject, np.full(40, 0.5))
    crop = np.zeros((32, 32, 3), np.uint8)
    figure = pairs_figure(found, ("prediction", "truth"), "Mistakes", lambda _: crop, captions)
    assert figure.axes[0].get_title() == captions[int(found.rows[0])]
    assert captions[int(found.rows[0])].startswith("50 % ") and "truth: " in captions[int(found.rows[0])]
    assert f"Mistakes: {len(found.rows)} test images" in figure.get_suptitle()
