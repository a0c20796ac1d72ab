"""Attention of models that call torch's scaled_dot_product_attention: read from the calls, each of which is checked.

The forward pass stays as it is: a call runs first, then its attention is computed again beside it.
Shapes: B images, H heads, M queries (N, or 1 where attention pools), N keys, d size of a head.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from harness.errors import HarnessError
from harness.explain.attention.passes import Passes
from harness.model.adapter import TokenLayout

T = TypeVar("T")

TOLERANCE = 1e-5  # largest error of an output, as a share of the largest value or of 1, that float32 explains
SAME_ORDER = 8  # roundings of the largest score, or of the output's precision, that a sound call may be off by


@dataclass(frozen=True, eq=False)
class SdpaCall:
    """One call: softmax(q k^T scale + mask) v. Queries and keys are what the model made them: normed, rotated."""

    query: Tensor  # (B, H, M, d)
    key: Tensor  # (B, H, N, d)
    value: Tensor  # (B, H, N, d)
    mask: Tensor | None  # added to the scores, or False where nothing is attended to
    scale: float
    output: Tensor  # (B, H, M, d), part of the graph of gradients
    checks: list[Tensor] = field(default_factory=list)  # errors of what was computed, as shares of what is allowed

    @property
    def shape(self) -> tuple[int, int]:
        """(B, N)."""
        return self.key.shape[0], self.key.shape[2]

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

    def check(self) -> None:
        """HarnessError if attention that was computed after the pass does not give the output of its call."""
        _require_exact(self.checks)

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
            largest = scores.where(scores.isfinite(), 0).abs().amax()
            rounding = torch.finfo(self.output.dtype if self.output.dtype.itemsize < 4 else torch.float32).eps
            allowed = (SAME_ORDER * rounding * largest.clamp_min(1)).clamp_min(TOLERANCE)
            self.checks.append(error / allowed)
            return attention

    def _masked(self, scores: Tensor, queries: slice) -> Tensor:
        if self.mask is None:
            return scores
        mask = self.mask if self.mask.shape[-2] == 1 else self.mask[..., queries, :]
        return scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask.to(scores.dtype)


def _require_exact(checks: list[Tensor]) -> None:
    """HarnessError unless every error is within what rounding explains."""
    if checks and not (worst := torch.stack(checks).amax()) <= 1:
        raise HarnessError(
            "Attention capture is not exact: the attention of a call gives another output than the call, off by "
            f"{float(worst):.2g} times what rounding explains."
        )


@contextlib.contextmanager
def intercepted(model: nn.Module, count: int, observe: Callable[[int, SdpaCall], T]) -> Iterator[Callable[[], list[T]]]:
    """Calls `observe(number, call)` in every forward pass, without gradients; yields a function of its latest results.

    A pass with another number of calls than `count`, and a call whose attention does not give its output, are errors.
    """
    checks: list[Tensor] = []

    def complete(observed: list[T]) -> None:
        if len(observed) != count:
            raise HarnessError(
                f"{len(observed)} attention calls in one pass through a model with {count} attentions: part of it was "
                "compiled or recomputed, or does not call scaled_dot_product_attention (TIMM_FUSED_ATTN=0 turns it "
                "off)."
            )
        _require_exact(checks)

    passes = Passes[T](complete)

    def see(call: SdpaCall) -> None:
        if passes.running:
            with torch.no_grad():
                passes.add(observe(passes.count, call))

    with passes.watching(model, begin=checks.clear), _Interceptor(see, checks):
        yield passes.latest


class _Interceptor(TorchFunctionMode):
    """Shows each call of scaled_dot_product_attention after it ran; all other functions run as they do."""

    def __init__(self, see: Callable[[SdpaCall], None], checks: list[Tensor]) -> None:
        super().__init__()
        self._see, self._checks = see, checks

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        if func is nn.functional.scaled_dot_product_attention:
            self._see(_call(self._checks, output, *args, **(kwargs or {})))
        return output


def _call(
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
) -> SdpaCall:
    """Arguments of scaled_dot_product_attention, as torch names them."""
    if dropout_p or is_causal:
        raise HarnessError("Attention with dropout or a causal mask cannot be captured: use the model in eval mode.")
    if enable_gqa:  # several heads share keys and values
        shared = query.shape[1] // key.shape[1]
        key, value = (each.repeat_interleave(shared, 1) for each in (key, value))
    mask = None if attn_mask is None else attn_mask.detach()
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    return SdpaCall(query.detach(), key.detach(), value.detach(), mask, scale, output, checks)
