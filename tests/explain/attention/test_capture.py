"""Captured attention is the model's own, capturing changes nothing, and it never misses a block in silence."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from harness.errors import HarnessError
from harness.explain import outliers
from harness.explain.attention import capture, head_statistics
from harness.explain.attention.call import AttentionCall
from harness.explain.attention.capture import capture_calls, capture_rows, capture_tokens
from harness.explain.attention.rollout import rollout, transition
from harness.explain.attention.self_test import self_test
from harness.runs import rules
from tests.helpers.forked import in_child
from tests.helpers.tiny_vits import (
    CLASS_TOKEN,
    attention_by_torch,
    embedded,
    hooks_left,
    random_images,
    tiny_vit,
)

SIZES = [  # image, patch, heads
    pytest.param(32, 8, 3, id="odd heads, 4x4"),
    pytest.param(28, 4, 1, id="one head, 7x7"),
    pytest.param(56, 4, 4, id="even heads, 14x14"),
    pytest.param(50, 10, 5, id="patches of 10, 5x5"),
]


def matrix(call: AttentionCall) -> Tensor:
    return call.matrix()


def rows_of(model: nn.Module, images: Tensor) -> Tensor:
    with torch.inference_mode(), capture_rows(model) as rows:
        model(images)
        return rows()


# What is captured


def test_the_row_of_a_block_is_that_worked_out_by_hand() -> None:
    # Half of the products of the class token's query with the keys: scores 0, ln 2 and ln 5, so 1 : 2 : 5.
    queries = torch.tensor([[[[2.0, 0], [0, 1], [1, 1]]]])
    keys = torch.tensor([[[[0.0, 7], [math.log(2), -3], [math.log(5), 0]]]])
    output = nn.functional.scaled_dot_product_attention(queries, keys, keys, scale=0.5)
    captured = AttentionCall(queries, keys, keys, None, 0.5, output)
    expected = torch.tensor([1 / 8, 2 / 8, 5 / 8])
    torch.testing.assert_close(captured.row(CLASS_TOKEN)[0, 0], expected)
    torch.testing.assert_close(captured.matrix()[0, 0, 0], expected)
    assert [bool(check <= 1) for check in captured.checks] == [True, True]


@pytest.mark.parametrize(("image_size", "patch_size", "heads"), SIZES)
def test_rows_and_matrices_are_torchs_own(image_size: int, patch_size: int, heads: int) -> None:
    model, images = tiny_vit(image_size=image_size, patch_size=patch_size, heads=heads), random_images(3, image_size)
    expected = attention_by_torch(model, images)
    tokens = (image_size // patch_size) ** 2 + 1
    assert expected.shape == (3, 3, heads, tokens, tokens)
    assert expected.amax() > 0.5  # peaked enough for errors to show
    with torch.inference_mode(), capture_rows(model) as rows, capture_calls(model, matrix) as matrices:
        model(images)
    torch.testing.assert_close(rows(), expected[:, :, :, 0], atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.stack(matrices(), 1), expected, atol=1e-5, rtol=0)


def test_the_bias_of_the_query_counts_and_that_of_the_keys_does_not() -> None:
    model, images = tiny_vit(layers=1), random_images()
    before, bias, size = rows_of(model, images), model.encoder.layers[0].self_attention.in_proj_bias, model.hidden_dim
    with torch.no_grad():
        bias[size : 2 * size] += 3
        torch.testing.assert_close(rows_of(model, images), before)
        bias[:size] += 3
    assert (rows_of(model, images) - before).abs().max() > 0.1


def test_a_batch_gives_what_its_images_give_alone() -> None:
    model, images = tiny_vit(), random_images(4)
    single = torch.cat([rows_of(model, image[None]) for image in images])
    torch.testing.assert_close(rows_of(model, images), single, atol=1e-6, rtol=0)


def test_tokens_are_what_enters_each_block_and_leaves_the_last() -> None:
    model, images = tiny_vit(), random_images()
    with torch.inference_mode(), capture_tokens(model) as levels:
        model(images)
    stream = embedded(model, images)
    expected = [stream]
    for block in model.encoder.layers:
        expected.append(block(expected[-1]))
    assert len(levels()) == 4
    for found, level in zip(levels(), expected, strict=True):
        torch.testing.assert_close(found, level)


def test_low_precision_is_recomputed_in_float32() -> None:
    images = random_images()

    def in_bf16(batch: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return model(batch)

    model = tiny_vit()
    with torch.inference_mode(), capture_rows(model) as rows, capture_calls(model, matrix) as matrices:
        in_bf16(images)
    assert rows().dtype == matrices()[0].dtype == torch.float32
    torch.testing.assert_close(rows()[:, 0], attention_by_torch(model, images)[:, 0, :, 0], atol=0.05, rtol=0)
    assert self_test(model, images, in_bf16)["passed"]
    model = tiny_vit().bfloat16()
    assert rows_of(model, images.bfloat16()).dtype == torch.float32
    assert self_test(model, images.bfloat16())["passed"]


# Capturing changes nothing


@pytest.mark.parametrize("heads", [2, 3])  # torch has a kernel of its own for even numbers
@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad, torch.enable_grad])
def test_logits_are_the_same_bits(heads: int, mode: Any) -> None:
    model, images = tiny_vit(heads=heads), random_images()
    with mode():
        plain = model(images)
        with capture_rows(model) as rows, capture_calls(model, matrix), capture_tokens(model):
            watched = model(images)
    assert torch.equal(plain, watched)
    assert not rows().requires_grad
    assert hooks_left(model) == 0


def test_frozen_models_and_ddp(tmp_path: Path) -> None:
    model, images = tiny_vit(), random_images()
    expected = rows_of(model, images)
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        wrapped = nn.parallel.DistributedDataParallel(model)
        assert torch.equal(rows_of(wrapped, images), expected)
    finally:
        dist.destroy_process_group()
    model.requires_grad_(False)
    assert torch.equal(rows_of(model, images), expected)


def test_hooks_are_removed_whatever_fails() -> None:
    model, images = tiny_vit(), random_images()

    def broken(call: AttentionCall) -> Tensor:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), capture_calls(model, broken):
        model(images)
    assert hooks_left(model) == 0
    with pytest.raises(KeyboardInterrupt), capture_rows(model):
        assert hooks_left(model) == 2  # the model's beginning and end
        raise KeyboardInterrupt
    assert hooks_left(model) == 0


def test_only_the_latest_complete_pass_counts() -> None:
    model, images = tiny_vit(), random_images()
    with capture_rows(model) as rows:
        with pytest.raises(RuntimeError, match="no complete forward pass"):
            rows()
        for block in model.encoder.layers:
            model(images[:3])
            assert rows().shape[0] == 3
            handle = block.mlp.register_forward_pre_hook(lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                model(images)
            handle.remove()
            with pytest.raises(RuntimeError, match="no complete forward pass"):
                rows()
        model(images)
        assert torch.equal(rows(), rows_of(model, images))


# Once a process has used fake tensors or run a compiled function, autograd refuses to work in its children, and other
# tests fork theirs. So these tests do it in a child.


def test_only_the_check_at_the_end_of_a_pass_waits_for_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[int] = []
    monkeypatch.setattr(capture, "require_exact", lambda checks: checked.append(len(checks)))

    def run_without_values() -> None:
        # A tensor without values cannot be read, so whatever asked for a number would raise.
        with torch.device("meta"):
            model = tiny_vit()
        with FakeTensorMode(allow_non_fake_inputs=True), torch.inference_mode():
            model, images = model.to_empty(device="cpu"), torch.empty(4, 3, 32, 32)
            distances = head_statistics.patch_distances((4, 4), 8)
            with (
                capture_rows(model) as rows,
                capture_tokens(model) as tokens,
                capture_calls(model, matrix) as matrices,
            ):
                model(images)
            transitions = [transition(each) for each in matrices()]
            statistics = [head_statistics.head_statistics(each, distances, CLASS_TOKEN) for each in matrices()]
            found = outliers.outliers(torch.stack([outliers.patch_norms(each, CLASS_TOKEN) for each in tokens()], 1))
            taken = outliers.attention_on(found[:, :-1], rows(), CLASS_TOKEN)
            assert rollout(transitions, CLASS_TOKEN).shape == (4, 16)
            assert head_statistics.RunningMean.of(torch.stack(statistics, 1)).mean().shape == (3, 3, 5)
            assert rules.has_outlier_attention(found[:, :-1].float().mean(-1), taken).shape == (4, 3)
            assert checked == [3, 3]  # once for rows, once for matrices

    in_child(run_without_values)


# What cannot be captured is refused


def test_compiled_models_are_refused() -> None:
    model = tiny_vit()
    with pytest.raises(HarnessError, match="_orig_mod"), capture_rows(torch.compile(model, backend="eager")):
        pass
    block = tiny_vit()
    block.encoder.layers[1] = torch.compile(block.encoder.layers[1], backend="eager")
    with pytest.raises(HarnessError, match="compiled"), capture_calls(block, matrix):
        pass
    in_place = tiny_vit()
    in_place.compile(backend="eager")
    with pytest.raises(HarnessError, match="model is compiled"), capture_rows(in_place):
        pass


def test_a_model_that_was_compiled_earlier_gives_its_attention_and_refuses_its_tokens() -> None:
    def run_compiled() -> None:
        model, images = tiny_vit(layers=2), random_images()
        compiled = torch.compile(model, backend="eager")
        with torch.no_grad():
            compiled(images)
            with capture_rows(model) as rows:
                compiled(images)
                torch.testing.assert_close(rows(), attention_by_torch(model, images)[:, :, :, 0])
            with pytest.raises(HarnessError, match=r"0 of 3 hooks fired .* compiled"), capture_tokens(model):
                compiled(images)
        assert hooks_left(model) == 0

    in_child(run_compiled)


def test_capturing_without_running_the_model_is_an_error() -> None:
    model = tiny_vit()
    with pytest.raises(HarnessError, match="No image passed"), capture_rows(model):
        tiny_vit()(random_images())
    assert hooks_left(model) == 0


def test_a_block_without_captured_attention_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_vit()
    monkeypatch.setattr(model.encoder.layers[1], "forward", lambda stream: stream)
    with pytest.raises(HarnessError, match="2 attention calls in one pass through a model with 3"), capture_rows(model):
        model(random_images())
    assert hooks_left(model) == 0


def test_tokens_of_a_block_that_was_passed_over_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_vit()
    blocks = model.encoder.layers
    monkeypatch.setattr(blocks, "forward", lambda stream: blocks[2](blocks[0](stream)))
    with pytest.raises(HarnessError, match="3 of 4 hooks"), capture_tokens(model):
        model(random_images())
    assert hooks_left(model) == 0


def test_other_models_are_refused() -> None:
    with (
        pytest.raises(HarnessError, match="does not describe the parts of Linear"),
        capture_rows(nn.Linear(2, 2)),
    ):
        pass


@pytest.mark.parametrize("mode", [torch.no_grad, torch.enable_grad])  # without gradients, torch has a faster path
def test_torchs_own_module_is_refused_with_what_to_use(mode: Any) -> None:
    model = tiny_vit(packed=False, heads=2)
    with mode(), pytest.raises(HarnessError, match="PackedAttention, which has the same"), capture_rows(model):
        model(random_images())
    assert hooks_left(model) == 0


def test_attention_that_is_not_finite_is_an_error() -> None:
    model = tiny_vit(layers=1)
    with torch.no_grad():
        model.encoder.layers[0].self_attention.in_proj_weight.mul_(1e30)  # scores beyond float32
    with pytest.raises(HarnessError, match="Attention is not finite"), capture_rows(model):
        model(random_images())
    assert hooks_left(model) == 0


# The self-test


def test_the_self_test_passes_exact_capture_and_fails_inexact_capture(monkeypatch: pytest.MonkeyPatch) -> None:
    model, images = tiny_vit(), random_images(2)
    result = self_test(model, images)
    assert result["passed"] and result["logits_equal"]
    assert (result["pictures"], result["layers"], result["tolerance"]) == (2, 3, 1e-5)
    assert 0 < result["row_error"] < 1e-5 and 0 < result["matrix_error"] < 1e-5
    assert hooks_left(model) == 0

    monkeypatch.setattr(AttentionCall, "row", lambda call, layout: call.matrix()[:, :, 1])
    wrong = self_test(model, images)
    assert not wrong["passed"] and wrong["row_error"] > 1e-2


def test_the_self_test_notices_other_logits() -> None:
    model, drift = tiny_vit(), iter(range(2))

    def forward(images: Tensor) -> Tensor:
        return model(images) + next(drift)

    result = self_test(model, random_images(2), forward)
    assert not result["logits_equal"] and not result["passed"]


def test_the_self_test_allows_what_float32_cannot_do_better(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_vit(layers=1)
    with torch.no_grad():
        model.encoder.layers[0].self_attention.in_proj_weight.mul_(20)  # scores of a thousand, and more
    result = self_test(model, random_images(64))
    assert result["matrix_error"] > 1e-5 and result["reference_error"] > 1e-5
    assert result["passed"]
    exact = AttentionCall.matrix
    monkeypatch.setattr(AttentionCall, "matrix", lambda call: exact(call) + 1e-2)
    assert not self_test(model, random_images(64))["passed"]
