"""Positions on a model that needs them and on one that does not."""

from __future__ import annotations

import copy

import pytest
import torch

from harness.evidence.position_use import log_probabilities, measure_position_use
from harness.runs.evidence_file import FAILS, HOLDS, OPEN
from tests.evidence import planted


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


def test_the_embedding_as_it_is_gives_the_models_own_probabilities():
    subject = planted.place().subject
    ours = log_probabilities(subject, subject.model.encoder.pos_embedding)
    with torch.no_grad():
        expected = torch.cat([subject.model(images) for images in subject.batches()]).double().log_softmax(1)
    assert (ours == expected.numpy()).all()


def test_nothing_is_claimed_of_a_model_that_guesses():
    use = measure_position_use(planted.subject_of(planted.new_vit(), planted.by_place(40, seed=3)))
    assert use.claim().verdict == OPEN
