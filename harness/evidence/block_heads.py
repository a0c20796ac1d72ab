"""What each head of a block gives to its output projection, and the block with one head's output replaced.

nn.MultiheadAttention does not show its heads, so they are computed from its weights; in models that call
scaled_dot_product_attention, the call's output is what its heads give. Shapes: B images, H heads, N tokens, D hidden
size, d = D / H.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import linear, scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

from harness.explain.attention.capture import attention_matrix, attentions
from harness.model.adapter import VitParts, parts


def heads_per_block(model: nn.Module) -> list[int]:
    """Heads of each block; HarnessError for attention that is not computed here."""
    vit = parts(model)
    modules: list[Any] = vit.attentions if vit.calls_sdpa else attentions(model)
    return [module.num_heads for module in modules]


def outputs_of_block(vit: VitParts, block: nn.Module, tokens: Tensor) -> Tensor:
    """What each head gives to the output projection, (B, H, N, d), of tokens (B, N, D) that enter a block."""
    if not vit.calls_sdpa:
        return head_outputs(vit.attention(block), vit.attention_norm(block)(tokens))  # type: ignore[arg-type]
    seen: list[Tensor] = []

    def keep(output: Tensor) -> Tensor:
        seen.append(output)
        return output

    with _AtCalls(keep):
        block(tokens)
    [outputs] = seen
    return outputs


def block_without(vit: VitParts, block: nn.Module, tokens: Tensor, outputs: Tensor, head: int, mean: Tensor) -> Tensor:
    """What leaves the block (B, N, D) if one head gives `mean` (d,) everywhere; `outputs` are those of the block."""
    if vit.calls_sdpa:

        def replaced(output: Tensor) -> Tensor:
            changed = output.clone()
            changed[:, head] = mean
            return changed

        with _AtCalls(replaced):
            return block(tokens)
    module: Any = vit.attention(block)
    change = output_change(module, outputs, mean, head)
    # The hook adds the change to what the block's attention gives to the residual stream.
    handle = module.register_forward_hook(lambda _, __, output: (output[0] + change, output[1]))
    try:
        return block(tokens)
    finally:
        handle.remove()


def head_outputs(attention: nn.MultiheadAttention, tokens: Tensor) -> Tensor:
    """What each head gives to the output projection, (B, H, N, d), from the tokens (B, N, D) that enter."""
    size, heads = attention.embed_dim, attention.num_heads
    bias = attention.in_proj_bias
    values = linear(tokens, attention.in_proj_weight[2 * size :], None if bias is None else bias[2 * size :])
    return attention_matrix(attention, tokens) @ values.unflatten(-1, (heads, -1)).transpose(1, 2)


def output_change(attention: nn.MultiheadAttention, outputs: Tensor, mean: Tensor, head: int) -> Tensor:
    """What the module's output (B, N, D) changes by when one head gives its mean (d,) everywhere."""
    width = outputs.shape[-1]
    columns = attention.out_proj.weight[:, head * width : (head + 1) * width]
    return (mean - outputs[:, head]) @ columns.T


class _AtCalls(TorchFunctionMode):
    """Gives the output of every call of scaled_dot_product_attention to a function, and takes what it returns."""

    def __init__(self, change: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self._change = change

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        return self._change(output) if func is scaled_dot_product_attention else output
