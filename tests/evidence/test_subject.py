"""A model taken apart gives the same bits as the model itself."""

from __future__ import annotations

import numpy as np
import torch

from harness.evidence.faithfulness import keep_patches
from harness.evidence.subject import Subject, logits_from
from harness.model.adapter import parts
from tests.evidence import planted
from tests.helpers.register_vits import make_known, register_vit
from tests.helpers.tiny_vits import random_images, tiny_vit


def test_the_parts_of_a_model_give_its_logits_bit_for_bit():
    model, images = tiny_vit(), random_images()
    with torch.no_grad():
        expected = model(images)
        assert torch.equal(logits_from(model, parts(model).embed(images)), expected)
        halfway = parts(model).embed(images)
        for block in model.encoder.layers[:2]:
            halfway = block(halfway)
        assert torch.equal(logits_from(model, halfway, 2), expected)


def test_the_parts_of_a_second_family_give_its_logits_bit_for_bit(monkeypatch):
    make_known(monkeypatch)
    for pools_patches in (True, False):
        model = register_vit(pools_patches=pools_patches)
        with torch.no_grad():
            assert torch.equal(logits_from(model, parts(model).embed(random_images())), model(random_images()))


def test_kept_patches_come_with_the_class_token_and_their_own_positions():
    tokens = torch.arange(2 * 5 * 1.0).reshape(2, 5, 1)
    kept = keep_patches(tokens, torch.tensor([[3, 0], [1, 2]]), prefix=1)
    assert kept[..., 0].tolist() == [[0, 4, 1], [5, 7, 8]]
    assert keep_patches(tokens, torch.tensor([[1], [0]]), prefix=3)[..., 0].tolist() == [[0, 1, 2, 4], [5, 6, 7, 8]]
    assert keep_patches(tokens, torch.empty(2, 0, dtype=torch.int64), prefix=1)[..., 0].tolist() == [[0], [5]]


def test_guessing_is_beaten_only_if_the_whole_interval_is_above_the_largest_class():
    labels = np.array([0] * 60 + [1] * 40)

    def subject(right: int) -> Subject:
        predicted = labels.copy()
        predicted[right:] = 1 - predicted[right:]
        return Subject(planted.new_vit(), lambda: iter(()), labels, predicted, 2)

    assert subject(71).beats_guessing  # Wilson: 0.615 to 0.790
    assert not subject(69).beats_guessing  # 0.594 to 0.772
    assert not subject(60).beats_guessing
