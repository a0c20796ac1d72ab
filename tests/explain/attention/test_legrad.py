"""LeGrad against the published formula on an explicit softmax, differentiated by autograd."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import VisionTransformer

from harness.explain.attention.batch import collect_batch
from harness.explain.attention.relevance import relevance
from tests.helpers.tiny_vits import embedded, hooks_left, legrad, random_images, tiny_vit

CLASSES = torch.tensor([1, 4, 0, 1])


def by_the_formula(model: VisionTransformer, images: Tensor, classes: Tensor) -> Tensor:
    """(B, P), with full matrices in float64; each block starts from tokens that carry no gradient."""
    model = copy.deepcopy(model).double()
    stream, maps = embedded(model, images.double()).detach(), []
    for block in model.encoder.layers:
        module, x = block.self_attention, block.ln_1(stream)
        parts = nn.functional.linear(x, module.in_proj_weight, module.in_proj_bias)
        query, key, value = parts.unflatten(-1, (3, module.num_heads, -1)).permute(2, 0, 3, 1, 4)
        attention = (query @ key.transpose(2, 3) / math.sqrt(query.shape[-1])).softmax(-1).detach().requires_grad_()
        attended = stream + module.out_proj((attention @ value).transpose(1, 2).flatten(2))
        stream = attended + block.mlp(block.ln_2(attended))
        logits = model.heads(model.encoder.ln(stream.mean(1)))
        [gradient] = torch.autograd.grad(logits[torch.arange(len(images)), classes].sum(), attention)
        maps.append(gradient.clamp_min(0).mean((1, 2))[:, 1:])
        stream = stream.detach()
    return torch.stack(maps).mean(0)


@pytest.mark.parametrize(("image_size", "patch_size", "heads"), [(32, 8, 3), (28, 4, 2), (40, 10, 1)])
def test_maps_are_those_of_the_formula(image_size: int, patch_size: int, heads: int) -> None:
    model = tiny_vit(image_size=image_size, patch_size=patch_size, heads=heads, layers=2)
    images = random_images(4, image_size)
    expected = by_the_formula(model, images, CLASSES)
    maps = legrad(model, images, CLASSES)
    assert maps.shape == (4, (image_size // patch_size) ** 2)
    assert maps.dtype == torch.float32 and not maps.requires_grad
    torch.testing.assert_close(maps.double(), expected, rtol=1e-4, atol=1e-5 * float(expected.amax()))


def test_it_shares_a_pass_with_relevance_and_changes_nothing_of_it() -> None:
    model, images = tiny_vit(), random_images()
    predicted = model(images).argmax(1)
    fields, _ = collect_batch(model, images, CLASSES, 1)
    assert torch.equal(fields["legrad"], legrad(model, images, predicted))
    assert torch.equal(fields["relevance"], relevance(model, images, predicted))
    assert hooks_left(model) == 0
    assert all(parameter.grad is None for parameter in model.parameters())


def test_maps_are_of_the_class_asked_for() -> None:
    model, images = tiny_vit(), random_images()
    one, other = (legrad(model, images, torch.full((4,), label)) for label in (0, 1))
    assert (one - other).abs().max() > 0.1 * one.abs().max()
    with torch.no_grad():
        model.heads.head.weight[0] = 0  # this logit no longer depends on the image
    assert torch.equal(legrad(model, images, torch.zeros(4, dtype=torch.int64)), torch.zeros(4, 16))


def test_frozen_weights_and_inference_mode_make_no_difference() -> None:
    model, images = tiny_vit(), random_images()
    expected = legrad(model, images, CLASSES)
    model.requires_grad_(False)
    with torch.inference_mode():
        torch.testing.assert_close(legrad(model, random_images(), CLASSES.clone()), expected)
