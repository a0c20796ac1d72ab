"""What the layer norms of a model add to the variance: 1e-6 in torchvision's ViT, 1e-12 in files of Hugging Face's."""

from __future__ import annotations

from torch import nn

from harness.runs.rules import finite_number


def norm_eps(model: nn.Module) -> float | None:
    """The number, if all layer norms have the same one."""
    numbers = {module.eps for module in model.modules() if isinstance(module, nn.LayerNorm)}
    return numbers.pop() if len(numbers) == 1 else None


def set_norm_eps(model: nn.Module, eps: float) -> None:
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = eps


def checked_norm_eps(value: object) -> float:
    """The number from a file. Raises ValueError unless it is one between 0 and 1."""
    eps = finite_number(value)
    if eps is None or not 0 < eps < 1:
        raise ValueError(f"the eps of its layer norms is {value!r}, not a number between 0 and 1")
    return eps
