"""The processes of one run: device, precision, and how all ranks come to one decision."""

from __future__ import annotations

import datetime
import os
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType, GradientAccumulationPlugin, InitProcessGroupKwargs

from harness.config import RunConfig
from harness.errors import ConfigError, HarnessError
from harness.launch.cores import usable_cores
from harness.launch.launch import gpu_share, told_to_use_cpu

T = TypeVar("T")

# Work that only the main process does (decoding, drawing) may take hours on a large data set.
_PATIENCE = datetime.timedelta(hours=24)
_A_LONG_SAVE = datetime.timedelta(hours=1)

_SUPPORTED = (DistributedType.NO, DistributedType.MULTI_GPU, DistributedType.MULTI_CPU)


class Processes:
    """This process among those of the run.

    Agreement goes over the CPU (gloo), beside the gradients' NCCL: it never waits for the device.
    """

    def __init__(self, config: RunConfig) -> None:
        self.notes: list[str] = []  # what the user should hear, once
        leave_spare_cpu_processes(self.notes)
        if config.deterministic:
            # cuBLAS reads this when it is first used (PyTorch notes on reproducibility).
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        on_cpu = not torch.cuda.is_available() or told_to_use_cpu(os.environ)
        self.precision, note = choose_precision(config.precision, on_cpu)
        self.notes += [note] if note else []
        self.accelerator = Accelerator(
            cpu=on_cpu,
            mixed_precision="no" if self.precision == "fp32" else self.precision,
            # Micro-batches are ours to add up: a launcher's ACCELERATE_GRADIENT_ACCUMULATION_STEPS would divide again.
            gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
            # Others wait in a collective while the main process writes a checkpoint.
            kwargs_handlers=[InitProcessGroupKwargs(timeout=_A_LONG_SAVE)],
        )
        if self.accelerator.distributed_type not in _SUPPORTED:
            raise ConfigError(
                f"Accelerate is configured for {self.accelerator.distributed_type.value}, which is not supported here: "
                "give `accelerate launch --config_file accelerate_config.yaml`, or use `harness train`."
            )
        if not on_cpu:
            torch.cuda.reset_peak_memory_stats(self.accelerator.device)
            if (share := gpu_share(os.environ)) < 1:
                # Beyond it this process is out of memory, and takes smaller micro-batches, however full the GPU is.
                torch.cuda.set_per_process_memory_fraction(share, self.accelerator.device)
        self.device: torch.device = self.accelerator.device
        self.rank: int = self.accelerator.process_index
        self.world: int = self.accelerator.num_processes
        self.is_main: bool = self.accelerator.is_main_process
        self._group: Any = dist.new_group(backend="gloo", timeout=_PATIENCE) if self.world > 1 else None
        if on_cpu:
            torch.set_num_threads(config.threads or max(1, usable_cores() // self.local_world))
        torch.use_deterministic_algorithms(config.deterministic)

    @property
    def local_world(self) -> int:
        return int(os.environ.get("LOCAL_WORLD_SIZE", self.world))

    def any(self, flag: bool) -> bool:
        """Whether any rank says yes; every rank gets the same answer."""
        return self.largest(int(flag)) > 0

    def largest(self, number: int) -> int:
        if self._group is None:
            return number
        value = torch.tensor(number)
        dist.all_reduce(value, dist.ReduceOp.MAX, group=self._group)
        return int(value)

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
        outcome: list[Any] = [None, None]
        if self.is_main:
            try:
                outcome[0] = work()
            except HarnessError as error:
                outcome[1] = error
        dist.broadcast_object_list(outcome, src=0, group=self._group)
        if outcome[1] is not None:
            raise outcome[1]
        return outcome[0]

    def main_first(self, work: Callable[[], T]) -> T:
        """Do `work` on every rank, on the main process before the others: what it decodes or downloads they find."""
        own: list[T] = []
        self.on_main(lambda: own.append(work()))
        return own[0] if own else work()

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
        """Part with the other ranks, all at the same point; this process goes on alone.

        Not for the way out of an error: a rank that fails alone would wait for the others, who wait for it in a
        collective. It ends, and the launcher notices.
        """
        if self._group is not None:
            dist.destroy_process_group()
            self._group = None

    def close(self) -> None:
        """Forget this run's configuration, so that the process may do another run."""
        AcceleratorState._reset_state(reset_partial_state=True)


def choose_precision(wanted: str, on_cpu: bool) -> tuple[str, str]:
    """The precision to compute in, and a sentence where it is not what was asked for."""
    asked = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    if wanted != "auto":
        if wanted == "fp16" and on_cpu:
            raise ConfigError("--precision fp16 needs a GPU; on this machine use --precision fp32 or auto.")
        return wanted, ""
    if on_cpu:
        # The same numbers on every CPU: AMX tiles make bf16 faster for wide models, and slower for narrow ones.
        note = f"Computing in fp32, not in Accelerate's {asked}: on a CPU, say --precision bf16."
        return "fp32", note if asked in ("bf16", "fp16") else ""
    if asked in ("bf16", "fp16"):
        return asked, ""
    return ("bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"), ""


def leave_spare_cpu_processes(notes: list[str]) -> None:
    """End all processes but one when a launcher made several for GPUs that are not there.

    `num_processes: auto` starts one process per CPU core on a machine without GPUs; one process that uses all cores
    is faster. Several CPU processes are for those who ask for them with ACCELERATE_USE_CPU=true.
    """
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    if not several or torch.cuda.is_available() or told_to_use_cpu(os.environ):
        return
    if os.environ.get("RANK") != "0":
        sys.exit(0)
    notes.append("No GPU: running as one CPU process. (Set ACCELERATE_USE_CPU=true for several.)")
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        os.environ.pop(name, None)
