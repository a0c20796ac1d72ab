"""A CUDA graph, imitated on a CPU: the operations of a step, repeated on the same memory with the same numbers.

Like a graph it repeats what was computed, and runs none of the step's Python: a learning rate that is a number, or a
batch that lies elsewhere, would stay what it was. Like a capture it refuses to read a tensor's value, to copy numbers
of the host, and to draw random numbers. Unlike a capture it computes the step that it records, so that the first replay
has nothing to do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

Step = Callable[[], Tensor]


class Recording(TorchDispatchMode):
    """Operations with their arguments and results, which it keeps alive."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, tuple[Any, ...], dict[str, Any], list[Tensor]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            raise RuntimeError("the step reads the value of a tensor")
        if func is torch.ops.aten.lift_fresh.default:
            raise RuntimeError("the step makes a tensor of numbers of the host")
        # Attention is marked as random, and is not: its dropout is 0.
        if torch.Tag.nondeterministic_seeded in func.tags and "scaled_dot_product" not in func.__name__:
            raise RuntimeError(f"the step draws random numbers: {func}")
        results = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, tensors(results)))
        return results


def tensors(values: Any) -> list[Tensor]:
    return [value for value in tree_leaves(values) if isinstance(value, Tensor)]


def recorded(step: Step, stream: object) -> Step:
    """In place of `static_step.captured`."""
    with Recording() as recording:
        loss = step()
    computed = True

    @torch.no_grad()
    def replay() -> Tensor:
        nonlocal computed
        for func, args, kwargs, results in () if computed else recording.calls:
            for result, new in zip(results, tensors(func(*args, **kwargs)), strict=True):
                if result.data_ptr() != new.data_ptr():  # neither a view nor changed in place
                    result.copy_(new)
        computed = False
        return loss.clone()

    return replay
