"""What training did to a model's position embedding: from two models to numbers, a verdict and its rule."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from harness.explain.positions import measures, verdict
from harness.explain.positions.measures import Positions
from harness.model import adapter
from harness.runs.attention_files import PositionArchive
from harness.runs.embeddings import typical_length

SMALLEST = 1e-300

RULE = (
    "none to keep: before, neither locality nor decoding is above its range by chance. "
    f"lost: after, neither is above that range and above {verdict.HARDLY_ANY:.0%} of what it was, or strength is "
    f"below {verdict.DROWNED:.0%}. retained: both are at least {verdict.CLEARLY_LESS:.0%} of what they were, "
    f"|change| / |before| is below {verdict.LARGE_CHANGE:g} and strength at least {verdict.WEAK:.0%}. "
    "altered: anything else. Strength: length of the embedding beside that of what the images put in, after divided "
    "by before. Ranges by chance are those of shuffled embeddings."
)


@dataclasses.dataclass(frozen=True)
class Embedding:
    """What a model adds to its patches, and the projection that makes them of images."""

    position: Tensor  # (1, 1 + P, D); the first is P_0, the class token's, 0 if it has none
    class_token: Tensor  # (1, 1, D); 0 if the model has none
    projection: Tensor  # (D, 3, p, p)

    @classmethod
    def of(cls, model: nn.Module) -> Embedding | None:
        """Copies on the CPU; None if the model has no learned position embedding. Those of registers are left out."""
        parts = adapter.parts(model)
        first, patches = parts.class_position(), parts.patch_positions()
        if first is None or patches is None:
            return None
        token = torch.zeros_like(first) if parts.class_token is None else parts.class_token
        tensors = (torch.cat([first, patches], dim=1), token, parts.patch_projection.weight)
        return cls(*(tensor.detach().clone().cpu() for tensor in tensors))


@dataclasses.dataclass(frozen=True)
class Change:
    """A model's position embedding and what it stands beside, before and after training."""

    before: Embedding
    after: Embedding
    content_lengths: tuple[float, ...]  # before and after, of the same images


def content_length(images: Tensor, weight: Tensor) -> Tensor:
    """Root mean square length of what patches put into the sum with their position: the projection without its bias.

    Images (B, 3, g p, g p), normalised; `weight` of the patch projection (D, 3, p, p).
    """
    with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
        content = nn.functional.conv2d(images.float(), weight.float(), stride=weight.shape[-1])
        return content.square().sum(1).mean().sqrt()


def compare(change: Change) -> PositionArchive:
    """What training did to the position embedding, in numbers."""
    start, end = (Positions.of(each.position, each.class_token) for each in (change.before, change.after))
    at_start, at_end = measures.measure(start), measures.measure(end)
    moved = measures.measure_change(start.patches, end.patches)
    first, last = (
        typical_length(each.patches) / max(length, SMALLEST)
        for each, length in zip((start, end), change.content_lengths, strict=True)
    )
    strength = last / max(first, SMALLEST)
    found = verdict.verdict(at_start, at_end, moved, strength)
    return PositionArchive(
        before=change.before.position[0].numpy(),
        after=change.after.position[0].numpy(),
        class_token_before=change.before.class_token[0, 0].numpy(),
        class_token_after=change.after.class_token[0, 0].numpy(),
        numbers={
            "before": dataclasses.asdict(at_start),
            "after": dataclasses.asdict(at_end),
            "change": dataclasses.asdict(moved),
            "strength": strength,
            "verdict": found.word,
            "verdict_structure": found.structure,
            "verdict_strength": found.strength,
            "decided_by": found.decided_by,
            "rule": RULE,
        },
    )
