"""One call of scaled_dot_product_attention by a model: the attention behind its output, computed again from its inputs.

Shapes: B images, H heads, M queries (N, or 1 where attention pools), N keys, d size of a head.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from harness.errors import HarnessError
from harness.model.adapter import TokenLayout

TOLERANCE = 1e-5  # largest error of an output, as a share of the largest value or of 1, that float32 explains
SAME_ORDER = 8  # roundings of the largest score, or of the output's precision, that a sound call may be off by


@dataclass(frozen=True, eq=False)
class AttentionCall:
    """softmax(q k^T scale + mask) v. Queries and keys are what the model made them: normed, rotated."""

    query: Tensor  # (B, H, M, d)
    key: Tensor  # (B, H, N, d)
    value: Tensor  # (B, H, N, d)
    mask: Tensor | None  # added to the scores, or False where nothing is attended to
    scale: float
    output: Tensor  # (B, H, M, d), part of the graph of gradients
    # Errors of what was computed, as shares of what is allowed; one list for all calls of a pass.
    checks: list[Tensor] = field(default_factory=list)

    def matrix(self) -> Tensor:
        """How much each query attends to each key, (B, H, M, N) in float32."""
        return self._attention(slice(None))

    def row(self, layout: TokenLayout) -> Tensor:
        """How much what the head reads attends to each key, (B, H, N)."""
        if layout.pools_patches:
            return (self.matrix() if self.query.shape[2] == 1 else layout.pool(self.matrix()))[..., 0, :]
        return layout.pool(self._attention(slice(0, layout.read)))[..., 0, :]

    def gradient(self, of_output: Tensor) -> Tensor:
        """Gradient with respect to the attention, (B, H, M, N), from the one with respect to the output."""
        return of_output.float() @ self.value.float().transpose(2, 3)

    def exact(self, dtype: torch.dtype = torch.float64) -> Tensor:
        """The matrix in another precision; scores are scaled after the product, unlike in `matrix`."""
        with torch.autocast(self.query.device.type, enabled=False):
            scores = self.query.to(dtype) @ self.key.to(dtype).transpose(2, 3) * self.scale
            return self._masked(scores, slice(None)).softmax(-1)

    def _attention(self, queries: slice) -> Tensor:
        with torch.autocast(self.query.device.type, enabled=False):
            query = self.query[:, :, queries].float() * self.scale
            scores = self._masked(query @ self.key.float().transpose(2, 3), queries)
            attention = scores.softmax(-1)
            value, output = self.value.float(), self.output[:, :, queries].detach().float()
            error = (attention @ value - output).abs().amax() / value.abs().amax().clamp_min(1)
            largest = torch.stack(scores.where(scores.isfinite(), 0).aminmax()).abs().amax()
            rounding = torch.finfo(self.output.dtype if self.output.dtype.itemsize < 4 else torch.float32).eps
            allowed = (SAME_ORDER * rounding * largest.clamp_min(1)).clamp_min(TOLERANCE)
            self.checks.append(error / allowed)
            return attention

    def _masked(self, scores: Tensor, queries: slice) -> Tensor:
        if self.mask is None:
            return scores
        mask = self.mask if self.mask.shape[-2] == 1 else self.mask[..., queries, :]
        return scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask.to(scores.dtype)


def require_exact(checks: list[Tensor]) -> None:
    """HarnessError unless every error in `AttentionCall.checks` is within what rounding explains."""
    if not checks:
        return
    worst = torch.stack(checks).amax()
    if worst.isnan():
        raise HarnessError("Attention is not finite: the model's weights or its queries and keys are too large.")
    if worst > 1:
        raise HarnessError(
            "Attention capture is not exact: the attention of a call gives another output than the call, off by "
            f"{float(worst):.2g} times what rounding explains."
        )


def call_of(
    checks: list[Tensor],
    output: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> AttentionCall:
    """From the output and the arguments of scaled_dot_product_attention, as torch names them."""
    if dropout_p or is_causal:
        raise HarnessError("Attention with dropout or a causal mask cannot be captured: use the model in eval mode.")
    if enable_gqa:  # several heads share keys and values
        shared = query.shape[1] // key.shape[1]
        key, value = (each.repeat_interleave(shared, 1) for each in (key, value))
    mask = None if attn_mask is None else attn_mask.detach()
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    return AttentionCall(query.detach(), key.detach(), value.detach(), mask, scale, output, checks)
