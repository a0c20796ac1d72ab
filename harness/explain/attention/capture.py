"""Attention of every encoder block, computed beside the model's own forward pass, which stays as it is bit for bit.

Shapes: B images, L blocks, H heads, N tokens (T prefix tokens first, then the patches row by row),
D hidden size, d = D / H.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, pad

from harness.errors import HarnessError
from harness.explain.attention.passes import Passes, plain_model
from harness.explain.attention.sdpa import SdpaCall, intercepted
from harness.model import adapter
from harness.model.adapter import TokenLayout

T = TypeVar("T")


def class_row(attention: nn.MultiheadAttention, tokens: Tensor) -> Tensor:
    """How much the class token attends to each token (B, H, N), from what enters the attention (B, N, D).

    softmax_j (W_q x_0 + b_q)·(W_k x_j + b_k) / √d without forming keys: the query's product with b_k is the same for
    all j and cancels, and the rest is (W_kᵀ q)·x_j. In float32, whatever the precision of the model.
    """
    with torch.autocast(tokens.device.type, enabled=False):
        x, weight, bias = tokens.float(), attention.in_proj_weight.float(), attention.in_proj_bias
        size, heads = attention.embed_dim, attention.num_heads
        query = linear(x[:, 0], weight[:size], None if bias is None else bias[:size].float()).unflatten(-1, (heads, -1))
        keys = weight[size : 2 * size].unflatten(0, (heads, -1))  # (H, d, D)
        folded = torch.einsum("bhd,hde->bhe", query, keys) / math.sqrt(size // heads)
        return (folded @ x.transpose(1, 2)).softmax(-1)


def attention_matrix(attention: nn.MultiheadAttention, tokens: Tensor) -> Tensor:
    """How much each token (third axis) attends to each token (fourth): (B, H, N, N) in float32, from (B, N, D)."""
    with torch.autocast(tokens.device.type, enabled=False):
        weight, bias = attention.in_proj_weight, attention.in_proj_bias
        size, heads = attention.embed_dim, attention.num_heads
        both = linear(tokens.float(), weight[: 2 * size].float(), None if bias is None else bias[: 2 * size].float())
        query, key = both.unflatten(-1, (2, heads, -1)).permute(2, 0, 3, 1, 4)  # (2, B, H, N, d)
        return (query / math.sqrt(size // heads) @ key.transpose(2, 3)).softmax(-1)


def attention_gradient(attention: nn.MultiheadAttention, tokens: Tensor, gradient: Tensor) -> Tensor:
    """Gradient with respect to the attention (B, H, N, N), from the one with respect to the output (B, N, D).

    Head h gives A_h V_h to the columns W_h of the output projection, so ∇A_h = (∇out W_h) V_hᵀ; in float32.
    """
    size, heads = attention.embed_dim, attention.num_heads
    bias = attention.in_proj_bias
    weight = attention.in_proj_weight[2 * size :].float()
    values = linear(tokens.float(), weight, None if bias is None else bias[2 * size :].float())
    per_head = gradient.float() @ attention.out_proj.weight.float()
    values, per_head = (each.unflatten(-1, (heads, -1)).transpose(1, 2) for each in (values, per_head))  # (B, H, N, d)
    return per_head @ values.transpose(2, 3)


def pooled_row(attention: nn.MultiheadAttention, tokens: Tensor, layout: TokenLayout) -> Tensor:
    """How much the tokens that the head reads attend to each token (B, H, N): the class token's row, or a mean."""
    if not layout.pools_patches:
        return class_row(attention, tokens)
    return layout.pool(attention_matrix(attention, tokens))[..., 0, :]


@dataclass(frozen=True, eq=False)
class ModuleCall:
    """One call of a block's nn.MultiheadAttention, as `SdpaCall`."""

    attention: nn.MultiheadAttention
    tokens: Tensor  # (B, N, D)
    output: Any  # (B, N, D), part of the graph of gradients; None before the module has run

    @property
    def shape(self) -> tuple[int, int]:
        """(B, N)."""
        return self.tokens.shape[0], self.tokens.shape[1]

    def matrix(self) -> Tensor:
        return attention_matrix(self.attention, self.tokens)

    def row(self, layout: TokenLayout) -> Tensor:
        return pooled_row(self.attention, self.tokens, layout)

    def check(self) -> None:
        """Nothing to do: the attention is computed from the module's weights alone."""

    def gradient(self, of_output: Tensor) -> Tensor:
        return attention_gradient(self.attention, self.tokens, of_output)


AttentionCall: TypeAlias = ModuleCall | SdpaCall


@contextlib.contextmanager
def capture_calls(
    model: nn.Module, observe: Callable[[int, AttentionCall], T], *, after: bool = False
) -> Iterator[Callable[[], list[T]]]:
    """Calls `observe(number, call)` for the attention of each block, then for that which pools, if there is one.

    Yields a function of the results of the latest forward pass. A ModuleCall has its output only with `after`.
    """
    transformer = plain_model(model)
    parts = adapter.parts(transformer)
    if parts.calls_sdpa:
        count = len(parts.blocks) + parts.layout.pools_by_attention
        with intercepted(transformer, count, observe) as latest:
            yield latest
        return
    modules = attentions(transformer)
    numbers = {module: number for number, module in enumerate(modules)}

    def observe_module(module: Any, tokens: Tensor, output: Any) -> T:
        call = ModuleCall(module, tokens.detach(), output[0] if output else None)
        return observe(numbers[module], call)

    with observed(transformer, modules, observe_module, after=after) as latest:
        yield latest


@contextlib.contextmanager
def capture_layer_rows(model: nn.Module) -> Iterator[Callable[[], list[Tensor]]]:
    """Yields a function that gives the rows (B, H, N) of each block in the model's latest forward pass.

    Where attention pools the tokens, its own rows follow; tokens that it does not read have none of its attention.
    """
    layout = adapter.parts(plain_model(model)).layout
    with capture_calls(model, lambda _, call: call.row(layout)) as latest:

        def rows() -> list[Tensor]:
            by_layer = latest()
            if not layout.pools_by_attention:
                return by_layer
            *blocks, pool = by_layer
            return [*blocks, pad(pool, (blocks[-1].shape[-1] - pool.shape[-1], 0))]

        yield rows


@contextlib.contextmanager
def capture_rows(model: nn.Module) -> Iterator[Callable[[], Tensor]]:
    """Yields a function that gives the rows of all blocks in the model's latest forward pass, (B, L, H, N)."""
    count = len(adapter.parts(plain_model(model)).blocks)
    with capture_layer_rows(model) as latest:
        yield lambda: torch.stack(latest()[:count], dim=1)


@contextlib.contextmanager
def capture_matrices(model: nn.Module, reduce: Callable[[Tensor], T]) -> Iterator[Callable[[], list[T]]]:
    """Yields a function that gives what `reduce` made of each block's (B, H, N, N) in the latest forward pass.

    One block's matrices exist at a time; `reduce` decides what stays.
    """
    count = len(adapter.parts(plain_model(model)).blocks)

    def observe(number: int, call: AttentionCall) -> Any:
        return reduce(call.matrix()) if number < count else None

    with capture_calls(model, observe) as latest:
        yield lambda: latest()[:count]


@contextlib.contextmanager
def capture_tokens(model: nn.Module, reduce: Callable[[Tensor], T]) -> Iterator[Callable[[], list[T]]]:
    """The same of the residual stream (B, N, D) in float32: what enters each block, then what leaves the last."""
    parts = adapter.parts(plain_model(model))
    with observed(model, [*parts.blocks, parts.final_norm], lambda _, tokens, __: reduce(tokens.float())) as latest:
        yield latest


@contextlib.contextmanager
def observed(
    model: nn.Module, modules: Sequence[nn.Module], observe: Callable[[Any, Tensor, Any], T], *, after: bool = False
) -> Iterator[Callable[[], list[T]]]:
    """Calls `observe(module, input, output)` in every forward pass, without gradients; yields the latest results.

    Before each module runs (its output is None then), or after it. Results are in the order of `modules` and those of
    the latest pass alone, so a pass that failed half way leaves nothing behind. Hooks are gone at the end, whatever
    happened; a pass or a whole block of code in which they did not all fire once is an error, never a silent gap.
    """
    transformer = plain_model(model)

    def complete(fired: list[tuple[int, T]]) -> None:
        if sorted(index for index, _ in fired) != list(range(len(modules))):
            raise HarnessError(
                f"{len(fired)} of {len(modules)} hooks fired in one pass through the model: part of it was compiled, "
                "recomputed or replaced while attention was captured. Capture from the plain model in eval mode."
            )

    passes = Passes[tuple[int, T]](complete)

    def hook(index: int) -> Callable[..., None]:
        def fire(module: nn.Module, inputs: tuple[Tensor, ...], output: Any = None) -> None:
            with torch.no_grad():
                passes.add((index, observe(module, inputs[0], output)))

        return fire

    def latest() -> list[T]:
        by_index = dict(passes.latest())
        return [by_index[index] for index in range(len(modules))]

    handles = []
    try:
        with passes.watching(transformer):
            for index, module in enumerate(modules):
                register = module.register_forward_hook if after else module.register_forward_pre_hook
                handles.append(register(hook(index)))
            yield latest
    finally:
        for handle in handles:
            handle.remove()


def attentions(model: nn.Module) -> list[nn.MultiheadAttention]:
    """The attention modules of all blocks, in order; refuses those that do not compute what is recomputed here."""
    modules = adapter.parts(plain_model(model)).attentions
    problems = [
        f"Block {index}: its attention ({type(module).__name__}) is not the one torchvision builds. "
        "Merge adapters into the weights before capturing attention."
        for index, module in enumerate(modules)
        if not _is_plain(module)
    ]
    if problems:
        raise HarnessError(problems)
    return [module for module in modules if isinstance(module, nn.MultiheadAttention)]


def _is_plain(module: nn.Module) -> bool:
    """Whether a module is self-attention that `attention_matrix` computes: one projection, no added tokens."""
    return (
        isinstance(module, nn.MultiheadAttention)
        and module._qkv_same_embed_dim
        and module.bias_k is None
        and not module.add_zero_attn
    )
