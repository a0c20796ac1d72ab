"""What is observed in the latest forward pass of a model: all of it, or an error."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

import torch
from accelerate.utils import is_compiled_module
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from harness.errors import HarnessError

T = TypeVar("T")


class Passes(Generic[T]):
    """Observations of one pass at a time, so that a pass that failed half way leaves nothing behind.

    `complete(observations)` raises HarnessError if a pass lacks some.
    """

    def __init__(self, complete: Callable[[list[T]], None]) -> None:
        self.running = False
        self._complete = complete
        self._observed: list[T] = []
        self._finished: list[T] | None = None

    def add(self, observation: T) -> None:
        self._observed.append(observation)

    def latest(self) -> list[T]:
        """The observations of the latest pass."""
        if self._finished is None:
            raise RuntimeError("there is no complete forward pass to read from")
        return self._finished

    @contextlib.contextmanager
    def watching(self, model: nn.Module, begin: Callable[[], Any] = lambda: None) -> Iterator[None]:
        """Follow the passes of a model; HarnessError if there was none. Hooks are gone at the end."""
        ran = False

        def on_begin(*_: Any) -> None:
            self._observed, self._finished, self.running = [], None, True
            begin()

        # In a model that was compiled before, which is what it refuses: Dynamo cannot raise our errors everywhere.
        @torch.compiler.disable
        def on_end(*_: Any) -> None:
            nonlocal ran
            ran, self.running = True, False
            self._complete(self._observed)
            self._finished = list(self._observed)

        handles = [model.register_forward_pre_hook(on_begin), model.register_forward_hook(on_end)]
        try:
            yield
            if not ran:
                raise HarnessError(
                    "No image passed through the model whose attention was to be captured. Hooks on a model fire "
                    "neither in a copy of it nor in what torch.compile made of it before: run the plain model itself."
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
