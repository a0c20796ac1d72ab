"""Where the trials of a sweep run on one machine: which GPUs and which cores each worker has for itself."""

from __future__ import annotations

import itertools
import math
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from harness.errors import ConfigError
from harness.launch.launch import GPU_SHARE, count_gpus, gpu_share, told_to_use_cpu


@dataclass(frozen=True)
class Slot:
    """One worker's share of the machine: a trial runs in it, then the next."""

    number: int
    gpus: tuple[str, ...]  # as CUDA_VISIBLE_DEVICES names them; empty on a machine without
    cores: tuple[int, ...]
    processes: int  # training processes of a trial
    gpu_share: float = 1.0  # of the memory of its GPU, where trials share one

    def environment(self) -> dict[str, str]:
        """Variables by which a trial sees its own GPUs only, and takes no more than its share of one."""
        if not self.gpus:
            return {}
        share = {GPU_SHARE: f"{self.gpu_share:g}"} if self.gpu_share < 1 else {}
        return {"CUDA_VISIBLE_DEVICES": ",".join(self.gpus), **share}


def share_machine(
    workers: int | None, gpus_per_run: float | None, processes_per_run: int, environment: Mapping[str, str]
) -> list[Slot]:
    """Slots for `workers` trials at a time; without a number, as many as the GPUs take, or one on a CPU.

    `gpus_per_run` below 1 lets 1 / gpus_per_run trials share a GPU; without it, trials have one each, or share them
    when there are more workers than GPUs. Cores are dealt out in equal runs of neighbours, so
    that trials side by side do not compete for the same ones.
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
        problems.append(f"--gpus-per-run is {gpus_per_run:g}; give a whole number, or a share of one GPU such as 0.5.")
    elif gpus and gpus_per_run > len(gpus):
        problems.append(f"--gpus-per-run {gpus_per_run:g} is more than the {len(gpus)} GPU(s) that can be used here.")
    if gpus and processes_per_run > 1:
        problems.append("--processes-per-run is for machines without GPUs; here give --gpus-per-run.")
    if problems:
        raise ConfigError(problems)

    bundles = _bundles(gpus, gpus_per_run)
    if bundles and workers is not None and workers > len(bundles):
        raise ConfigError(
            f"--workers {workers} at --gpus-per-run {gpus_per_run:g} need more than the {len(gpus)} GPU(s) here: "
            f"give --workers {len(bundles)} at most, or leave --gpus-per-run out and let trials share GPUs."
        )
    count = workers or len(bundles) or 1
    cores = _deal(sorted(os.sched_getaffinity(0)), count)
    on_gpu, whole = Counter(bundles[:count]), gpu_share(environment)
    return [
        Slot(
            number,
            bundles[number] if bundles else (),
            cores[number],
            _processes(bundles, processes_per_run, number),
            whole / on_gpu[bundles[number]] if bundles else 1.0,
        )
        for number in range(count)
    ]


def visible_gpus(environment: Mapping[str, str]) -> list[str]:
    """Names by which CUDA_VISIBLE_DEVICES can give each usable GPU to a process."""
    count = count_gpus(environment)
    listed = environment.get("CUDA_VISIBLE_DEVICES")
    names = [str(index) for index in range(count)] if listed is None else [name.strip() for name in listed.split(",")]
    return names[:count]


def _bundles(gpus: list[str], gpus_per_run: float) -> list[tuple[str, ...]]:
    if gpus_per_run < 1:
        # Round the GPUs first, so that a few trials spread over all of them.
        return [(gpu,) for _ in range(int(1 / gpus_per_run + 1e-9)) for gpu in gpus]
    size = int(gpus_per_run)
    return [tuple(gpus[start : start + size]) for start in range(0, len(gpus) - size + 1, size)]


def _processes(bundles: list[tuple[str, ...]], processes_per_run: int, number: int) -> int:
    return len(bundles[number]) if bundles else processes_per_run


def _deal(cores: list[int], count: int) -> list[tuple[int, ...]]:
    """`count` runs of neighbouring cores; with fewer cores than that, each has one, some the same."""
    if count >= len(cores):
        return [(cores[number % len(cores)],) for number in range(count)]
    edges = [number * len(cores) // count for number in range(count + 1)]
    return [tuple(cores[low:high]) for low, high in itertools.pairwise(edges)]
