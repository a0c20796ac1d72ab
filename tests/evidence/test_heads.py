"""Heads on models in which some are known to do nothing, or the same as others."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from harness.evidence.block_heads import block_without, outputs_of_block
from harness.evidence.figures import heads_figure
from harness.evidence.heads import SIGNIFICANT, jensen_shannon, measure_heads
from harness.model.adapter import parts
from harness.runs.evidence_file import FAILS, OPEN
from tests.evidence import planted
from tests.helpers.timm_vits import small_timm
from tests.helpers.tiny_vits import random_images, tiny_vit

WIDTH = 12  # of a head of the planted models


def test_the_outputs_of_all_heads_projected_are_the_output_of_the_attention():
    block = planted.colour().subject.model.encoder.layers[0]
    tokens = torch.randn(3, 5, 24, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        outputs, normed = outputs_of_block(block, tokens), block.ln_1(tokens)
        assert outputs.shape == (3, 2, 5, WIDTH)
        joined = block.self_attention.out_proj(outputs.transpose(1, 2).flatten(2))
        torch.testing.assert_close(joined, block.self_attention(normed, normed, normed)[0])


def test_ablation_equals_a_model_whose_head_gives_its_mean():
    subject = planted.colour().subject
    heads = measure_heads(subject, subject)
    images = torch.cat(list(subject.batches()))
    labels = torch.from_numpy(subject.labels)
    edited = copy.deepcopy(subject.model)
    attention = edited.encoder.layers[1].self_attention
    with torch.no_grad():
        stream = torch.cat([edited.class_token.expand(60, -1, -1), edited._process_input(images)], 1)
        stream = edited.encoder.layers[0](stream + edited.encoder.pos_embedding)
        outputs = outputs_of_block(edited.encoder.layers[1], stream)
        mean = outputs[:, 1].mean((0, 1))
        columns = attention.out_proj.weight[:, WIDTH:]
        attention.out_proj.bias += columns @ mean
        columns.zero_()
        change = cross_entropy(edited(images), labels) - cross_entropy(subject.model(images), labels)
    assert heads.loss_change[1][1] == pytest.approx(change.item(), abs=1e-5)
    assert abs(change) > 1e-4  # the head does something, so the comparison means something


def test_a_head_of_timms_attention_is_replaced_before_its_projection():
    for name in ("vit_small_patch14_reg4_dinov2", "vit_base_patch16_siglip_224", "vit_tiny_r_s16_p8_224"):
        model = small_timm(name)
        vit = parts(model)
        edited, block, width = copy.deepcopy(model), model.blocks[0], 16
        with torch.no_grad():
            tokens = vit.embed(random_images(2, vit.image_size))
            outputs = outputs_of_block(block, tokens)
            projected = block.attn.proj(outputs.transpose(1, 2).flatten(2))
            torch.testing.assert_close(projected, block.attn(block.norm1(tokens)))
            mean = outputs[:, 1].mean((0, 1))
            projection = edited.blocks[0].attn.proj
            columns = projection.weight[:, width : 2 * width]
            projection.bias += columns @ mean
            columns.zero_()
            expected, whole = edited.blocks[0](tokens), block(tokens)
            assert (expected - whole).abs().max() > 1e-2
            torch.testing.assert_close(block_without(block, tokens, 1, mean), expected)
            assert torch.equal(block(tokens), whole)  # the model is as it was


def test_a_head_whose_output_is_not_used_changes_nothing():
    model = copy.deepcopy(planted.colour().subject.model)
    with torch.no_grad():
        model.encoder.layers[0].self_attention.out_proj.weight[:, :WIDTH] = 0
    subject = planted.subject_of(model, planted.by_colour(60, seed=10_000))
    heads = measure_heads(subject, subject)
    assert heads.loss_change[0][0] == pytest.approx(0, abs=1e-6)
    assert heads.p_values[0][0] == 1
    matter = (np.array(heads.loss_change) > 0) & (np.array(heads.p_values) < SIGNIFICANT)
    assert 0 < matter.sum() < 4


def test_heads_that_are_copies_of_each_other_do_not_differ():
    model = copy.deepcopy(planted.colour().subject.model)
    with torch.no_grad():
        for block in model.encoder.layers:
            for start in (0, 24, 48):  # query, key, value
                for parameter in (block.self_attention.in_proj_weight, block.self_attention.in_proj_bias):
                    parameter[start + WIDTH : start + 2 * WIDTH] = parameter[start : start + WIDTH]
    subject = planted.subject_of(model, planted.by_colour(60, seed=10_000))
    heads = measure_heads(subject, subject)
    assert heads.between_heads.value == pytest.approx(0, abs=1e-9)
    assert heads.between_images.value > 0
    assert heads.claim().verdict == (FAILS if subject.beats_guessing else OPEN)


def test_heads_that_attend_to_no_patch_are_left_out_and_alone_give_no_number():
    model = copy.deepcopy(planted.colour().subject.model)

    def blind(first: int, last: int) -> None:
        """The class token's query and key of these heads are so long that it attends to itself alone."""
        for block in model.encoder.layers:
            attention = block.self_attention
            attention.in_proj_weight[first:last] = 0
            attention.in_proj_bias[first:last] = 1000
            attention.in_proj_weight[24 + first : 24 + last] = model.class_token[0, 0] * 1000

    subject = planted.colour().subject
    with torch.no_grad():
        model.class_token[0, 0] *= 100
        blind(0, WIDTH)
        one = measure_heads(planted.subject_of(model, planted.by_colour(20, seed=3)), subject)
        blind(WIDTH, 24)
        none = measure_heads(planted.subject_of(model, planted.by_colour(20, seed=3)), subject)
    assert one.n == 0 and np.isfinite(one.between_images.value)  # one head is left: no pair of heads
    assert none.n == 0 and none.claim().numbers == "not measured" and none.claim().verdict == OPEN
    assert none.claim().number in heads_figure(dataclasses.asdict(none)).get_suptitle()  # why, in the same words


def test_a_model_with_one_head_has_no_heads_to_differ():
    model = tiny_vit(image_size=planted.SIZE, patch_size=planted.PATCH, heads=1)
    subject = planted.subject_of(model, planted.by_colour(40, seed=3))
    subject = dataclasses.replace(subject, predicted=subject.labels)
    assert subject.beats_guessing
    heads = measure_heads(subject, subject)
    claim = heads.claim()
    assert (heads.n, claim.verdict, claim.number) == (0, OPEN, "no layer has two heads")
    assert "one head" in claim.rule.rpartition("cannot be told")[2]
    plain = dataclasses.asdict(heads)
    assert "no layer has two heads" in heads_figure(plain).get_suptitle()


def test_divergence_of_known_distributions():
    one, other = np.array([1.0, 0.0]), np.array([0.0, 1.0])
    assert jensen_shannon(one, other) == 1
    assert jensen_shannon(one, one) == 0
    assert jensen_shannon(one, np.array([0.5, 0.5])) == pytest.approx(0.311278, abs=1e-6)


def test_nothing_is_claimed_of_a_model_that_guesses():
    subject = planted.subject_of(planted.new_vit(), planted.by_colour(40, seed=3))
    heads = measure_heads(subject, subject)
    assert heads.claim().verdict == OPEN
