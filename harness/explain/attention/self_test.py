"""Captured attention against the model's own, for one batch: is it exact, and does capturing change nothing?"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from harness.explain.attention.capture import AttentionCall, ModuleCall, capture_calls
from harness.explain.attention.passes import plain_model
from harness.model import adapter
from harness.model.adapter import TokenLayout

TOLERANCE = 1e-5  # largest difference from the model's own weights that float32 explains in a sound model
SAME_ORDER = 4  # between the rounding errors of two ways to compute the same in float32


def self_test(
    model: nn.Module, images: Tensor, forward: Callable[[Tensor], Tensor] | None = None
) -> dict[str, int | float | bool]:
    """Captured attention of one batch against attention in float64.

    That of nn.MultiheadAttention is the module's own (`need_weights=True`); that of scaled_dot_product_attention comes
    from the call's queries and keys, and each call's output confirms it as well. `forward` is how the images are to be
    run, the model itself by default. Errors are the largest absolute ones over images, layers, heads and tokens;
    `reference_error` is that of another way to compute the same in float32. The test passes if captured attention is
    within TOLERANCE, or off by the same order as that, which happens where a diverged model makes scores of thousands;
    and if logits are the same bits with and without capture.
    """
    layout = adapter.parts(plain_model(model)).layout
    forward = forward or model
    with torch.no_grad():
        plain = forward(images)
        with capture_calls(model, lambda _, call: _errors(call, layout)) as latest:
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


def _errors(call: AttentionCall, layout: TokenLayout) -> Tensor:
    """Largest errors (3,) of the row, of the matrix, and of the reference in float32."""
    if isinstance(call, ModuleCall):
        with torch.autocast(call.tokens.device.type, enabled=False):
            exact = _own_weights(call.attention, call.tokens.double())
            reference = _own_weights(call.attention, call.tokens.float())
    else:
        exact = call.exact()
        # The order of the products is another one than in `matrix`.
        reference = call.exact(torch.float32)
    exact_row = exact[..., 0, :] if exact.shape[2] == 1 else layout.pool(exact)[..., 0, :]
    differences = (call.row(layout) - exact_row, call.matrix() - exact, reference - exact)
    return torch.stack([difference.abs().amax() for difference in differences])


def _own_weights(attention: nn.MultiheadAttention, tokens: Tensor) -> Tensor:
    """(B, H, N, N) as MultiheadAttention gives them in eval mode, in the precision of the tokens (B, N, D)."""
    module = copy.deepcopy(attention).to(tokens.dtype).eval()
    # Not called as a module, so that the hook that is running does not fire again.
    weights = module.forward(tokens, tokens, tokens, need_weights=True, average_attn_weights=False)[1]
    assert weights is not None
    return weights
