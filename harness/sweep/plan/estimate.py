"""Estimates the time and disk of a sweep from the throughput of earlier runs, or of a short benchmark."""

from __future__ import annotations

import heapq
import math
import os
import statistics
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.config import RunConfig
from harness.data.image_folder import load_image_folder
from harness.launch.cores import usable_cores
from harness.launch.gpus import count_gpus, told_to_use_cpu
from harness.sweep.plan.kept_throughput import benchmark_key, keep_throughput, read_throughput
from harness.sweep.plan.throughput import Throughput, speed_key, throughput_of_runs
from reports.runs import read_runs


class UnknownCost(Exception):
    """There is no estimate; the message is a sentence."""


@dataclass(frozen=True)
class ImageCounts:
    """The images of each split of a data set."""

    train: int
    val: int
    test: int
    classes: int


@dataclass(frozen=True)
class Cost:
    """The estimated cost of a sweep."""

    seconds: float  # of the whole sweep
    trial_seconds: float  # mean of the trials
    workers: int
    cores: int | None  # of this machine; None if trials train on GPUs
    threads: int  # CPU threads of a trial
    checkpoint: int | None  # bytes of a trial's best weights
    state: int  # bytes of the state to resume from, until the trial has finished
    sources: tuple[str, ...]
    files: int = 0  # bytes of a trial besides its checkpoints

    def disk(self, trials: int, keep: int | None) -> tuple[int, int]:
        """Bytes of a sweep at the end, and the maximum while trials run. `keep` checkpoints stay, or all."""
        checkpoint, running, files = self.checkpoint or 0, min(self.workers, trials), trials * self.files
        remaining = min(keep or trials, trials)
        maximum = min(remaining + running, trials) * checkpoint + running * self.state
        return remaining * checkpoint + files, maximum + files


def estimate(
    configs: Sequence[RunConfig],
    trials: int,
    *,
    runs_dir: str | Path,
    probe: bool,
    workers: int,
    say: Callable[[str], None] = print,
) -> Cost:
    """The cost of `trials` trials; `configs` are all of them, or examples. Raises UnknownCost.

    Throughput comes from finished runs in `runs_dir`. If there are none, `probe` allows a benchmark, which `say`
    announces.
    """
    device = "cuda" if count_gpus(os.environ) and not told_to_use_cpu(os.environ) else "cpu"
    counts = _image_counts(configs)
    throughputs = _throughputs(configs, counts, device, runs_dir, say if probe else None)
    seconds = [trial_seconds(*inputs) for inputs in zip(configs, counts, throughputs, strict=True)]
    mean = statistics.fmean(seconds)
    cores = usable_cores()
    threads = max(min(throughput.threads or cores, cores) for throughput in throughputs)
    checkpoint = max((throughput.checkpoint for throughput in throughputs if throughput.checkpoint), default=None)
    return Cost(
        seconds=sweep_seconds(
            seconds if len(seconds) == trials else [mean] * trials, workers, threads / cores if device == "cpu" else 0.0
        ),
        trial_seconds=mean,
        workers=workers,
        cores=cores if device == "cpu" else None,
        threads=threads,
        checkpoint=checkpoint,
        state=max(state_bytes(config, checkpoint or 0) for config in configs),
        sources=tuple(dict.fromkeys(throughput.source for throughput in throughputs)),
        files=max(throughput.files for throughput in throughputs),
    )


def trial_seconds(config: RunConfig, images: ImageCounts, throughput: Throughput) -> float:
    trained, scored = config.epochs * images.train, config.epochs * images.val + images.test
    return trained / throughput.training + scored / throughput.scoring + throughput.overhead_seconds


def sweep_seconds(trials: Sequence[float], workers: int, share_of_cores: float) -> float:
    """Duration of a sweep in which each worker runs one trial after another.

    `share_of_cores` is the fraction of the machine's cores that a trial computes on, 0 on GPUs.
    """
    free_at = [0.0] * workers
    for seconds in trials:
        heapq.heappush(free_at, heapq.heappop(free_at) + seconds)
    return max(*free_at, share_of_cores * sum(trials))


def state_bytes(config: RunConfig, checkpoint: int) -> int:
    """Bytes of the state that a run resumes from: weights, the optimiser's moments, averaged weights (--ema)."""
    moments = 1 if config.optimizer == "sgd" else 2
    return checkpoint * (1 + moments + config.ema)


def about_time(seconds: float) -> str:
    """A duration, rounded as an estimate should be: "40 min"."""
    if seconds < 55:
        return f"{max(1, round(seconds) if seconds < 10 else 5 * round(seconds / 5))} s"
    if (minutes := seconds / 60) < 90:
        return f"{max(1, round(minutes)) if minutes < 10 else 5 * round(minutes / 5)} min"
    if (hours := minutes / 60) < 48:
        return f"{round(2 * hours) / 2 if hours < 10 else round(hours):g} h"
    return f"{round(hours / 24)} days"


def about_bytes(count: float) -> str:
    """A size to two digits, in powers of ten: "340 MB"."""
    size, unit = (1e12, "TB") if count >= 1e12 else (1e9, "GB") if count >= 1e9 else (1e6, "MB")
    return f"{float(f'{count / size:.2g}'):g} {unit}"


def _image_counts(configs: Sequence[RunConfig]) -> list[ImageCounts]:
    """The image counts of each run. Each data set is read once."""
    counts: dict[Hashable, ImageCounts] = {}
    keys = [(config.data, config.split_seed, config.split_fraction, config.split_group) for config in configs]
    for key, config in zip(keys, configs, strict=True):
        if key in counts:
            continue
        if not Path(config.data).expanduser().exists():
            raise UnknownCost(f"The folder {config.data} does not exist, so time and disk are unknown.")
        folder = load_image_folder(config)
        train, val, test = (len(split.files) for split in folder.splits)
        counts[key] = ImageCounts(train, val, test, len(folder.classes))
    return [counts[key] for key in keys]


def _throughputs(
    configs: Sequence[RunConfig],
    counts: Sequence[ImageCounts],
    device: str,
    runs_dir: str | Path,
    say: Callable[[str], None] | None,
) -> list[Throughput]:
    """The throughput of each run. Runs with equal speed keys and similar batch sizes share a measurement.

    Without `say`, there is no benchmark.
    """
    runs = read_runs(runs_dir)
    measured: dict[Hashable, Throughput] = {}
    throughputs = []
    for config, images in zip(configs, counts, strict=True):
        key, batch = speed_key(config.to_dict()), round(math.log2(config.batch_size))
        throughput = measured.get((key, batch)) or throughput_of_runs(runs, config, device, str(runs_dir))
        if throughput is None:
            unknown = f"{runs_dir} holds no finished run of {config.model} on this machine"
            if say is None:
                raise UnknownCost(f"{unknown}, so time and disk are unknown.")
            of_benchmark = benchmark_key(config, images.classes, device)
            throughput = measured.get(of_benchmark) or _benchmark(of_benchmark, config, images.classes, unknown, say)
            measured[of_benchmark] = throughput
        measured[key, batch] = throughput
        throughputs.append(throughput)
    return throughputs


def _benchmark(key: str, config: RunConfig, classes: int, reason: str, say: Callable[[str], None]) -> Throughput:
    """The throughput by a benchmark: one of an earlier plan, or a new one, which `say` announces."""
    if kept := read_throughput(key):
        when = f"measured on this machine {about_time(kept.age)} ago (delete {kept.path} to measure again)"
        return replace(kept.throughput, source=f"{kept.throughput.source}; {when}")
    say(f"{reason}: measuring its speed in a few steps on random pixels ... (--no-probe skips this)")
    from harness.sweep.plan.benchmark import measure

    throughput = measure(config, classes)
    if not throughput.disturbed:
        keep_throughput(key, throughput)
    return throughput
