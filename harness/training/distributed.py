"""The processes of one run: device, precision, and decisions that all ranks share."""

from __future__ import annotations

import datetime
import os
import platform
import sys
from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import (
    DistributedDataParallelKwargs,
    DistributedType,
    GradientAccumulationPlugin,
    InitProcessGroupKwargs,
)

from harness.config import RunConfig
from harness.errors import ConfigError, HarnessError
from harness.launch.cores import default_threads
from harness.launch.gpus import gpu_share, told_to_use_cpu
from harness.launch.open_files import check_open_files

T = TypeVar("T")

# Work that only the main process does (decoding, drawing) may take hours on a large data set.
_MAIN_WORK_TIMEOUT = datetime.timedelta(hours=24)
_SAVE_TIMEOUT = datetime.timedelta(hours=1)

_SUPPORTED = (DistributedType.NO, DistributedType.MULTI_GPU, DistributedType.MULTI_CPU)


class Processes:
    """This process, and collectives with the other processes of the run.

    Decisions are exchanged over gloo on the CPU, gradients over NCCL: a decision never waits for the device.
    """

    def __init__(self, config: RunConfig) -> None:
        self.notes: list[str] = []  # for the user, shown once
        leave_spare_cpu_processes(self.notes)
        if config.deterministic:
            # cuBLAS reads this when it is first used (PyTorch notes on reproducibility).
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        check_open_files(int(os.environ.get("WORLD_SIZE", "1")))
        on_cpu = runs_on_cpu()
        self.precision, note = choose_precision(config.precision, on_cpu)
        self.notes += [note] if note else []
        self.accelerator = Accelerator(
            cpu=on_cpu,
            mixed_precision="no" if self.precision == "fp32" else self.precision,
            # training_step adds up micro-batches; ACCELERATE_GRADIENT_ACCUMULATION_STEPS would divide the loss again.
            gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
            kwargs_handlers=[
                # Others wait in a collective while the main process writes a checkpoint.
                InitProcessGroupKwargs(timeout=_SAVE_TIMEOUT),
                # Gradients lie in the buckets that ranks exchange: no copy of all of them beside (344 MB for ViT-B).
                DistributedDataParallelKwargs(gradient_as_bucket_view=True),
            ],
        )
        if self.accelerator.distributed_type not in _SUPPORTED:
            raise ConfigError(
                f"Accelerate is configured for {self.accelerator.distributed_type.value}, which is not supported. "
                "Use `accelerate launch --config_file accelerate_config.yaml`, or `harness train`."
            )
        if not on_cpu:
            torch.cuda.reset_peak_memory_stats(self.accelerator.device)
            if (share := gpu_share(os.environ)) < 1:
                # Beyond its share a process gets an out-of-memory error and halves its micro-batch.
                torch.cuda.set_per_process_memory_fraction(share, self.accelerator.device)
        self.device: torch.device = self.accelerator.device
        self.rank: int = self.accelerator.process_index
        self.world: int = self.accelerator.num_processes
        self.is_main: bool = self.accelerator.is_main_process
        self._group: Any = dist.new_group(backend="gloo", timeout=_MAIN_WORK_TIMEOUT) if self.world > 1 else None
        self.decides_late: bool = not on_cpu  # see largest_of_last_call
        self._exchange: tuple[Any, torch.Tensor] | None = None  # of `largest_of_last_call`, under way
        if on_cpu:
            torch.set_num_threads(config.threads or default_threads(self.local_world))
        torch.use_deterministic_algorithms(config.deterministic)

    @property
    def local_world(self) -> int:
        return int(os.environ.get("LOCAL_WORLD_SIZE", self.world))

    def any(self, flag: bool) -> bool:
        """Whether the flag is set on any rank; every rank gets the same answer."""
        return self.largest(int(flag)) > 0

    def largest(self, number: int) -> int:
        if self._group is None:
            return number
        value = torch.tensor(number)
        dist.all_reduce(value, dist.ReduceOp.MAX, group=self._group)
        return int(value)

    def largest_of_last_call(self, number: int) -> int:
        """The largest number of all ranks in the call before this one, 0 in the first; one process gets its own.

        The exchange takes place during the training step between two calls, so that no rank waits for it while its
        device computes. On CPUs ranks have nothing to do meanwhile, and get the largest number of this call.
        """
        if self._group is None or not self.decides_late:
            return self.largest(number)
        earlier, value = self._exchange, torch.tensor(number)
        self._exchange = dist.all_reduce(value, dist.ReduceOp.MAX, group=self._group, async_op=True), value
        if earlier is None:
            return 0
        work, largest = earlier
        work.wait()
        return int(largest)

    def forget_last_call(self) -> None:
        """Begin another loop, whose numbers mean something else: the next `largest_of_last_call` is its first."""
        if self._exchange:
            self._exchange[0].wait()
            self._exchange = None

    def gather(self, value: T) -> list[T]:
        """The value of every rank, in order, on the main process; an empty list elsewhere."""
        if self._group is None:
            return [value]
        values: list[Any] | None = [None] * self.world if self.is_main else None
        dist.gather_object(value, values, dst=0, group=self._group)
        return values or []

    def on_main(self, work: Callable[[], T]) -> T:
        """Do `work` on the main process alone; every rank gets its result, or its error."""
        if self._group is None:
            return work()
        result, error = self.from_main(_attempt(work) if self.is_main else None)
        if error is not None:
            raise error
        return result

    def main_first(self, work: Callable[[], T], *, each_node: bool = False) -> T:
        """Do `work` on every rank, first on the main process: the others reuse what it decoded or downloaded.

        With `each_node`, the first rank of each other node does not wait for it: work that nodes divide. An error on
        any rank is raised on all of them.
        """
        if self._group is None:
            return work()
        is_first = self.is_main or (each_node and self.accelerator.is_local_main_process)
        result, error = _attempt(work) if is_first else (None, None)
        if error is not None and each_node and self.world > self.local_world:
            waits = "The run ends when the other nodes have done their part of the work."
            print(f"{error.problems[0]}\n{waits}", file=sys.stderr, flush=True)
        self._raise_first(error)
        if not is_first:
            result, error = _attempt(work)
        self._raise_first(error)
        return cast(T, result)

    def _raise_first(self, error: HarnessError | None) -> None:
        """Raise the error of the first rank that has one, on every rank; that of another node names the node."""
        ends: list[Any] = [None] * self.world
        dist.all_gather_object(ends, (platform.node(), error), group=self._group)
        main_node = ends[0][0]
        for node, failed in ends:
            if failed is not None:
                raise failed if node == main_node else type(failed)(f"On {node}: {each}" for each in failed.problems)

    def from_main(self, value: Any) -> Any:
        """The main process's value, on every rank."""
        if self._group is None:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0, group=self._group)
        return values[0]

    def sum_on_device(self, values: torch.Tensor) -> torch.Tensor:
        """Sum over ranks of a tensor on this run's device."""
        if self._group is not None:
            dist.all_reduce(values)
        return values

    def broadcast(self, model: torch.nn.Module) -> None:
        """Give every rank the main process's weights."""
        if self._group is not None:
            for value in model.state_dict().values():
                dist.broadcast(value, src=0)

    def leave(self) -> None:
        """Leave the process group. All ranks call it at the same point; each works alone from then on.

        Do not call it when handling an error: it would wait for the other ranks, which wait in a collective. A rank
        that fails exits, and the launcher ends the others.
        """
        if self._group is not None:
            self.forget_last_call()
            dist.destroy_process_group()
            self._group = None
            self.rank, self.world = 0, 1

    def close(self) -> None:
        """Reset Accelerate, so that the process can start another run."""
        AcceleratorState._reset_state(reset_partial_state=True)


def _attempt(work: Callable[[], Any]) -> tuple[Any, HarnessError | None]:
    """The result of `work`, or the error that all ranks have to raise."""
    try:
        return work(), None
    except HarnessError as error:
        return None, error


def runs_on_cpu() -> bool:
    """Whether a run in this process computes on the CPU."""
    return not torch.cuda.is_available() or told_to_use_cpu(os.environ)


def choose_precision(requested: str, on_cpu: bool) -> tuple[str, str]:
    """The precision to compute in, and a note if it differs from the request."""
    accelerate_choice = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    if requested != "auto":
        if requested == "fp16" and on_cpu:
            raise ConfigError("--precision fp16 needs a GPU; on this machine use --precision fp32 or auto.")
        return requested, ""
    if on_cpu:
        # The same numbers on every CPU: AMX tiles make bf16 faster for wide models, and slower for narrow ones.
        note = f"Computing in fp32, not in Accelerate's {accelerate_choice}. For bf16 on a CPU, use --precision bf16."
        return "fp32", note if accelerate_choice in ("bf16", "fp16") else ""
    if accelerate_choice in ("bf16", "fp16"):
        return accelerate_choice, ""
    return ("bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"), ""


def leave_spare_cpu_processes(notes: list[str]) -> None:
    """Exit all processes but rank 0 when a launcher started several on a machine without GPUs.

    `num_processes: auto` starts one process per CPU core on a machine without GPUs; one process that uses all cores
    is faster. ACCELERATE_USE_CPU=true keeps several CPU processes.
    """
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    if not several or torch.cuda.is_available() or told_to_use_cpu(os.environ):
        return
    if os.environ.get("RANK") != "0":
        sys.exit(0)
    notes.append("No GPU: running as one CPU process. (Set ACCELERATE_USE_CPU=true for several.)")
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        os.environ.pop(name, None)
