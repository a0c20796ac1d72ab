"""Positions on a model that needs them and on one that does not."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from harness.evidence.position_use import measure_position_use
from harness.evidence.subject import Subject
from harness.runs.evidence_file import FAILS, HOLDS, OPEN
from tests.evidence import planted
from tests.helpers.register_vits import make_known, register_vit


def test_a_model_that_reads_places_loses_them_with_its_positions():
    use = measure_position_use(planted.place().subject)
    assert use.accuracy > 0.9
    assert use.changes["shuffled"].accuracy_loss.low > 0.2
    assert use.changes["shuffled"].divergence.low > 0
    assert use.claim().verdict == HOLDS


def test_a_model_without_positions_cannot_lose_them():
    model = copy.deepcopy(planted.colour().subject.model)
    torch.nn.init.zeros_(model.encoder.pos_embedding)
    subject = planted.subject_of(model, planted.by_colour(60, seed=10_000))
    assert subject.beats_guessing
    use = measure_position_use(subject)
    for change in use.changes.values():
        assert change.accuracy_loss.value == change.accuracy_loss.high == 0
        assert change.divergence.value == pytest.approx(0, abs=1e-9)
    assert use.claim().verdict == FAILS


def test_a_changed_embedding_gives_the_logits_of_a_model_with_that_embedding_and_is_put_back():
    subject = planted.place().subject
    before = subject.model.encoder.pos_embedding.clone()
    use = measure_position_use(subject)
    assert torch.equal(subject.model.encoder.pos_embedding, before)
    zeroed = copy.deepcopy(subject.model)
    with torch.no_grad():
        zeroed.encoder.pos_embedding[:, 1:] = 0
        expected = torch.cat([zeroed(images) for images in subject.batches()]).argmax(1)
    lost = (subject.predicted == subject.labels).mean() - (expected.numpy() == subject.labels).mean()
    assert use.changes["zero"].accuracy_loss.value == pytest.approx(lost)


def test_a_model_without_an_embedding_has_nothing_to_measure(monkeypatch):
    make_known(monkeypatch)
    model = register_vit(has_places=False)
    subject = Subject(model, lambda: iter([]), np.zeros(2, np.int64), np.zeros(2, np.int64), 5)
    assert measure_position_use(subject) is None


def test_nothing_is_claimed_of_a_model_that_guesses():
    use = measure_position_use(planted.subject_of(planted.new_vit(), planted.by_place(40, seed=3)))
    assert use.claim().verdict == OPEN
