"""The state of a run after an optimiser step: everything that resuming needs to give the same weights."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from harness.config import RunConfig
from harness.errors import SurroundingsError, TrainingError
from harness.runs.reading import kind_of
from harness.runs.rules import is_number
from harness.training.checkpoint import (
    damaged,
    flatten_optimizer,
    load_tensors,
    restore_optimizer,
    with_prefix,
    without_prefix,
)
from harness.training.compilation import CompiledParts, should_compile
from harness.training.loss import Loss
from harness.training.optim import MovingAverage, build_optimizer
from harness.training.static_step import StaticStep


@dataclasses.dataclass
class Progress:
    """How far a run has come."""

    step: int = 0  # optimiser steps done
    epochs: int = 0  # epochs done, their validation included
    processes: int = 0  # number of processes at the last step
    steps_since_topology_change: int = 0  # steps with that number of processes; the first ones show memory use
    micro_batch: int = 0  # images per forward pass and process
    # The halved micro-batch since memory ran out; 0: it has not; None: a state of an earlier version does not say.
    micro_batch_limit: int | None = 0
    seconds: float = 0.0  # of training, interrupted sessions included
    evaluation_seconds: float = 0.0  # ... of validation and test
    best: dict[str, float] = dataclasses.field(default_factory=dict)  # best/epoch and that epoch's scores
    last_losses: list[float] = dataclasses.field(
        default_factory=list
    )  # finite ones, for the message when a loss is not

    def start_with(self, processes: int, config: RunConfig) -> None:
        """Begin or resume with so many processes: the largest micro-batch, unless memory has run out before."""
        largest = largest_micro_batch(config, processes)
        if self.micro_batch_limit is None:
            ran_out = self.processes > 0 and self.micro_batch < largest_micro_batch(config, self.processes)
            self.micro_batch_limit = self.micro_batch if ran_out else 0
        micro_batch = min(largest, self.micro_batch_limit or largest)
        if processes != self.processes or micro_batch > self.micro_batch:  # how much memory that takes is not known
            self.processes, self.steps_since_topology_change = processes, 0
        self.micro_batch = micro_batch


def largest_micro_batch(config: RunConfig, processes: int) -> int:
    """Images per forward pass of each of several processes while memory suffices: --micro-batch, or its whole share."""
    return config.micro_batch or math.ceil(config.batch_size / processes)


def stops_early(progress: Progress, patience: int) -> bool:
    """Early stopping: whether the last `patience` epochs were not better than an earlier one; never with 0."""
    return 0 < patience <= progress.epochs - progress.best.get("best/epoch", progress.epochs)


def training_ended(progress: Progress, config: RunConfig) -> bool:
    """Whether no epoch is left. Decided from saved progress, so that a run that resumes decides the same."""
    return progress.epochs >= config.epochs or stops_early(progress, config.patience)


class TrainState:
    """Model, optimiser, average and progress. Order and augmentation need no state: they follow from the step."""

    def __init__(
        self, model: nn.Module, config: RunConfig, accelerator: Accelerator, loss: Loss | None = None, steps: int = 0
    ) -> None:
        """`steps` are the optimiser steps of the run, by which --compile auto decides."""
        self.accelerator = accelerator
        self.loss = loss or Loss()
        self.model = model.to(accelerator.device)
        self.average = MovingAverage(model, config.ema_decay, captured=config.cuda_graph) if config.ema else None
        self.static_step = StaticStep(config.batch_size, accelerator.device) if config.cuda_graph else None
        self._compiled: CompiledParts | None = None
        if should_compile(config.compile, steps, accelerator.device):
            self._compiled = CompiledParts(model)
        # The wrapped model is for training steps; the plain one shares its weights and is for everything else.
        self.wrapped: nn.Module = accelerator.prepare_model(model)
        self.optimizer = accelerator.prepare_optimizer(build_optimizer(model, config, accelerator.device))
        self.progress = Progress()

    def train(self, mode: bool = True) -> None:
        """Training mode, compiled if the run compiles; or evaluation mode, plain."""
        self.model.train(mode)
        if self._compiled:
            self._compiled.use(mode)

    def weights(self) -> dict[str, Tensor]:
        """The weights to validate and keep: the moving average if the run has one."""
        return self.average.weights if self.average else self.model.state_dict()

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, C) of the weights to validate and keep."""
        # In the run's precision: Accelerate has put that into the model's own forward.
        if self.average:
            return torch.func.functional_call(self.model, self.average.weights, (images,))
        return self.model(images)

    def use(self, path: Path) -> None:
        """Load the weights of a checkpoint into the model; for evaluation after training."""
        self.static_step = None  # the memory of its graph is free for the test
        self.model.load_state_dict(load_tensors(path)[0])

    def tensors(self) -> dict[str, Tensor]:
        """All that training changes, on the device: the live tensors, under the names of the state file."""
        tensors = with_prefix("model", self.model.state_dict()) | flatten_optimizer(self.optimizer.optimizer)
        return tensors | with_prefix("average", self.average.weights) if self.average else tensors

    def metadata(self, origin: dict[str, Any]) -> dict[str, Any]:
        """The rest of the state file; `restore` compares `origin`, the digests of data and weights."""
        scaler = self.accelerator.scaler
        return {
            "progress": dataclasses.asdict(self.progress),
            "scaler": scaler.state_dict() if scaler is not None else None,
            "origin": origin,
        }

    def restore(self, path: Path, origin: dict[str, Any]) -> None:
        """Load a state that StateWriter wrote. Raises TrainingError: damaged; SurroundingsError: of another origin."""
        tensors, metadata = load_tensors(path)
        try:
            recorded = metadata["origin"]
            differences = [key for key in origin if recorded.get(key) != origin[key]]
            self.progress = _checked_progress(metadata["progress"])
            scaler = metadata["scaler"]
        except (KeyError, AttributeError, TypeError, ValueError) as error:
            raise damaged(path, f"its metadata cannot be used: {error}") from error
        if differences == ["weights"] and str(origin["weights"]).startswith(f"{recorded.get('weights')} eps "):
            raise TrainingError(
                f"{path} is of a version that did not read layer_norm_eps from the description of the weights. "
                "Use --fresh to start over."
            )
        if differences:
            raise SurroundingsError(
                f"The {' and '.join(differences)} changed since this run was interrupted ({path}). Restore it, "
                "or use --fresh to start over."
            )
        if metadata.get("ended") and not tensors:
            return  # training has ended: the test needs the best checkpoint alone
        try:
            self.model.load_state_dict(without_prefix("model", tensors))
            restore_optimizer(self.optimizer.optimizer, tensors)
            if self.average:
                self.average.load(without_prefix("average", tensors))
            if scaler is not None and self.accelerator.scaler is not None:
                self.accelerator.scaler.load_state_dict(scaler)
        except (RuntimeError, LookupError, TypeError, ValueError) as error:
            raise damaged(path, "its tensors do not fit the model and its optimiser") from error


def _checked_progress(stored: Any) -> Progress:
    """Progress from metadata. Raises ValueError or TypeError for an entry of a wrong type, which it names."""
    if not isinstance(stored, dict):
        raise ValueError(f"progress is {kind_of(stored)} instead of an object")
    renames = {"steady_steps": "steps_since_topology_change"}  # of earlier versions
    values: dict[str, Any] = {"micro_batch_limit": None}  # as earlier versions leave it
    values |= {renames.get(str(name), str(name)): value for name, value in stored.items()}
    progress = Progress(**values)
    for field in dataclasses.fields(Progress):
        value = getattr(progress, field.name)
        if field.name == "best":
            valid = isinstance(value, dict) and all(map(is_number, value.values()))
        elif field.name == "last_losses":
            valid = isinstance(value, list) and all(map(is_number, value))
        elif field.name == "micro_batch_limit" and value is None:
            valid = True
        else:
            valid = is_number(value) and value >= 0 and (field.type == "float" or isinstance(value, int))
        if not valid:
            raise ValueError(f"{field.name} of its progress is {value!r}")
    return progress
