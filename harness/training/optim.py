"""Optimiser, layer-wise learning rates and the schedule, which counts optimiser steps."""

from __future__ import annotations

import math
import warnings

import torch
from torch import Tensor, nn

from harness.config import RunConfig
from harness.model import adapter


def build_optimizer(model: nn.Module, config: RunConfig, device: torch.device) -> torch.optim.Optimizer:
    """AdamW or SGD over groups of equal decay and learning-rate scale; `lr_scale` is relative to `lr`.

    With --cuda-graph, each group's learning rate is a float32 tensor on the device, which a captured step reads.
    """
    groups = parameter_groups(model, weight_decay=config.weight_decay, layer_decay=config.layer_decay)
    if config.cuda_graph:
        # torch warns of capturable=True in each run, because the first steps are not captured.
        warnings.filterwarnings("ignore", message=".*capturable=True", category=UserWarning)
        groups = [group | {"lr": torch.tensor(config.lr, device=device)} for group in groups]
    if config.optimizer == "sgd":
        # SGD that is not fused copies a learning rate on the device to the host, which a graph cannot hold.
        return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, fused=config.cuda_graph or None)
    # One kernel for all parameters: 3x faster than the default on a CPU, and free of per-tensor launches on a GPU.
    fused = device.type in ("cpu", "cuda")
    return torch.optim.AdamW(groups, lr=config.lr, fused=fused, capturable=config.cuda_graph)


def parameter_groups(model: nn.Module, *, weight_decay: float, layer_decay: float) -> list[dict]:
    """Trainable parameters grouped by (decayed or not, depth), in the model's order.

    Norms, biases, the class token and the position embedding are not decayed (ViT paper, appendix B.1). With
    layer-wise decay (Clark et al. 2020, ELECTRA), a parameter k blocks below the head learns at
    `layer_decay ** k` of the learning rate.
    """
    parts = adapter.parts(model)
    head_depth = parts.head_depth
    groups: dict[tuple[float, float], dict] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        decayed = parameter.ndim >= 2 and name not in parts.undecayed
        decay = weight_decay if decayed else 0.0
        scale = layer_decay ** (head_depth - parts.depth(name))
        group = groups.setdefault((decay, scale), {"params": [], "weight_decay": decay, "lr_scale": scale})
        group["params"].append(parameter)
    return list(groups.values())


def learning_rate(step: int, config: RunConfig, steps_per_epoch: int) -> float:
    """Learning rate of optimiser step `step` (from 0): linear warm-up, then constant or half a cosine to 0."""
    warmup_steps = round(config.warmup_epochs * steps_per_epoch)
    if step < warmup_steps:
        return config.lr * (step + 1) / warmup_steps
    if config.schedule == "constant":
        return config.lr
    progress = (step - warmup_steps) / max(1, config.epochs * steps_per_epoch - warmup_steps)
    return config.lr * 0.5 * (1 + math.cos(math.pi * progress))


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    for group in optimizer.param_groups:
        rate = lr * group["lr_scale"]
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)  # in place: a captured step reads this memory
        else:
            group["lr"] = rate


class MovingAverage:
    """Exponential moving average of a model's weights (Polyak & Juditsky 1992), kept on the model's device."""

    def __init__(self, model: nn.Module, decay: float, *, captured: bool = False) -> None:
        """`captured`: a CUDA graph holds `update`, and reads from a tensor how much it folds in."""
        self.decay = decay
        self.weights = {name: value.detach().clone() for name, value in model.state_dict().items()}
        device = next(iter(self.weights.values())).device
        self._new_share: float | Tensor = torch.zeros((), device=device) if captured else 0.0

    def set_step(self, step: int) -> None:
        """Set what `update` does after optimiser step `step`: early averages follow the weights closely."""
        # This warm-up of the decay keeps the initial weights from dominating short runs (`num_updates` of TensorFlow's
        # tf.train.ExponentialMovingAverage).
        share = 1 - self.decay_at(step)
        if isinstance(self._new_share, Tensor):
            self._new_share.fill_(share)
        else:
            self._new_share = share

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Fold in the model's weights."""
        averages, values = list(self.weights.values()), list(model.state_dict().values())
        if isinstance(self._new_share, Tensor):  # the same interpolation; torch has none for a list and one tensor
            for average, value in zip(averages, values, strict=True):
                average.lerp_(value, self._new_share)
        else:
            torch._foreach_lerp_(averages, values, self._new_share)

    def decay_at(self, step: int) -> float:
        return min(self.decay, (1 + step) / (10 + step))

    def shortfall(self, steps: int) -> str:
        """A sentence if a run of so many steps never reaches the decay, where other decays would train the same."""
        if (last := self.decay_at(steps)) == self.decay:
            return ""
        return (
            f"--ema-decay {self.decay:g} is not reached in {steps} steps: the decay rises as (1 + step) / (10 + step), "
            f"to {last:.4g}. Any --ema-decay above that gives the same weights."
        )

    def load(self, weights: dict[str, Tensor]) -> None:
        for name, value in self.weights.items():
            value.copy_(weights[name])
