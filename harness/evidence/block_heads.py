"""What each head of a block gives to its output projection, and the block with one head's output replaced.

Heads give the output of scaled_dot_product_attention. Shapes: B images, H heads, N tokens, D hidden size, d = D / H.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from harness.explain.attention.capture import AfterCalls


def outputs_of_block(block: nn.Module, tokens: Tensor) -> Tensor:
    """What each head gives to the output projection, (B, H, N, d), of tokens (B, N, D) that enter a block."""
    seen: list[Tensor] = []

    def keep(output: Tensor) -> Tensor:
        seen.append(output)
        return output

    with _at_attention(keep):
        block(tokens)
    [outputs] = seen
    return outputs


def block_without(block: nn.Module, tokens: Tensor, head: int, mean: Tensor) -> Tensor:
    """What leaves the block (B, N, D) if one head gives `mean` (d,) everywhere."""

    def replaced(output: Tensor) -> Tensor:
        changed = output.clone()
        changed[:, head] = mean
        return changed

    with _at_attention(replaced):
        return block(tokens)


def _at_attention(change: Callable[[Tensor], Tensor]) -> AfterCalls:
    """Gives the output of every call of scaled_dot_product_attention to a function, and takes what it returns."""
    return AfterCalls(lambda func, output, *_: change(output) if func is scaled_dot_product_attention else output)
