"""Captured attention against the model's own, for one batch: is it exact, and does capturing change nothing?"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from harness.explain.attention.call import AttentionCall
from harness.explain.attention.capture import capture_calls
from harness.explain.attention.passes import plain_model
from harness.model import adapter
from harness.model.adapter import TokenLayout

TOLERANCE = 1e-5  # largest difference from the model's own weights that float32 explains in a sound model
SAME_ORDER = 4  # between the rounding errors of two ways to compute the same in float32


def self_test(
    model: nn.Module, images: Tensor, forward: Callable[[Tensor], Tensor] | None = None
) -> dict[str, int | float | bool]:
    """Captured attention of one batch against attention in float64 from the same queries and keys.

    That these are the model's is what the output of each call confirms. `forward` is how the images are to be run, the
    model itself by default. Errors are the largest absolute ones over images, layers, heads and tokens;
    `reference_error` is that of another way to compute the same in float32. The test passes if captured attention is
    within TOLERANCE, or off by the same order as that, which happens where a diverged model makes scores of thousands;
    and if logits are the same bits with and without capture.
    """
    layout = adapter.parts(plain_model(model)).layout
    forward = forward or model
    with torch.no_grad():
        plain = forward(images)
        with capture_calls(model, lambda call: _errors(call, layout)) as latest:
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
    exact = call.exact()
    reference = call.exact(torch.float32)  # the order of the products is another one than in `matrix`
    exact_row = exact[..., 0, :] if exact.shape[2] == 1 else layout.pool(exact)[..., 0, :]
    differences = (call.row(layout) - exact_row, call.matrix() - exact, reference - exact)
    return torch.stack([difference.abs().amax() for difference in differences])
