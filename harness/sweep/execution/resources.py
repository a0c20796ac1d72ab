"""Divides one machine among the trials of a sweep: the GPUs and cores of each worker."""

from __future__ import annotations

import itertools
import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.errors import ConfigError
from harness.launch.gpus import GPU_SHARE, count_gpus, gpu_memory, gpu_share, told_to_use_cpu


@dataclass(frozen=True)
class Slot:
    """One worker's share of the machine. It trains one trial at a time."""

    number: int
    gpus: tuple[str, ...]  # as CUDA_VISIBLE_DEVICES names them; empty without GPUs
    cores: tuple[int, ...]
    processes: int  # training processes of a trial
    gpu_share: float = 1.0  # fraction of its GPU's memory, below 1 if trials share the GPU

    def environment(self) -> dict[str, str]:
        """Variables that limit a trial to its own GPUs, and to its share of their memory."""
        if not self.gpus:
            return {}
        share = {GPU_SHARE: f"{self.gpu_share:g}"} if self.gpu_share < 1 else {}
        return {"CUDA_VISIBLE_DEVICES": ",".join(self.gpus), **share}


def share_machine(
    workers: int | None, gpus_per_run: float | None, processes_per_run: int, environment: Mapping[str, str]
) -> list[Slot]:
    """Slots for `workers` trials at a time. Default: as many as the GPUs allow, or one on a CPU.

    With `gpus_per_run` below 1, 1 / gpus_per_run trials share a GPU. Default: one GPU per trial, or a shared one if
    there are more workers than GPUs. Each worker gets an equal range of neighbouring cores, so that trials do not
    compete for cores. Raises ConfigError.
    """
    gpus = [] if told_to_use_cpu(environment) else visible_gpus(environment)
    problems = []
    if gpus_per_run is not None and not gpus:
        problems.append(
            f"--gpus-per-run is {gpus_per_run:g}, but no GPU can be used here. Leave the option out to run on the CPU."
        )
    if gpus_per_run is None:
        gpus_per_run = 1 / math.ceil((workers or 1) / len(gpus)) if gpus else 1.0
    if not 0.01 <= gpus_per_run < 1000 or (gpus_per_run > 1 and gpus_per_run != int(gpus_per_run)):
        problems.append(f"--gpus-per-run is {gpus_per_run:g}; give a whole number, or a fraction such as 0.5.")
    elif gpus and gpus_per_run > len(gpus):
        problems.append(f"--gpus-per-run {gpus_per_run:g} is more than the {len(gpus)} usable GPU(s) of this machine.")
    if gpus and processes_per_run > 1:
        problems.append("--processes-per-run is for machines without GPUs. Use --gpus-per-run.")
    if problems:
        raise ConfigError(problems)

    bundles = _bundles(gpus, gpus_per_run)
    if bundles and workers is not None and workers > len(bundles):
        raise ConfigError(
            f"--workers {workers} with --gpus-per-run {gpus_per_run:g} needs more than the {len(gpus)} GPU(s) of this "
            f"machine. Give at most --workers {len(bundles)}, or omit --gpus-per-run: then trials share GPUs."
        )
    count = workers or len(bundles) or 1
    cores = _divide(sorted(os.sched_getaffinity(0)), count)
    trials_per_gpu, own_share = Counter(bundles[:count]), gpu_share(environment)
    return [
        Slot(
            number,
            bundles[number] if bundles else (),
            cores[number],
            len(bundles[number]) if bundles else processes_per_run,
            own_share / trials_per_gpu[bundles[number]] if bundles else 1.0,
        )
        for number in range(count)
    ]


def smallest_memory(slots: Sequence[Slot]) -> int | None:
    """Bytes of device memory that a trial has in every slot; None if that is unknown."""
    sizes = []
    for slot in slots:
        if not slot.gpus:
            return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        for name in slot.gpus:
            if (size := gpu_memory(name)) is None:
                return None
            sizes.append(int(size * slot.gpu_share))
    return min(sizes, default=None)


def visible_gpus(environment: Mapping[str, str]) -> list[str]:
    """The usable GPUs, by the names that CUDA_VISIBLE_DEVICES takes."""
    count = count_gpus(environment)
    listed = environment.get("CUDA_VISIBLE_DEVICES")
    names = [str(index) for index in range(count)] if listed is None else [name.strip() for name in listed.split(",")]
    return names[:count]


def _bundles(gpus: list[str], gpus_per_run: float) -> list[tuple[str, ...]]:
    """The GPUs of each trial, for as many trials as fit."""
    if gpus_per_run < 1:
        # Each GPU once before any GPU twice, so that a few trials spread over all of them.
        return [(gpu,) for _ in range(int(1 / gpus_per_run + 1e-9)) for gpu in gpus]
    size = int(gpus_per_run)
    return [tuple(gpus[start : start + size]) for start in range(0, len(gpus) - size + 1, size)]


def _divide(cores: list[int], count: int) -> list[tuple[int, ...]]:
    """`count` ranges of neighbouring cores; if there are fewer cores, one core each, which workers share."""
    if count >= len(cores):
        return [(cores[number % len(cores)],) for number in range(count)]
    edges = [number * len(cores) // count for number in range(count + 1)]
    return [tuple(cores[low:high]) for low, high in itertools.pairwise(edges)]
