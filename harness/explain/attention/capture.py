"""Attention of every encoder block, read from the model's own calls of torch's scaled_dot_product_attention.

The forward pass stays as it is, bit for bit: a call runs first, then its attention is computed again beside it, and
checked against the call's output. Shapes: B images, L blocks, H heads, N tokens, D hidden size.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from harness.errors import HarnessError
from harness.explain.attention.call import AttentionCall, call_of, require_exact
from harness.explain.attention.passes import Passes, plain_model
from harness.model import adapter

T = TypeVar("T")


@contextlib.contextmanager
def capture_calls(model: nn.Module, observe: Callable[[AttentionCall], T]) -> Iterator[Callable[[], list[T]]]:
    """Calls `observe` with the attention of each block, then with that which pools, if there is one.

    The model is a plain one, not compiled. Without gradients. Yields a function of the results of the latest forward
    pass. A pass with another number of calls than the model has attentions is an error, and so is a call whose
    attention does not give its output.
    """
    transformer = plain_model(model)
    parts = adapter.parts(transformer)
    count = len(parts.blocks) + parts.layout.pools_by_attention
    checks: list[Tensor] = []

    def complete(observed: list[T]) -> None:
        if len(observed) != count:
            raise HarnessError(
                f"{len(observed)} attention calls in one pass through a model with {count} attentions: part of it was "
                "compiled or recomputed, or does not call scaled_dot_product_attention (TIMM_FUSED_ATTN=0 turns it "
                "off)."
            )
        require_exact(checks)

    passes = Passes[T](complete)

    def see(func: Any, output: Any, args: Any, kwargs: Any) -> Any:
        if not passes.running:
            return output
        if func is functional.multi_head_attention_forward:  # its own calls are not shown
            raise HarnessError(
                "Attention of nn.MultiheadAttention cannot be captured. Replace it by "
                "harness.model.packed_attention.PackedAttention, which has the same parameters and is called with "
                "need_weights=False; pack_attention(model) beside it does so for torchvision's VisionTransformer."
            )
        if func is functional.scaled_dot_product_attention:
            with torch.no_grad():
                passes.add(observe(call_of(checks, output, *args, **kwargs)))
        return output

    with passes.watching(transformer, begin=checks.clear), AfterCalls(see):
        yield passes.latest


class AfterCalls(TorchFunctionMode):
    """Gives `change` each call of a function of torch after it ran: (function, output, arguments, named arguments).

    What it returns takes the place of the output.
    """

    def __init__(self, change: Callable[[Any, Any, Any, Any], Any]) -> None:
        super().__init__()
        self._change = change

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self._change(func, func(*args, **(kwargs or {})), args, kwargs or {})


@contextlib.contextmanager
def capture_rows(model: nn.Module) -> Iterator[Callable[[], Tensor]]:
    """Yields a function of how much what the head reads attends to each token, of all blocks: (B, L, H, N)."""
    parts = adapter.parts(plain_model(model))
    with capture_calls(model, lambda call: call.row(parts.layout)) as latest:
        yield lambda: torch.stack(latest()[: len(parts.blocks)], dim=1)


@contextlib.contextmanager
def capture_tokens(model: nn.Module) -> Iterator[Callable[[], list[Tensor]]]:
    """Yields a function of the tokens (B, N, D) that enter each block, and of those that leave the last.

    They are part of the graph of gradients. A pass in which a block was passed over is an error, never a silent gap.
    """
    transformer = plain_model(model)
    parts = adapter.parts(transformer)
    modules = [*parts.blocks, parts.final_norm]

    def complete(observed: list[Tensor]) -> None:
        if len(observed) != len(modules):
            raise HarnessError(
                f"{len(observed)} of {len(modules)} hooks fired in one pass through the model: part of it was "
                "compiled, recomputed or replaced while attention was captured. Capture from the plain model in eval "
                "mode."
            )

    passes = Passes[Tensor](complete)
    with contextlib.ExitStack() as hooks, passes.watching(transformer):
        for module in modules:
            hooks.callback(module.register_forward_pre_hook(lambda _, inputs: passes.add(inputs[0])).remove)
        yield passes.latest
