"""A second family of Vision Transformers, with other names, registers and mean pooling: no code may assume the first.

Shapes: B images, L blocks, H heads, N = 3 + P tokens (class token, two registers, P patches), D hidden size.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from harness.model import adapter
from harness.model.adapter import TokenLayout, VitParts
from harness.model.packed_attention import PackedAttention

REGISTERS = 2
PREFIX = 1 + REGISTERS
CLASSES = 5


class Layer(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention_norm, self.mixer = nn.LayerNorm(width), PackedAttention(width, heads, batch_first=True)
        self.mixer_end, self.dense_end = nn.Sequential(), nn.Sequential()
        self.dense_norm = nn.LayerNorm(width)
        self.dense = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.attention_norm(tokens)
        tokens = tokens + self.mixer_end(self.mixer(x, x, x, need_weights=False)[0])
        return tokens + self.dense_end(self.dense(self.dense_norm(tokens)))


class RegisterVit(nn.Module):
    """Positions belong to the class token and the patches; registers come between them afterwards, as in DINOv2."""

    def __init__(
        self,
        *,
        side: int = 32,
        patch: int = 8,
        layers: int = 3,
        heads: int = 3,
        classes: int = CLASSES,
        pools_patches: bool = True,
        has_places: bool = True,
    ) -> None:
        super().__init__()
        width, grid = 12 * heads, side // patch
        self.side, self.pools_patches = side, pools_patches
        self.patchify = nn.Conv2d(3, width, patch, patch)
        self.summary, self.registers = nn.Parameter(torch.zeros(1, 1, width)), nn.Parameter(torch.zeros(1, 2, width))
        self.places = nn.Parameter(torch.zeros(1, 1 + grid**2, width)) if has_places else None
        self.trunk = nn.Sequential(*(Layer(width, heads) for _ in range(layers)))
        self.last_norm, self.classifier = nn.LayerNorm(width), nn.Linear(width, classes)

    def embed(self, images: Tensor) -> Tensor:
        """What enters the first block, (B, N, D)."""
        patches = self.patchify(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.summary.expand(len(images), -1, -1), patches], dim=1)
        if self.places is not None:
            tokens = tokens + self.places
        return torch.cat([tokens[:, :1], self.registers.expand(len(images), -1, -1), tokens[:, 1:]], dim=1)

    def features(self, tokens: Tensor) -> Tensor:
        normed = self.last_norm(tokens)
        return normed[:, PREFIX:].mean(1) if self.pools_patches else normed[:, 0]

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.features(self.trunk(self.embed(images))))


def register_parts(model: RegisterVit) -> VitParts:
    """All that the harness has to know about RegisterVit."""

    def extend_branches(block: Any, module: type[nn.Module]) -> None:
        block.mixer_end.append(module())
        block.dense_end.append(module())

    def depth(name: str) -> int:
        if block := re.match(r"trunk\.(\d+)\.", name):
            return int(block[1]) + 1
        if name.startswith(("patchify.", "summary", "registers", "places")):
            return 0
        if name.startswith(("last_norm.", "classifier.")):
            return len(model.trunk) + 1
        raise ValueError(f"{name} is not a parameter of a RegisterVit")

    return VitParts(
        layout=TokenLayout(prefix=PREFIX, has_class_token=True, pools_patches=model.pools_patches),
        image_size=model.side,
        patch_projection=model.patchify,
        class_token=model.summary,
        positions=model.places,
        positioned_prefix=1,
        block_list=(model, "trunk"),
        embed=model.embed,
        attention=lambda block: block.mixer,
        extend_branches=extend_branches,
        final_norm=model.last_norm,
        head=model.classifier,
        head_name="classifier",
        positions_name="places" if model.places is not None else None,
        undecayed=frozenset({"summary", "registers", "places"}),
        depth=depth,
    )


def register_vit(seed: int = 0, **options: Any) -> RegisterVit:
    """In eval mode, with attention that differs between tokens, heads and images."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = RegisterVit(**options)
        for parameter in (model.summary, model.registers, model.places, model.classifier.weight):
            if parameter is not None:
                nn.init.normal_(parameter)
        for block in model.trunk:
            nn.init.normal_(block.mixer.in_proj_weight, std=0.3)
            nn.init.normal_(block.mixer.in_proj_bias)
    return model.eval()


def make_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a line in FAMILIES would; undone after the test."""
    monkeypatch.setitem(adapter.FAMILIES, RegisterVit, register_parts)


class ByHand(NamedTuple):
    """One forward pass, computed from the weights alone."""

    maps: list[Tensor]  # attention of each block (B, H, N, N); they keep their gradients
    streams: list[Tensor]  # what enters each block, then what leaves the last (B, N, D)
    features: Tensor  # (B, D)
    logits: Tensor  # (B, 5)


def by_hand(model: RegisterVit, images: Tensor) -> ByHand:
    streams, maps = [model.embed(images)], []
    for block in model.trunk:
        x, mixer = block.attention_norm(streams[-1]), block.mixer
        heads = mixer.num_heads
        parts = zip(mixer.in_proj_weight.chunk(3), mixer.in_proj_bias.chunk(3), strict=True)
        query, key, value = ((x @ weight.T + bias).unflatten(-1, (heads, -1)).transpose(1, 2) for weight, bias in parts)
        attention = (query @ key.transpose(2, 3) / query.shape[-1] ** 0.5).softmax(-1)
        attention.retain_grad()
        maps.append(attention)
        stream = streams[-1] + mixer.out_proj((attention @ value).transpose(1, 2).flatten(2))
        streams.append(stream + block.dense(block.dense_norm(stream)))
    features = model.features(streams[-1])
    return ByHand(maps, streams, features, model.classifier(features))
