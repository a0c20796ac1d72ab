"""Gradient-weighted attention against the published formula on an explicit softmax, differentiated by autograd."""

from __future__ import annotations

import copy
import math
from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.models import VisionTransformer

from harness.explain.attention.call import AttentionCall
from harness.explain.attention.capture import capture_calls
from harness.explain.attention.relevance import differentiable, gradients_on, relevance, relevance_of_pass
from tests.helpers.tiny_vits import CLASS_TOKEN, embedded, hooks_left, random_images, same, tiny_vit

CLASSES = torch.tensor([1, 4, 0, 1])


def by_the_formula(
    model: VisionTransformer, images: Tensor, classes: Tensor, *, order: list[int] | None = None
) -> Tensor:
    """(B, P), with full matrices in float64; `order` says which block's gradient each block's attention gets."""
    model, matrices = copy.deepcopy(model).double(), []
    stream = embedded(model, images.double())
    for block in model.encoder.layers:
        module, x = block.self_attention, block.ln_1(stream)
        parts = nn.functional.linear(x, module.in_proj_weight, module.in_proj_bias)
        query, key, value = parts.unflatten(-1, (3, module.num_heads, -1)).permute(2, 0, 3, 1, 4)
        attention = (query @ key.transpose(2, 3) / math.sqrt(query.shape[-1])).softmax(-1)
        attention.retain_grad()
        matrices.append(attention)
        stream = stream + module.out_proj((attention @ value).transpose(1, 2).flatten(2))
        stream = stream + block.mlp(block.ln_2(stream))
    logits = model.heads(model.encoder.ln(stream)[:, 0])
    logits[torch.arange(len(images)), classes].sum().backward()
    gradients = [attention.grad for attention in matrices]
    product = torch.eye(matrices[0].shape[-1], dtype=torch.float64)
    for layer, attention in enumerate(matrices):
        gradient = gradients[order[layer] if order else layer]
        product = product + (gradient * attention.detach()).clamp_min(0).mean(1) @ product
    return product[:, 0, 1:]


def test_the_gradient_of_attention_is_that_worked_out_by_hand() -> None:
    # Two tokens, one head of size 2: the output of token i is a_i1 (1, 2) + a_i2 (3, 4).
    values, of_output = torch.tensor([[[[1.0, 2], [3, 4]]]]), torch.tensor([[[[2.0, 0], [0, 10]]]])
    call = AttentionCall(values, values, values, None, 1.0, values)
    assert torch.equal(call.gradient(of_output), torch.tensor([[[[2.0, 6], [20, 40]]]]))


@pytest.mark.parametrize(("image_size", "patch_size", "heads"), [(32, 8, 3), (28, 4, 2), (40, 10, 1)])
def test_maps_are_those_of_the_formula(image_size: int, patch_size: int, heads: int) -> None:
    model, images = tiny_vit(image_size=image_size, patch_size=patch_size, heads=heads), random_images(4, image_size)
    expected = by_the_formula(model, images, CLASSES)
    maps = relevance(model, images, CLASSES)
    assert maps.shape == (4, (image_size // patch_size) ** 2)
    assert maps.dtype == torch.float32 and not maps.requires_grad
    torch.testing.assert_close(maps.double(), expected, rtol=1e-4, atol=1e-5 * float(expected.amax()))


def test_gradients_belong_to_their_own_blocks() -> None:
    # Gradients arrive from the last block to the first; pairing them with attention in that order is a known mistake.
    model, images = tiny_vit(), random_images()
    right, wrong = (by_the_formula(model, images, CLASSES, order=order) for order in ([0, 1, 2], [2, 1, 0]))
    size = right.abs().mean()
    assert (right - wrong).abs().mean() > 0.2 * size
    assert (relevance(model, images, CLASSES) - right).abs().mean() < 1e-4 * size


def test_each_block_gets_its_own_gradient() -> None:
    model, images = tiny_vit(layers=2), random_images()
    swapped = copy.deepcopy(model)
    swapped.encoder.layers[0], swapped.encoder.layers[1] = model.encoder.layers[1], model.encoder.layers[0]
    torch.testing.assert_close(
        relevance(swapped, images, CLASSES).double(), by_the_formula(swapped, images, CLASSES), rtol=1e-4, atol=1e-5
    )
    assert (relevance(swapped, images, CLASSES) - relevance(model, images, CLASSES)).abs().max() > 0.01


def test_a_batch_gives_what_its_images_give_alone() -> None:
    model, images = tiny_vit(), random_images()
    single = [relevance(model, image[None], label[None]) for image, label in zip(images, CLASSES, strict=True)]
    torch.testing.assert_close(relevance(model, images, CLASSES), torch.cat(single), rtol=1e-4, atol=1e-6)


def test_maps_are_of_the_class_asked_for() -> None:
    model, images = tiny_vit(), random_images()
    one, other = (relevance(model, images, torch.full((4,), label)) for label in (0, 1))
    assert (one - other).abs().max() > 0.1 * one.abs().max()
    with torch.no_grad():
        model.heads.head.weight[0] = 0  # this logit no longer depends on the image
    assert torch.equal(relevance(model, images, torch.zeros(4, dtype=torch.int64)), torch.zeros(4, 16))


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad, torch.enable_grad])
def test_relevance_works_in_every_gradient_mode_and_leaves_no_gradients_or_hooks(mode: Any) -> None:
    model, images = tiny_vit(), random_images()
    expected = relevance(model, images, CLASSES)
    with mode():
        assert torch.equal(relevance(model, random_images(), CLASSES.clone()), expected)
    model.requires_grad_(False)
    torch.testing.assert_close(relevance(model, images, CLASSES), expected)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not images.requires_grad and hooks_left(model) == 0


class Operations(TorchDispatchMode):
    """Counts what is computed, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.counts[str(function)] += 1
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("layers", [1, 3])
def test_only_the_needed_gradients_are_computed(layers: int) -> None:
    model, images = tiny_vit(layers=layers), random_images()
    with gradients_on(model), capture_calls(model, same) as calls:
        logits = model(differentiable(images))
        with Operations() as watched:
            relevance_of_pass(calls(), logits, CLASSES, CLASS_TOKEN)
    counts = watched.counts
    # One backward pass for all blocks. Each has three linear layers after its heads; the one before them, and the
    # attention itself, are passed by all blocks but the first. A gradient of a weight would be another product.
    products = counts["aten.mm.default"] + counts["aten.addmm.default"]
    assert products == 3 * layers + (layers - 1) + 1  # with that of the head
    assert counts["aten.native_layer_norm_backward.default"] == 2 * layers
    assert counts["aten.gelu_backward.default"] == layers
    assert sum(count for name, count in counts.items() if "attention" in name and "backward" in name) == layers - 1
    assert not [name for name in counts if "convolution" in name]


def test_low_precision_and_autocast() -> None:
    model, images = tiny_vit(), random_images()
    expected = relevance(model, images, CLASSES)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(relevance(model, images, CLASSES), expected)
    rough = relevance(model.bfloat16(), images.bfloat16(), CLASSES)
    assert rough.dtype == torch.float32
    assert (rough - expected).abs().mean() < 0.1 * expected.abs().mean()
