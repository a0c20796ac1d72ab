"""Statistics of each head of each block over many images: attention distance, entropy, share on the class token.

Shapes: B images, L blocks, H heads, N tokens (T prefix tokens first), P = N - T patches, S statistics.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from harness.model.adapter import TokenLayout

# The last axis of `head_statistics`, in this order.
STATISTICS = ("distance", "entropy", "class_entropy", "patches_on_class", "class_on_class")


def patch_distances(grid: tuple[int, int], patch_size: int, device: torch.device | None = None) -> Tensor:
    """Distances (P, P) in pixels between the centres of the patches of a grid (rows, columns), row by row."""
    rows, columns = (torch.arange(side, device=device, dtype=torch.float32) for side in grid)
    centres = patch_size * torch.cartesian_prod(rows, columns)
    return (centres[:, None] - centres[None]).norm(dim=-1)


def entropy(attention: Tensor) -> Tensor:
    """-Σ a ln a over the last axis, in nats: 0 if all attention is on one token, ln N if it is spread evenly."""
    # Twice as fast on a CPU as torch.special.entr; 0 · ln(smallest) is the 0 that 0 · ln 0 stands for.
    logarithm = attention.clamp_min(torch.finfo(attention.dtype).tiny).log_()
    return logarithm.mul_(attention).sum(-1).neg_()


def head_statistics(attention: Tensor, distances: Tensor, layout: TokenLayout) -> Tensor:
    """STATISTICS of every image and head (B, H, S) from one block's attention (B, H, N, N); distances (P, P).

    - distance: mean over patches i of Σ_j ã_ij ‖r_i - r_j‖ in pixels, ã the attention among patches, each row divided
      by its sum (mean attention distance, Dosovitskiy et al. 2021, arXiv 2010.11929, figure 7 right)
    - entropy, class_entropy: of a row over all N tokens; mean over all N rows, and of the rows that the head reads
    - patches_on_class: mean attention of the patches on the class token, which `distance` leaves out
    - class_on_class: attention of the class token on itself; this and the one before are NaN without a class token
    """
    first = layout.prefix
    between = attention[..., first:, first:]
    total = between.sum(-1).clamp_min(torch.finfo(attention.dtype).tiny)
    distance = (between * distances).sum(-1) / total
    entropies = entropy(attention)
    on_class = attention[..., 0] if layout.has_class_token else torch.full_like(attention[..., 0], torch.nan)
    values = (
        distance.mean(-1),
        entropies.mean(-1),
        layout.pool(entropies[..., None])[..., 0, 0],
        on_class[..., first:].mean(-1),
        on_class[..., 0],
    )
    return torch.stack(values, dim=-1)


def pool_statistics(rows: Tensor) -> Tensor:
    """The same of attention that pools, (B, H, N) -> (B, H, S): its query has no place, so all but entropy is NaN."""
    of_rows, unknown = entropy(rows), torch.full_like(rows[..., 0], torch.nan)
    values = {"entropy": of_rows, "class_entropy": of_rows}
    return torch.stack([values.get(name, unknown) for name in STATISTICS], dim=-1)


@dataclass(frozen=True)
class RunningMean:
    """A mean over images that is not divided yet: adds up over batches and over processes."""

    count: int
    total: Tensor  # float64, on the device the values were on

    @classmethod
    def of(cls, values: Tensor) -> RunningMean:
        """Of one batch of values, images along the first axis."""
        return cls(len(values), values.double().sum(0))

    def __add__(self, other: RunningMean) -> RunningMean:
        return RunningMean(self.count + other.count, self.total + other.total)

    def to(self, device: torch.device | str) -> RunningMean:
        return RunningMean(self.count, self.total.to(device))

    def mean(self) -> Tensor:
        """Counts summed, divided once."""
        return self.total / self.count
