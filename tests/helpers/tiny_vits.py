"""Vision Transformers small enough for many tests, with attention that differs between tokens, heads and images."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.models import VisionTransformer

from harness.explain.attention.call import AttentionCall
from harness.explain.attention.capture import capture_calls, capture_tokens
from harness.explain.attention.legrad import legrad_of_pass
from harness.explain.attention.relevance import differentiable, gradients_on
from harness.model import adapter
from harness.model.adapter import TokenLayout
from harness.model.packed_attention import pack_attention

CLASS_TOKEN = TokenLayout(prefix=1, has_class_token=True, pools_patches=False)


def tiny_vit(
    *, image_size: int = 32, patch_size: int = 8, layers: int = 3, heads: int = 3, seed: int = 0, packed: bool = True
) -> VisionTransformer:
    """In eval mode; hidden size 12 per head. As `build_model` makes it, or with torchvision's own attention."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = VisionTransformer(image_size, patch_size, layers, heads, 12 * heads, 48, num_classes=5)
        nn.init.normal_(model.class_token)
        nn.init.normal_(model.encoder.pos_embedding)
        nn.init.normal_(model.heads.head.weight)
        for block in model.encoder.layers:
            nn.init.normal_(block.self_attention.in_proj_weight, std=0.3)
            nn.init.normal_(block.self_attention.in_proj_bias)
    if packed:
        pack_attention(model)
    return model.eval()


def random_images(count: int = 4, image_size: int = 32) -> Tensor:
    return torch.randn(count, 3, image_size, image_size, generator=torch.Generator().manual_seed(5))


def embedded(model: VisionTransformer, images: Tensor) -> Tensor:
    """What enters the first block, (B, N, D)."""
    patches = model._process_input(images)
    return torch.cat([model.class_token.expand(len(images), -1, -1), patches], dim=1) + model.encoder.pos_embedding


def attention_by_torch(model: VisionTransformer, images: Tensor) -> Tensor:
    """Attention of all blocks (B, L, H, N, N) as MultiheadAttention itself returns it, block after block."""
    weights = []
    with torch.no_grad():
        stream = embedded(model, images)
        for block in model.encoder.layers:
            x = block.ln_1(stream)
            out, attention = block.self_attention(x, x, x, need_weights=True, average_attn_weights=False)
            stream = stream + out
            stream = stream + block.mlp(block.ln_2(stream))
            weights.append(attention)
    return torch.stack(weights, dim=1)


def hooks_left(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


def legrad(model: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
    """The map (B, P) of LeGrad for `classes` (B,)."""
    with gradients_on(model), capture_calls(model, same) as calls, capture_tokens(model) as tokens:
        model(differentiable(images))
        return legrad_of_pass(adapter.parts(model), calls(), tokens()[1:], classes)


def same(call: AttentionCall) -> AttentionCall:
    return call


def matrices_of(model: nn.Module, images: Tensor) -> list[Tensor]:
    """Captured attention of each block, (B, H, N, N) each."""
    with torch.no_grad(), capture_calls(model, lambda call: call.matrix()) as latest:
        model(images)
        return latest()
