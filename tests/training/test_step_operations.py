"""Operations of a training step, counted: a change that brings copies or casts back is seen here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from harness.config import RunConfig
from harness.data.loader import Batch
from harness.model.packed_attention import pack_attention
from harness.training.distributed import Processes
from harness.training.state import TrainState
from harness.training.step import training_step
from tests.helpers.timm_vits import small_timm
from tests.helpers.tiny_vits import random_images, tiny_vit
from tests.model.test_packed_attention import COPIES, CountedOperations

CASTS = ("_to_copy",)


def packed() -> nn.Module:
    model = tiny_vit()
    pack_attention(model)
    return model


def counted_step(make: Callable[[], nn.Module], size: int, precision: str) -> Counter[str]:
    """Operations without views of the third step: the first two allocate."""
    config = RunConfig(data="images", model="vit_demo", weights="none", precision=precision, threads=1)
    processes = Processes(config)
    try:
        state = TrainState(make(), config, processes.accelerator)
        state.train()
        state.progress.micro_batch = 4
        targets = torch.eye(5)[torch.arange(4)]
        batch = Batch(random_images(4, size), targets, np.arange(4), torch.ones(4), 4, None, 4.0)
        for _ in range(2):
            training_step(state, batch, 1e-3, config, processes)
        with CountedOperations() as counted:
            training_step(state, batch, 1e-3, config, processes)
        return counted.calls
    finally:
        processes.close()


# All operations, copies and casts of a whole step: 3 blocks of torchvision's model, 2 of timm's.
LIMITS = {
    ("torchvision", "fp32"): (145, 8, 0),
    ("torchvision", "bf16"): (226, 8, 81),
    ("timm", "fp32"): (110, 6, 0),
    ("timm", "bf16"): (169, 6, 59),
}
MODELS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "torchvision": (packed, 32),
    "timm": (lambda: small_timm("vit_tiny_patch16_224"), 64),
}


@pytest.mark.parametrize(("family", "precision"), LIMITS)
def test_a_training_step_has_no_more_operations_than_it_had(family: str, precision: str) -> None:
    calls = counted_step(*MODELS[family], precision)
    counts: Any = (calls.total(), sum(calls[name] for name in COPIES), sum(calls[name] for name in CASTS))
    assert all(count <= limit for count, limit in zip(counts, LIMITS[family, precision], strict=True)), counts
