"""Families of timm's models: attention, maps, decay and drop path are timm's own, whatever their parts are called."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from timm.layers import calculate_drop_path_rates
from timm.optim import param_groups_layer_decay
from torch import Tensor, nn
from torch.nn.functional import pad

from harness.errors import HarnessError
from harness.explain.attention import capture
from harness.explain.attention.batch import collect_batch
from harness.explain.attention.capture import capture_calls, capture_tokens
from harness.explain.attention.relevance import relevance
from harness.explain.attention.self_test import self_test
from harness.explain.outliers import outliers, patch_norms
from harness.explain.positions.change import Embedding
from harness.explain.standalone import class_names
from harness.model import adapter
from harness.model.drop_path import DropPath, add_drop_path, drop_path_rates, set_drop_path
from harness.model.grad_checkpointing import enable_grad_checkpointing
from harness.training.optim import parameter_groups
from tests.helpers.timm_vits import FAMILIES, small_timm
from tests.helpers.tiny_vits import hooks_left, legrad, matrices_of, random_images

pytestmark = pytest.mark.figures

CLASSES = torch.tensor([0, 3])


def images_of(model: Any, count: int = 2) -> Tensor:
    return random_images(count, adapter.parts(model).image_size)


@pytest.mark.parametrize("name", FAMILIES)
def test_attention_of_every_family_of_timm_is_exact(name: str) -> None:
    model = small_timm(name)
    parts, images = adapter.parts(model), images_of(model)
    with torch.no_grad():
        logits = model(images)

    # Attention is exact, and capturing it changes nothing.
    report = self_test(model, images)
    assert report["passed"] and report["logits_equal"]
    assert max(report["row_error"], report["matrix_error"]) < 1e-5
    assert report["layers"] == 2 + parts.layout.pools_by_attention
    assert hooks_left(model) == 0

    # Maps are shares of the patches; the head reads what the parts say.
    fields, sums = collect_batch(model, images, CLASSES, 1)
    on_patches = fields["layers"].float().sum(-1)
    torch.testing.assert_close(on_patches + fields["class_share"], torch.ones_like(on_patches), atol=2e-3, rtol=0)
    assert fields["rollout"].shape == (2, parts.grid**2)
    assert (fields["rollout"].float().sum(1) < 1.001).all() and fields["relevance"].isfinite().all()
    heads = model.blocks[0].attn.num_heads if parts.pool is None else model.attn_pool.num_heads
    assert sums.mean().shape[:2] == (report["layers"], heads)
    with torch.no_grad(), capture_tokens(model) as tokens:
        model(images)
        torch.testing.assert_close(model.head(parts.features(tokens()[-1])), logits)
        if parts.relative_positions:
            with pytest.raises(HarnessError, match="take positions besides tokens"):
                parts.embed(images)
        else:
            torch.testing.assert_close(parts.embed(images), tokens()[0])
    assert (Embedding.of(model) is None) == (parts.positions is None)

    # Rates and decay are those of timm's own groups.
    timms = param_groups_layer_decay(model, 0.05, model.no_weight_decay(), layer_decay=0.7)
    assert by_parameter(parameter_groups(model, weight_decay=0.05, layer_decay=0.7)) == by_parameter(timms)

    # Recomputed activations give the same gradients, and drop path is at timm's places.
    plain = gradients(model, images)
    enable_grad_checkpointing(model)
    assert all(map(torch.equal, plain, gradients(model, images)))
    again, _ = collect_batch(model, images, CLASSES, 1)
    assert again["relevance"].equal(fields["relevance"])
    add_drop_path(model)
    assert sum(isinstance(module, DropPath) for module in model.modules()) == 4
    model.train()
    with torch.no_grad():
        set_drop_path(model, torch.zeros(2, 4))
        torch.testing.assert_close(model(images), without_blocks(model, images))


def by_parameter(groups: list[dict[str, Any]]) -> dict[int, tuple[float, float]]:
    return {id(each): (group["lr_scale"], group["weight_decay"]) for group in groups for each in group["params"]}


def gradients(model: nn.Module, images: Tensor) -> list[Tensor]:
    model.train()
    model.zero_grad()
    model(images).square().sum().backward()
    model.eval()
    return [parameter.grad for parameter in model.parameters() if parameter.grad is not None]


def without_blocks(model: Any, images: Tensor) -> Tensor:
    blocks, model.blocks = model.blocks, nn.Sequential()
    try:
        return model(images)
    finally:
        model.blocks = blocks


def test_rates_of_drop_path_are_timms() -> None:
    ours = drop_path_rates(12, 0.1)
    torch.testing.assert_close(ours, torch.tensor(calculate_drop_path_rates(0.1, 12)).repeat_interleave(2))


@pytest.mark.parametrize("name", FAMILIES)
def test_maps_are_those_of_explicit_matrices(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_timm(name)
    images, layout = images_of(model), adapter.parts(model).layout
    captured, captured_legrad = relevance(model, images, CLASSES), legrad(model, images, CLASSES)
    maps: list[Tensor] = []
    left: list[Tensor] = []

    def explicit(
        query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0, **_: Any
    ) -> Tensor:
        scores = query @ key.transpose(2, 3) * query.shape[-1] ** -0.5
        attention = (scores if attn_mask is None else scores + attn_mask).softmax(-1)
        attention.retain_grad()
        maps.append(attention)
        return attention @ value

    monkeypatch.setattr(nn.functional, "scaled_dot_product_attention", explicit)
    hooks = [block.register_forward_hook(lambda _, __, output: left.append(output)) for block in model.blocks]
    logits = model(images)
    monkeypatch.undo()
    for hook in hooks:
        hook.remove()
    # LeGrad's score of a block: what the head gives if all tokens are the mean of those that leave it.
    growth = []
    for attention, tokens in zip(maps, left, strict=False):
        alike = tokens.mean(1, keepdim=True).expand_as(tokens)
        score = model.forward_head(model.norm(alike)).gather(1, CLASSES[:, None]).sum()
        growth.append(torch.autograd.grad(score, attention, retain_graph=True)[0].clamp_min(0).mean((1, 2)))
    expected_legrad = torch.stack(growth).mean(0)[:, layout.prefix :]
    torch.testing.assert_close(captured_legrad, expected_legrad, atol=1e-6, rtol=1e-4)
    for attention in maps:
        attention.grad = None
    logits.gather(1, CLASSES[:, None]).sum().backward()
    weighted = [(each.grad * each).clamp_min(0).mean(1) for each in maps]
    count = weighted[0].shape[-1]
    total, product = torch.eye(count).expand(2, -1, -1), torch.eye(count)
    for block in range(2):
        total = total + weighted[block] @ total
        product = (0.5 * maps[block].mean(1) + 0.5 * torch.eye(count)) @ product
    if layout.pools_by_attention:
        unread = count - weighted[2].shape[-1]  # prefix tokens that the pool leaves out
        first, start = (pad(each, (unread, 0)) for each in (weighted[2], maps[2].mean(1)))
    else:
        first = start = layout.pool(torch.eye(count)).expand(2, 1, count)
    torch.testing.assert_close(captured, (first @ total)[:, 0, layout.prefix :], atol=1e-6, rtol=1e-4)
    rollout = collect_batch(model, images, CLASSES, 1)[0]["rollout"]
    torch.testing.assert_close(rollout.float(), (start @ product)[:, 0, layout.prefix :].detach(), atol=1e-3, rtol=0)


def test_the_map_of_a_pooled_model_is_that_of_the_pool() -> None:
    model = small_timm("vit_base_patch16_siglip_224")
    images = images_of(model)
    with torch.no_grad(), capture_calls(model, lambda call: call.row(adapter.parts(model).layout)) as rows:
        model(images)
        keys = model.attn_pool.kv(model.norm(_last(model, images))).chunk(2, -1)[0].unflatten(-1, (3, 16))
        query = model.attn_pool.q(model.attn_pool.latent).unflatten(-1, (3, 16))
        expected = (torch.einsum("qmhd,bnhd->bhn", query, keys) / 4).softmax(-1)
        torch.testing.assert_close(rows()[-1], expected)
    fields, _ = collect_batch(model, images, CLASSES, 3)
    torch.testing.assert_close(fields["heads"].float(), expected, atol=1e-3, rtol=0)


def _last(model: Any, images: Tensor) -> Tensor:
    tokens = model.norm_pre(model._pos_embed(model.patch_embed(images)))
    return model.blocks(tokens)


def test_a_call_that_gives_something_else_than_its_attention_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_timm("test_vit")
    block = model.blocks[1].attn
    inner = block.forward

    def off(tokens: Tensor, **_: Any) -> Tensor:
        # A second call in one block: there are more calls than blocks.
        inner(tokens)
        return inner(tokens)

    monkeypatch.setattr(block, "forward", off)
    with pytest.raises(HarnessError, match="3 attention calls in one pass through a model with 2 attentions"):
        matrices_of(model, images_of(model))
    monkeypatch.undo()
    monkeypatch.setattr(block, "fused_attn", False)
    with pytest.raises(HarnessError, match="1 attention calls"):
        matrices_of(model, images_of(model))
    monkeypatch.undo()
    call_of = capture.call_of

    def other_values(
        checks: list[Tensor], output: Tensor, query: Tensor, key: Tensor, value: Tensor, **named: Any
    ) -> Any:
        return call_of(checks, output, query, key, value + 0.1, **named)

    monkeypatch.setattr(capture, "call_of", other_values)
    with pytest.raises(HarnessError, match="gives another output than the call"):
        matrices_of(model, images_of(model))
    with pytest.raises(HarnessError, match="gives another output than the call"):
        relevance(model, images_of(model), CLASSES)  # it computes matrices after the pass
    assert hooks_left(model) == 0


def test_registers_that_have_positions_are_not_a_class_token() -> None:
    parts = adapter.parts(small_timm("vit_medium_patch16_reg1_gap_256"))
    assert parts.positions is not None and not parts.layout.has_class_token
    first = adapter.VitParts(**(vars(parts) | {"positioned_prefix": 1})).class_position()
    assert first is not None and not first.any()


def test_a_file_of_timm_without_a_head_is_refused_for_that_alone(tmp_path: Path) -> None:
    name = "vit_small_patch14_reg4_dinov2"
    state = small_timm(name).state_dict()
    save_file({each: tensor for each, tensor in state.items() if "head" not in each}, tmp_path / "w.safetensors")
    with pytest.raises(HarnessError, match="has no classification head, so its predictions cannot be explained"):
        class_names(f"timm:{name}", str(tmp_path / "w.safetensors"))
    save_file(state, tmp_path / "w.safetensors")
    assert class_names(f"timm:{name}", str(tmp_path / "w.safetensors")) == tuple(f"class {index}" for index in range(5))


def test_registers_take_the_outliers_place() -> None:
    """Planted: in one model a patch, in the other a register carries features far larger than the rest."""
    for name, is_outlier in (("vit_small_patch14_dinov2", True), ("vit_small_patch14_reg4_dinov2", False)):
        model = small_timm(name)
        layout = adapter.parts(model).layout
        with torch.no_grad():
            if layout.prefix == 1:
                model.pos_embed[0, 1 + 5] *= 30
            else:
                model.reg_token[0, 2] *= 30
        with torch.no_grad(), capture_tokens(model) as tokens:
            model(images_of(model))
        marked = outliers(torch.stack([patch_norms(each, layout) for each in tokens()[:-1]], dim=1))
        assert marked.any() == is_outlier
        fields, _ = collect_batch(model, images_of(model), CLASSES, 1)
        assert (fields["outlier_attention"] > 0).any() == is_outlier
        assert fields["layers"].shape[-1] == 16
