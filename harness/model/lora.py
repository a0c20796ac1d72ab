"""Low-rank adaptation (Hu et al. 2021, arXiv 2106.09685): W + alpha / r B A, of which only A and B are trained.

Each weight is parametrised as a whole, so that a model computes with the merged weights from its first step: in
training, validation and explanation alike, and in nn.MultiheadAttention, which reads its packed weights without calling
a module that an adapter could stand in for. Shapes: W (out, in), A (r, in), B (out, r).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from harness.errors import ConfigError
from harness.model import adapter

# Parts of a parametrised weight in a state: "blocks.0.attn.qkv.parametrizations.weight.0.a".
_PART = re.compile(r"(?P<module>.+)\.parametrizations\.(?P<weight>\w+)\.(?P<part>original|0\.[ab]|0\.scale)")


class LowRank(nn.Module):
    """Adds a product of low rank to a weight; at first it is 0."""

    scale: Tensor

    def __init__(self, weight: Tensor, rank: int, alpha: float) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.empty(rank, weight.shape[1]))
        self.b = nn.Parameter(torch.zeros(weight.shape[0], rank))
        self.register_buffer("scale", torch.tensor(alpha / rank))
        nn.init.kaiming_uniform_(self.a, a=math.sqrt(5))  # as peft starts it

    def forward(self, weight: Tensor) -> Tensor:
        with torch.autocast(weight.device.type, enabled=False):
            return weight + self.scale * (self.b @ self.a)


def add_lora(model: nn.Module, rank: int, alpha: float, targets: str, seed: int) -> str:
    """Train adapters and the head alone; returns a sentence with the numbers of parameters.

    `targets`: attention adapts what makes queries, keys and values; all adapts every linear layer of the blocks.
    """
    weights = adapted_weights(model, targets)
    model.requires_grad_(False)
    adapter.parts(model).head.requires_grad_(True)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        for module, name in weights:
            low_rank = LowRank(getattr(module, name), rank, alpha)
            parametrize.register_parametrization(module, name, low_rank)
    trained, total = counts(model)
    return f"LoRA of rank {rank}: {trained:,} parameters are trained, of {total:,} ({trained / total:.2%})."


def adapted_weights(model: nn.Module, targets: str) -> list[tuple[nn.Module, str]]:
    """Modules of the blocks and the names of their weights that LoRA adapts; ConfigError if a block has none."""
    vit, weights = adapter.parts(model), []
    for number, block in enumerate(vit.blocks):
        of_block = _adapted(block, vit.attention(block), targets)
        if not of_block:
            raise ConfigError(
                f"--lora-targets {targets} matches nothing in block {number + 1}: "
                f"{_missing(block, vit.attention(block), targets)}"
            )
        weights += of_block
    return weights


def _missing(block: nn.Module, attention: nn.Module, targets: str) -> str:
    """What LoRA would have adapted, and what to do."""
    if targets == "all":
        return f"it ({type(block).__name__}) has no linear layer. Give --lora-rank 0."
    return (
        f"its attention ({type(attention).__name__}) has no linear layer qkv, q_proj, k_proj or v_proj. "
        "Give --lora-targets all, or --lora-rank 0."
    )


def counts(model: nn.Module) -> tuple[int, int]:
    """Parameters that are trained, and those of the model without adapters."""
    numbers = {name: parameter.numel() for name, parameter in model.named_parameters()}
    trained = sum(numbers[name] for name, parameter in model.named_parameters() if parameter.requires_grad)
    return trained, sum(number for name, number in numbers.items() if not name.endswith((".0.a", ".0.b")))


def _adapted(block: nn.Module, attention: nn.Module, targets: str) -> list[tuple[nn.Module, str]]:
    """Modules and the names of their weights."""
    names = ("qkv", "q_proj", "k_proj", "v_proj")
    modules = block.modules() if targets == "all" else (getattr(attention, name, None) for name in names)
    weights = [(module, "weight") for module in modules if isinstance(module, nn.Linear)]
    packed = [module for module in block.modules() if isinstance(module, nn.MultiheadAttention)]
    return [*weights, *((module, "in_proj_weight") for module in packed)]


def merge_lora(model: nn.Module) -> None:
    """Replace each adapted weight by what the model computes with; the names are then those of a plain model."""
    for module in list(model.modules()):
        if parametrize.is_parametrized(module):
            for name in list(module.parametrizations):  # type: ignore[arg-type]
                parametrize.remove_parametrizations(module, name, leave_parametrized=True)


def merged(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state with each adapted weight merged, under the names of a plain model; any other state as it is."""
    plain: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        if match := _PART.fullmatch(name):
            if match["part"] == "original":
                a, b, scale = (weights[f"{name.removesuffix('original')}0.{part}"] for part in ("a", "b", "scale"))
                plain[f"{match['module']}.{match['weight']}"] = tensor + scale * (b @ a)
        else:
            plain[name] = tensor
    return plain


def adapters(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A, B and scale of each adapted weight: `blocks.0.attn.qkv.weight.lora_A`; empty without LoRA."""
    parts = {"0.a": "lora_A", "0.b": "lora_B", "0.scale": "lora_scale"}
    return {
        f"{match['module']}.{match['weight']}.{parts[match['part']]}": tensor
        for name, tensor in weights.items()
        if (match := _PART.fullmatch(name)) and match["part"] in parts
    }
