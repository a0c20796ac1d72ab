"""A training step on tensors that keep their memory, captured as a CUDA graph and replayed for every full batch.

With few images a step is as slow as the host starts its 800 kernels; a graph starts all of them in one call (PyTorch's
notes "CUDA Graphs": whole-network capture). Nothing in the step waits for the device or draws random numbers: factors
of stochastic depth come with the batch, and blocks have no dropout. Autocast keeps no cast of a weight from outside the
graph: Accelerate enters it for the forward pass alone, and torch forgets the casts when it is left.

The capture itself has not been run on a GPU. On a CPU the step is computed on the same tensors and not captured.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable

import torch
from accelerate.utils.memory import should_reduce_batch_size
from torch import Tensor

from harness.config import RunConfig
from harness.data.loader import Batch
from harness.errors import ConfigError, first_line
from harness.training.distributed import choose_precision, runs_on_cpu

# The first step allocates the optimiser's moments and the second uses them for the first time; with --compile the first
# one compiles. A third is what PyTorch's notes take.
WARM_UP_STEPS = 3

Step = Callable[[], Tensor]  # returns the loss


def check_cuda_graph(config: RunConfig) -> None:
    """Raise ConfigError with every reason why steps cannot be captured on this machine, in this launch."""
    problems = []
    if on_cpu := runs_on_cpu():
        problems.append("--cuda-graph true needs an NVIDIA GPU, and this run uses the CPU. Leave --cuda-graph out.")
    elif choose_precision(config.precision, on_cpu)[0] == "fp16":
        problems.append(
            "--cuda-graph true does not work in fp16, which --precision auto chooses on this machine. Use --precision "
            "fp32, or bf16 if the GPU supports it, or leave --cuda-graph out."
        )
    if (world := int(os.environ.get("WORLD_SIZE", "1"))) > 1:
        problems.append(
            f"--cuda-graph true works in one process, and this run has {world}: their exchange of gradients is not "
            "captured. Use --num-processes 1, or leave --cuda-graph out."
        )
    if problems:
        raise ConfigError(problems)


@dataclasses.dataclass(frozen=True)
class CaptureFailure:
    """Why a step could not be captured."""

    reason: str
    out_of_memory: bool


class StaticStep:
    """The tensors that a step reads, and the step itself once it is captured.

    The caller copies each batch in with `load`. A batch that is not full, or a new micro-batch, does not fit a captured
    step: the first is computed eagerly, the second discards the graph, and later steps warm up and are captured again.
    """

    def __init__(self, batch_size: int, device: torch.device) -> None:
        self._batch_size = batch_size
        # One stream for warm-up and capture: autograd accumulates gradients on the stream where it first did so.
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._batch: Batch | None = None
        self._micro_batch = 0
        self.forget()

    def forget(self) -> None:
        """Discard the graph and its memory. The tensors of the batch stay."""
        self._replay: Step | None = None
        self._warm_up_steps = 0

    @property
    def batch(self) -> Batch:
        """The last full batch, in tensors that keep their memory."""
        assert self._batch
        return self._batch

    @property
    def is_warm(self) -> bool:
        return self._warm_up_steps >= WARM_UP_STEPS

    @property
    def is_captured(self) -> bool:
        return self._replay is not None

    def load(self, batch: Batch, micro_batch: int) -> bool:
        """Copy a full batch into the static tensors. False: it is not full, and has to be computed from its own."""
        if len(batch.images) != self._batch_size:
            return False
        if micro_batch != self._micro_batch:
            self.forget()
            self._micro_batch = micro_batch
        if self._batch is None:
            self._batch = _static(batch)
        for static, tensor in zip(_tensors(self._batch), _tensors(batch), strict=True):
            static.copy_(tensor)
        assert isinstance(self._batch.mass, Tensor)
        self._batch.mass.fill_(batch.mass)
        return True

    def warm_up(self, step: Step) -> Tensor:
        """Take a step eagerly, on the stream of the capture: kernels are loaded and memory is allocated."""
        if self._stream is None:
            loss = step()
        else:
            current = torch.cuda.current_stream()
            self._stream.wait_stream(current)
            with torch.cuda.stream(self._stream):
                loss = step()
            current.wait_stream(self._stream)
            loss.record_stream(current)
        self._warm_up_steps += 1
        return loss

    def capture(self, step: Step) -> CaptureFailure | None:
        """Record what `step` would compute; `replay` computes it. Returns why that failed: nothing is computed then."""
        try:
            self._replay = captured(step, self._stream)
        except RuntimeError as error:
            # torch ends a failed capture with an error about the capture; its context is the error of the step.
            out_of_memory = any(map(should_reduce_batch_size, filter(None, (error, error.__context__))))
            return CaptureFailure(first_line(error.__context__ or error), out_of_memory)
        return None

    def replay(self) -> Tensor:
        """Compute the captured step on the batch that was loaded; returns its loss."""
        assert self._replay
        return self._replay()


def captured(step: Step, stream: torch.cuda.Stream | None) -> Step:
    """The step as a CUDA graph, captured on this stream; without a stream, on a CPU, the step itself."""
    if stream is None:
        return step
    graph = torch.cuda.CUDAGraph()
    # "thread_local": what the loader's threads ask of CUDA meanwhile is not part of the graph, and no reason to fail.
    with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
        loss = step()

    def replay() -> Tensor:
        graph.replay()
        return loss.clone()  # the next replay writes to the same memory

    return replay


def _static(batch: Batch) -> Batch:
    """A batch of new tensors of the same shapes, whose mass is a tensor as well."""
    scale = batch.drop_path_scale
    return dataclasses.replace(
        batch,
        images=torch.empty_like(batch.images),
        targets=torch.empty_like(batch.targets),
        weight=torch.empty_like(batch.weight),
        drop_path_scale=None if scale is None else torch.empty_like(scale),
        mass=torch.zeros((), device=batch.images.device),
    )


def _tensors(batch: Batch) -> list[Tensor]:
    """The tensors of a batch that have a row per image."""
    tensors = (batch.images, batch.targets, batch.weight, batch.drop_path_scale)
    return [tensor for tensor in tensors if tensor is not None]
