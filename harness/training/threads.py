"""CPU threads of training: no more than the model keeps busy."""

from __future__ import annotations

import torch
from torch import nn

from harness.config import RunConfig
from harness.model.adapter import parts
from harness.training.distributed import Processes

# Multiply-adds of a block's layers, forward, for each thread. With less, threads wait for one another longer than they
# compute. On two idle cores, a step with two threads took 1.77 times as long as with one if the block has 30 million,
# 1.03 times if it has 115 million, and 0.82 times if it has 350 million (docs/benchmarks.md).
LEAST_WORK = 150_000_000


def limit_threads(model: nn.Module, images: int, config: RunConfig, processes: Processes) -> None:
    """Compute with fewer threads than this process may have if a forward pass of so many images is too small for them.

    --threads is obeyed. The number depends on the settings and the cores alone, not on time or load, because results
    with different numbers of threads differ in their last digits: the same command computes the same.
    """
    if processes.device.type != "cpu" or config.threads:
        return
    described = parts(model)
    tokens = described.layout.prefix + described.grid**2
    weights = max(sum(weight.numel() for weight in block.parameters()) for block in described.blocks)
    useful = images * tokens * weights // LEAST_WORK
    torch.set_num_threads(max(1, min(torch.get_num_threads(), useful)))
