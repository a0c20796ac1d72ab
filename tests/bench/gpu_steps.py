"""Parts of a training step on a device, each alone: steps of ours and of timm, attention, scoring, saving, memory.

Images are random and lie on the device: only the step is measured. Every function returns rows of a table.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import timm
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import cross_entropy, scaled_dot_product_attention

from harness.config import RunConfig
from harness.data.loader import Batch
from harness.model.new_model import new_model
from harness.training.distributed import Processes
from harness.training.state import TrainState
from harness.training.state_writer import StateWriter
from harness.training.static_step import WARM_UP_STEPS
from harness.training.step import training_step
from tests.bench.real_run import lap, synchronise

CLASSES = 100
LR = 2.0**-13  # float32 holds it exactly, as a captured step does

Row = list[str]


@dataclasses.dataclass(frozen=True)
class Setup:
    model: str
    peer: str  # timm's name of the same model
    image_size: int
    batch_sizes: tuple[int, ...]
    precision: str
    steps: int  # that count, after those that warm up
    heads: tuple[int, int, int]  # heads, tokens and width of the attention that is measured alone

    def config(self, batch_size: int, **changes: object) -> RunConfig:
        values: dict[str, object] = {"data": "images", "weights": "none", "model": self.model, "lr": LR, "threads": 1}
        return RunConfig.from_dict(values | {"batch_size": batch_size, "precision": self.precision} | changes)


def random_batch(count: int, size: int, device: torch.device) -> Batch:
    generator = torch.Generator().manual_seed(count)
    images = torch.randn(count, 3, size, size, generator=generator).to(device)
    targets = torch.eye(CLASSES)[torch.arange(count) % CLASSES].to(device)
    return Batch(images, targets, np.arange(count), torch.ones(count, device=device), count, None, float(count))


class OwnSteps:
    """Optimiser steps of this program on one batch; `plain` has torchvision's attention in place of the packed one."""

    def __init__(self, setup: Setup, batch_size: int, *, plain: bool = False, **changes: object) -> None:
        self.config = setup.config(batch_size, **changes)
        self.processes = Processes(self.config)
        model = new_model(setup.model, setup.image_size, CLASSES, "default")
        if plain:
            for block in model.encoder.layers:
                block.self_attention.__class__ = nn.MultiheadAttention
        self.state = TrainState(model, self.config, self.processes.accelerator)
        self.state.progress.micro_batch = batch_size
        self.state.train()
        self.batch = random_batch(batch_size, setup.image_size, self.processes.device)

    def __call__(self) -> Tensor:
        return training_step(self.state, self.batch, LR, self.config, self.processes)

    def close(self) -> None:
        self.processes.close()


class PeerSteps:
    """timm's model in a bare loop with its best settings: fused AdamW, channels last, bf16, compiled if asked."""

    def __init__(self, setup: Setup, batch_size: int, device: torch.device, *, compiled: bool) -> None:
        model = timm.create_model(setup.peer, num_classes=CLASSES, img_size=setup.image_size).to(device)
        model = model.to(memory_format=torch.channels_last).train()
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=LR, fused=True)
        self.model = torch.compile(model) if compiled else model
        batch = random_batch(batch_size, setup.image_size, device)
        self.images, self.labels = batch.images.to(memory_format=torch.channels_last), batch.targets.argmax(1)
        self.autocast = torch.autocast(device.type, torch.bfloat16, enabled=setup.precision == "bf16")

    def __call__(self) -> Tensor:
        with self.autocast:
            loss = cross_entropy(self.model(self.images), self.labels)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss

    def close(self) -> None:
        """Nothing to close."""


def step_rows(setup: Setup, device: torch.device, operations: float, rate: float) -> Iterator[Row]:
    """Steps of every kind at every batch size: speed, share of the card's rate, kernels, seconds to compile."""
    kinds: dict[str, Callable[[int], OwnSteps | PeerSteps]] = {
        "ours, nn.MultiheadAttention": lambda size: OwnSteps(setup, size, plain=True),
        "ours, packed attention": lambda size: OwnSteps(setup, size),
        "ours, packed, --compile true": lambda size: OwnSteps(setup, size, compile=True),
        "ours, packed, --cuda-graph true": lambda size: OwnSteps(setup, size, cuda_graph=True),
        "ours, packed, --compile and --cuda-graph true": lambda size: OwnSteps(
            setup, size, compile=True, cuda_graph=True
        ),
        "timm, bare loop": lambda size: PeerSteps(setup, size, device, compiled=False),
        "timm, bare loop, compiled": lambda size: PeerSteps(setup, size, device, compiled=True),
    }
    for batch_size, (name, make) in itertools.product(setup.batch_sizes, kinds.items()):
        torch.compiler.reset()
        steps = make(batch_size)
        try:
            first = lap(steps).wall
            for _ in range(WARM_UP_STEPS):  # the last of these is captured with --cuda-graph
                steps()
            seconds = statistics.median(lap(steps).wall for _ in range(setup.steps))
            speed = batch_size / seconds
            share = f"{100 * speed * operations / rate:.1f} %"
            kernels = str(kernels_of(steps)) if device.type == "cuda" else "-"
            yield [name, str(batch_size), f"{1000 * seconds:.2f}", f"{speed:.0f}", share, kernels, f"{first:.1f}"]
        finally:
            steps.close()


STEP_COLUMNS = ["step", "batch", "ms", "images/s", "of matmul", "kernels", "first step, s"]


def kernels_of(steps: Callable[[], object]) -> int:
    """Kernels that one step starts on the GPU, copies not counted."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        steps()
        synchronise()
    names = [event.name for event in profile.events() if event.device_type == torch.autograd.DeviceType.CUDA]
    return sum(not name.startswith(("Memcpy", "Memset")) for name in names)


def attention_rows(setup: Setup, device: torch.device) -> Iterator[Row]:
    """Forward and backward pass of scaled_dot_product_attention by each backend, at the model's shape."""
    dtype = torch.bfloat16 if setup.precision == "bf16" else torch.float32
    for batch_size in setup.batch_sizes:
        inputs = [torch.randn(batch_size, *setup.heads, device=device, dtype=dtype) for _ in range(3)]
        for tensor in inputs:
            tensor.requires_grad_()

        def both_ways(inputs: list[Tensor] = inputs) -> None:
            scaled_dot_product_attention(*inputs).sum().backward()

        for backend in ("default", "FLASH_ATTENTION", "EFFICIENT_ATTENTION", "CUDNN_ATTENTION", "MATH"):
            try:
                chosen = (
                    contextlib.nullcontext() if backend == "default" else sdpa_kernel(SDPBackend.__members__[backend])
                )
                with chosen:
                    both_ways()
                    seconds = statistics.median(lap(both_ways).wall for _ in range(setup.steps))
                yield [backend, str(batch_size), f"{1e6 * seconds:.0f} us"]
            except RuntimeError as error:
                yield [backend, str(batch_size), f"not available ({str(error).splitlines()[0][:60]})"]


def scoring_and_saving_rows(setup: Setup) -> Iterator[Row]:
    """Scoring on images that lie on the device; what an epoch loses to saving, and how long the file takes."""
    size = setup.batch_sizes[-1]
    steps = OwnSteps(setup, size)
    try:
        steps()
        steps.state.train(False)
        with torch.inference_mode():
            steps.state.forward(steps.batch.images)
            seconds = statistics.median(lap(lambda: steps.state.forward(steps.batch.images)).wall for _ in range(5))
        yield ["scoring", f"{size / seconds:.0f} images/s"]
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "state.safetensors")
            with StateWriter(steps.state, file, {}, steps.config, is_main=True) as writer:
                for name in ("first save", "later save"):
                    start = time.perf_counter()
                    writer.save()
                    lost = time.perf_counter() - start
                    writer.wait()
                    whole = time.perf_counter() - start
                    megabytes = file.stat().st_size / 1e6
                    yield [name, f"training waits {lost:.2f} s, {megabytes:.0f} MB are written after {whole:.2f} s"]
    finally:
        steps.close()


def equality_rows(setup: Setup) -> Iterator[Row]:
    """Whether six steps give the same bits twice, with deterministic algorithms; and packed attention's rounding.

    With --cuda-graph, which excludes --deterministic, the last three are replayed. Its comparison with steps that are
    never captured, but read tensors as it does, says whether a replayed step gives an eager one's bits.
    """
    size = setup.batch_sizes[0]

    def weights(*, captured: bool = True, **changes: object) -> dict[str, Tensor]:
        torch.compiler.reset()
        steps = OwnSteps(setup, size, **{"deterministic": "cuda_graph" not in changes} | changes)
        if not captured:
            steps.state.static_step = None
        torch.use_deterministic_algorithms(True)
        try:
            for _ in range(2 * WARM_UP_STEPS):
                steps()
            return {name: value.clone() for name, value in steps.state.model.state_dict().items()}
        finally:
            steps.close()
            torch.use_deterministic_algorithms(False)

    def largest(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
        return max(float((one[name] - other[name]).abs().max()) for name in one)

    eager, compiled = weights(), weights(compile=True)
    yield ["eager twice", f"largest difference {largest(eager, weights()):g}"]
    yield ["compiled twice", f"largest difference {largest(compiled, weights(compile=True)):g}"]
    yield ["compiled and eager", f"largest difference {largest(compiled, eager):g} (learning rate {LR:g})"]
    yield ["packed and nn.MultiheadAttention", f"largest difference {largest(eager, weights(plain=True)):g}"]
    graph, never_captured = weights(cuda_graph=True), weights(cuda_graph=True, captured=False)
    yield ["graph twice", f"largest difference {largest(graph, weights(cuda_graph=True)):g}"]
    yield ["graph and the same never captured", f"largest difference {largest(graph, never_captured):g}"]
    yield ["graph and eager", f"largest difference {largest(graph, eager):g} (learning rates as tensors and numbers)"]
    both = weights(cuda_graph=True, compile=True)
    yield ["graph and compiled, and compiled", f"largest difference {largest(both, compiled):g}"]


def memory_rows(setup: Setup, device: torch.device) -> Iterator[Row]:
    """A step with too little memory for its batch: the micro-batch is halved, and the loss stays.

    With --cuda-graph memory is short when the step is captured; with the smaller micro-batch it is captured again.
    """
    if device.type != "cuda":
        yield ["out of memory", "only on a GPU"]
        return
    for name, warm_up, changes in (
        ("out of memory", 0, {}),
        ("out of memory in a capture", WARM_UP_STEPS, {"cuda_graph": True}),
    ):
        with ready_steps(setup, warm_up, changes) as steps:
            expected, peak = float(steps()), torch.cuda.max_memory_allocated()
        del steps  # and their memory
        with ready_steps(setup, warm_up, changes) as steps:
            total = torch.cuda.get_device_properties(device).total_memory
            torch.cuda.set_per_process_memory_fraction(0.6 * peak / total, device)
            loss = float(steps())
            halved = f"micro-batch {steps.config.batch_size} -> {steps.state.progress.micro_batch}"
            yield [name, f"{halved}; loss {loss:.6f}, {expected:.6f} with enough memory"]
            if static := steps.state.static_step:
                for _ in range(WARM_UP_STEPS + 1):
                    steps()
                yield ["captured again", "yes" if static.is_captured else "NO"]


@contextlib.contextmanager
def ready_steps(setup: Setup, warm_up: int, changes: dict[str, object]) -> Iterator[OwnSteps]:
    """Steps of the largest batch after so many have been taken, on a device whose memory is free but for theirs."""
    steps = OwnSteps(setup, setup.batch_sizes[-1], **changes)
    try:
        for _ in range(warm_up):
            steps()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        yield steps
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        steps.close()
