"""Depth on models whose useful depth is known."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from harness.evidence.depth import Labelled, features_by_layer, linear_cka, measure_depth, passes
from harness.runs.evidence_file import HOLDS, OPEN
from tests.evidence import planted


def labelled(images: planted.Images) -> Labelled:
    return Labelled(lambda: iter(images.values.split(16)), images.labels.numpy())


def without_second_block(model):
    """The same model with a second block that changes nothing."""
    model = copy.deepcopy(model)
    block = model.encoder.layers[1]
    for linear in (block.self_attention.out_proj, block.mlp[3]):
        torch.nn.init.zeros_(linear.weight)
        torch.nn.init.zeros_(linear.bias)
    return model


def test_features_of_the_last_layer_are_what_the_head_reads():
    subject = planted.colour().subject
    by_layer = features_by_layer(subject.model, subject.batches)
    assert by_layer.shape == (60, 2, 24)
    with torch.no_grad():
        logits = subject.model.heads(torch.from_numpy(by_layer[:, -1]))
        expected = torch.cat([subject.model(images) for images in subject.batches()])
    torch.testing.assert_close(logits, expected)


def test_a_block_that_changes_nothing_is_found_superfluous():
    model = without_second_block(planted.colour().subject.model)
    images = planted.by_colour(60, seed=10_000)
    subject = planted.subject_of(model, images)
    depth = measure_depth(
        subject, subject, labelled(planted.by_colour(90, seed=1)), labelled(planted.by_colour(30, seed=2))
    )
    assert depth.layers_enough == 1
    assert depth.lens[0] == depth.lens[1] == (subject.predicted == subject.labels).mean()
    assert depth.without_block[1] == depth.lens[1]
    assert depth.without_block[0] < depth.lens[1]
    assert depth.cka == (pytest.approx(1), pytest.approx(1))
    assert depth.probe_loss[0].value == depth.probe_loss[0].high == 0
    assert depth.claim().verdict == HOLDS


def test_an_untrained_model_on_labels_that_say_nothing_gives_no_verdict():
    images = planted.by_colour(60, seed=10_000)
    chance = planted.Images(torch.randn(60, 3, planted.SIZE, planted.SIZE), images.labels, images.patch)
    subject = planted.subject_of(planted.new_vit(), chance)
    depth = measure_depth(subject, subject, labelled(chance), labelled(chance))
    unrelated = depth.__class__(**{**depth.__dict__, "probe_on_shuffled_labels": depth.probe[-1].value})
    assert unrelated.claim().verdict == OPEN


def test_cka_is_that_of_gram_matrices_and_ignores_rotation_and_scale():
    random = np.random.default_rng(0)
    x, y = random.normal(size=(20, 5)), random.normal(size=(20, 3))
    centre = np.eye(20) - 1 / 20
    k, m = (centre @ (z @ z.T) @ centre for z in (x, y))
    assert linear_cka(x, y) == pytest.approx((k * m).sum() / np.sqrt((k * k).sum() * (m * m).sum()))
    rotation, _ = np.linalg.qr(random.normal(size=(5, 5)))
    assert linear_cka(x, 3 * x @ rotation + 1) == pytest.approx(1)


def test_the_cost_counts_every_image_that_goes_through_the_model():
    subject = planted.colour().subject
    few = planted.subject_of(subject.model, planted.by_colour(20, seed=3))
    train, val = labelled(planted.by_colour(90, seed=1)), labelled(planted.by_colour(30, seed=2))
    assert passes(subject, few, train, val) == 90 + 30 + 60 + 20 * (1 + 1)
