"""Attention of every encoder block, computed beside the model's own forward pass, which stays as it is bit for bit.

Shapes: B images, L blocks, H heads, N tokens (T prefix tokens first, then the patches row by row),
D hidden size, d = D / H.
"""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import torch
from accelerate.utils import is_compiled_module
from torch import Tensor, nn
from torch.nn.functional import linear
from torch.nn.parallel import DistributedDataParallel

from harness.errors import HarnessError
from harness.model import adapter
from harness.model.adapter import TokenLayout

T = TypeVar("T")

TOLERANCE = 1e-5  # largest difference from MultiheadAttention's own weights that float32 explains in a sound model
SAME_ORDER = 4  # between the rounding errors of two ways to compute the same in float32


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


def pooled_row(attention: nn.MultiheadAttention, tokens: Tensor, layout: TokenLayout) -> Tensor:
    """How much the tokens that the head reads attend to each token (B, H, N): the class token's row, or a mean."""
    if not layout.pools_patches:
        return class_row(attention, tokens)
    return layout.pool(attention_matrix(attention, tokens))[..., 0, :]


@contextlib.contextmanager
def capture_rows(model: nn.Module) -> Iterator[Callable[[], Tensor]]:
    """Yields a function that gives `pooled_row` of all blocks in the model's latest forward pass, (B, L, H, N)."""
    layout = adapter.parts(plain_model(model)).layout
    with observed(model, attentions(model), lambda module, tokens, _: pooled_row(module, tokens, layout)) as latest:
        yield lambda: torch.stack(latest(), dim=1)


@contextlib.contextmanager
def capture_matrices(model: nn.Module, reduce: Callable[[Tensor], T]) -> Iterator[Callable[[], list[T]]]:
    """Yields a function that gives what `reduce` made of each block's (B, H, N, N) in the latest forward pass.

    One block's matrices exist at a time; `reduce` decides what stays.
    """

    def observe(module: Any, tokens: Tensor, _: Any) -> T:
        return reduce(attention_matrix(module, tokens))

    with observed(model, attentions(model), observe) as latest:
        yield latest


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
    calls: list[tuple[int, T]] = []  # which module, and what was observed, in this pass
    passes: list[dict[int, T]] = []  # the latest one, once it is complete
    ran = False

    def begin(*_: Any) -> None:
        calls.clear()
        passes.clear()

    # In a model that was compiled before, which is what it refuses: Dynamo cannot raise our errors everywhere.
    @torch.compiler.disable
    def end(*_: Any) -> None:
        nonlocal ran
        ran = True
        if sorted(index for index, _ in calls) != list(range(len(modules))):
            raise HarnessError(
                f"{len(calls)} of {len(modules)} hooks fired in one pass through the model: part of it was compiled, "
                "recomputed or replaced while attention was captured. Capture from the plain model in eval mode."
            )
        passes.append(dict(calls))

    def hook(index: int) -> Callable[..., None]:
        def fire(module: nn.Module, inputs: tuple[Tensor, ...], output: Any = None) -> None:
            with torch.no_grad():
                calls.append((index, observe(module, inputs[0], output)))

        return fire

    def latest() -> list[T]:
        if not passes:
            raise RuntimeError("there is no complete forward pass to read from")
        return [passes[0][index] for index in range(len(modules))]

    handles = []
    try:
        handles += [transformer.register_forward_pre_hook(begin), transformer.register_forward_hook(end)]
        for index, module in enumerate(modules):
            register = module.register_forward_hook if after else module.register_forward_pre_hook
            handles.append(register(hook(index)))
        yield latest
        if not ran:
            raise HarnessError(
                "No image passed through the model whose attention was to be captured. Hooks on a model fire neither "
                "in a copy of it nor in what torch.compile made of it before: run the plain model itself."
            )
    finally:
        for handle in handles:
            handle.remove()


def plain_model(model: nn.Module) -> nn.Module:
    """The Vision Transformer inside DistributedDataParallel; refuses a compiled model, where hooks would not fire."""
    while isinstance(model, DistributedDataParallel):
        model = model.module
    if any(is_compiled_module(module) or module._compiled_call_impl is not None for module in model.modules()):
        raise HarnessError(
            "The model is compiled, and hooks added to it now would never fire. Give the model that torch.compile was "
            "called on (its `_orig_mod`), or run with --compile false."
        )
    return model


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


def self_test(
    model: nn.Module, images: Tensor, forward: Callable[[Tensor], Tensor] | None = None
) -> dict[str, int | float | bool]:
    """Captured attention of one batch against MultiheadAttention's own (`need_weights=True`) in float64.

    `forward` is how the images are to be run, the model itself by default. Errors are the largest absolute ones over
    images, blocks, heads and tokens; `reference_error` is that of `need_weights=True` in float32. The test passes if
    captured attention is within TOLERANCE, or off by the same order as that, which happens where a diverged model makes
    scores of thousands; and if logits are the same bits with and without capture.
    """

    layout = adapter.parts(plain_model(model)).layout

    def errors(module: nn.MultiheadAttention, tokens: Tensor, _: Any) -> Tensor:
        with torch.autocast(tokens.device.type, enabled=False):
            exact, reference = _own_weights(module, tokens.double()), _own_weights(module, tokens.float())
        row, matrix = pooled_row(module, tokens, layout), attention_matrix(module, tokens)
        differences = (row - layout.pool(exact)[..., 0, :], matrix - exact, reference - exact)
        return torch.stack([difference.abs().amax() for difference in differences])

    forward = forward or model
    with torch.no_grad():
        plain = forward(images)
        with observed(model, attentions(model), errors) as latest:
            watched = forward(images)
            differences = torch.stack(latest())
    row_error, matrix_error, reference_error = differences.amax(0).tolist()
    allowed = max(TOLERANCE, SAME_ORDER * reference_error)
    logits_equal = torch.equal(plain, watched)
    return {
        "pictures": len(images),
        "layers": len(differences),
        "row_error": row_error,
        "matrix_error": matrix_error,
        "reference_error": reference_error,
        "tolerance": TOLERANCE,
        "logits_equal": logits_equal,
        "passed": logits_equal and row_error <= allowed and matrix_error <= allowed,
    }


def _own_weights(attention: nn.MultiheadAttention, tokens: Tensor) -> Tensor:
    """(B, H, N, N) as MultiheadAttention gives them in eval mode, in the precision of the tokens (B, N, D)."""
    module = copy.deepcopy(attention).to(tokens.dtype).eval()
    # Not called as a module, so that the hook that is running does not fire again.
    weights = module.forward(tokens, tokens, tokens, need_weights=True, average_attn_weights=False)[1]
    assert weights is not None
    return weights
