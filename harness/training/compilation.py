"""Regional compilation: torch.compile of each transformer block, not of the model around them.

The blocks of a model share their code, and Dynamo keeps compiled code by code object and shapes, so that one
compilation serves all blocks (PyTorch's recipe "Reducing torch.compile cold start compilation time with regional
compilation").

The loss and the optimiser are not compiled: the loss is a dozen of a step's 800 kernels and would be compiled for each
batch size, and the optimiser is fused. Scoring would need a compilation for each of its batch sizes: Dynamo keeps no
graph of training for a pass without gradients.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils import parametrize

from harness.model import adapter

# --compile auto compiles in runs of so many steps: 60 s to compile, repaid by 5 ms a step. On an H200, a step of
# vit_b_16 compiled as a whole took 17.4 instead of 26.5 ms with 16 images, 30.0 instead of 35.1 ms with 64
# (docs/benchmarks.md). The 60 s are an upper estimate, not a measurement on a GPU.
STEPS_TO_REPAY = 12_000


def should_compile(setting: bool | str, steps: int, device: torch.device) -> bool:
    """Whether a run of so many optimiser steps compiles its model."""
    if setting == "auto":
        return device.type == "cuda" and steps >= STEPS_TO_REPAY
    return bool(setting)


class CompiledParts:
    """The parts of a model that run compiled in training, and as they are in evaluation.

    Scoring and explaining need plain parts: hooks do not fire in compiled ones, and each batch size would be compiled.
    """

    def __init__(self, model: nn.Module, backend: str = "inductor") -> None:
        # Every layer with LoRA has its own class, so that its block would share no code: then all is one part.
        has_lora = any(parametrize.is_parametrized(module) for module in model.modules())
        self._parts = [model] if has_lora else adapter.parts(model).blocks
        for part in self._parts:
            # One graph per batch size: a dynamic one, made for an epoch's smaller last batch, would serve all later.
            part.compile(dynamic=False, backend=backend)
        self._calls = [part._compiled_call_impl for part in self._parts]

    def use(self, compiled: bool) -> None:
        for part, call in zip(self._parts, self._calls, strict=True):
            part._compiled_call_impl = call if compiled else None
