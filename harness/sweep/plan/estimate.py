"""How long the trials of a sweep take and how much disk they need, by the pace of earlier runs or of a short probe."""

from __future__ import annotations

import heapq
import math
import os
import statistics
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.config import RunConfig
from harness.data.image_folder import load_configured_folder
from harness.launch.launch import count_gpus, told_to_use_cpu
from harness.sweep.plan.throughput import Pace, kind, pace_of_runs
from reports.runs import read_runs


class UnknownCost(Exception):
    """Why there is no estimate, in a sentence."""


@dataclass(frozen=True)
class Pictures:
    """How many a data set has, in its splits."""

    train: int
    val: int
    test: int
    classes: int


@dataclass(frozen=True)
class Cost:
    """What a sweep is estimated to take."""

    seconds: float  # with the workers there are
    trial_seconds: float  # of one trial, on average
    workers: int
    device: str  # "cpu" or "cuda"
    checkpoint: int | None  # bytes of a trial's best weights
    state: int  # bytes that a trial needs besides, until it has finished
    sources: tuple[str, ...]

    def disk(self, trials: int, keep: int | None) -> tuple[int, int]:
        """Bytes of checkpoints at the end, and at most while trials run; `keep` of them stay, or all."""
        checkpoint, running = self.checkpoint or 0, min(self.workers, trials)
        kept = min(keep or trials, trials)
        return kept * checkpoint, min(kept + running, trials) * checkpoint + running * self.state


def estimate(configs: Sequence[RunConfig], trials: int, *, runs_dir: str | Path, probe: bool, workers: int) -> Cost:
    """The cost of `trials` trials, of which `configs` are all, or examples; UnknownCost where it cannot be told.

    The pace is that of finished runs under `runs_dir`; of kinds that there are none of it is measured, with `probe`.
    """
    device = "cuda" if count_gpus(os.environ) and not told_to_use_cpu(os.environ) else "cpu"
    pictures = _pictures(configs)
    paces = _paces(configs, pictures, device, runs_dir, probe)
    seconds = [trial_seconds(*each) for each in zip(configs, pictures, paces, strict=True)]
    average = statistics.fmean(seconds)
    checkpoint = max((pace.checkpoint for pace in paces if pace.checkpoint), default=None)
    return Cost(
        seconds=sweep_seconds(seconds if len(seconds) == trials else [average] * trials, workers, device),
        trial_seconds=average,
        workers=workers,
        device=device,
        checkpoint=checkpoint,
        state=max(state_bytes(config, checkpoint or 0) for config in configs),
        sources=tuple(dict.fromkeys(pace.source for pace in paces)),
    )


def trial_seconds(config: RunConfig, pictures: Pictures, pace: Pace) -> float:
    scored = config.epochs * pictures.val + pictures.test
    return config.epochs * pictures.train / pace.training + scored / pace.scoring + pace.overhead_seconds


def sweep_seconds(trials: Sequence[float], workers: int, device: str) -> float:
    """From the first trial's start to the last one's end, each worker taking the next trial when it is free.

    On a CPU the workers share the cores that one alone would have for itself.
    """
    if device == "cpu":
        return sum(trials)
    free_at = [0.0] * workers
    for seconds in trials:
        heapq.heappush(free_at, heapq.heappop(free_at) + seconds)
    return max(free_at)


def state_bytes(config: RunConfig, checkpoint: int) -> int:
    """Bytes of the state that a run resumes from: weights, the optimiser's moments, and an average if it keeps one."""
    moments = 1 if config.optimizer == "sgd" else 2
    return checkpoint * (1 + moments + config.ema)


def about_time(seconds: float) -> str:
    """A duration as roughly as an estimate knows it: "40 min"."""
    if seconds < 55:
        return f"{max(1, round(seconds) if seconds < 10 else 5 * round(seconds / 5))} s"
    if (minutes := seconds / 60) < 90:
        return f"{max(1, round(minutes)) if minutes < 10 else 5 * round(minutes / 5)} min"
    if (hours := minutes / 60) < 48:
        return f"{round(2 * hours) / 2 if hours < 10 else round(hours):g} h"
    return f"{round(hours / 24)} days"


def about_bytes(count: float) -> str:
    """A size to two digits, in powers of ten: "340 MB"."""
    size, unit = next((pair for pair in ((1e12, "TB"), (1e9, "GB")) if count >= pair[0]), (1e6, "MB"))
    return f"{float(f'{count / size:.2g}'):g} {unit}"


def _pictures(configs: Sequence[RunConfig]) -> list[Pictures]:
    """How many images each run has."""
    found: dict[Hashable, Pictures] = {}
    each = []
    for config in configs:
        key = (config.data, config.split_seed, config.split_fraction)
        if key not in found:
            if not Path(config.data).expanduser().exists():
                raise UnknownCost(f"{config.data} is not there, so time and disk are not known.")
            folder = load_configured_folder(config)
            train, val, test = (len(split.files) for split in folder.splits)
            found[key] = Pictures(train, val, test, len(folder.classes))
        each.append(found[key])
    return each


def _paces(
    configs: Sequence[RunConfig], pictures: Sequence[Pictures], device: str, runs_dir: str | Path, probe: bool
) -> list[Pace]:
    """The pace of each run; runs of one kind whose batch sizes are near one power of two share a measurement."""
    runs = read_runs(runs_dir)
    known: dict[Hashable, Pace] = {}
    each = []
    for config, counts in zip(configs, pictures, strict=True):
        the_kind, batch = kind(config.to_dict()), round(math.log2(config.batch_size))
        # A probe on a CPU takes a small batch in any case.
        probed = (the_kind, batch if device == "cuda" else None, "probe")
        pace = known.get((the_kind, batch)) or pace_of_runs(runs, config, device, str(runs_dir)) or known.get(probed)
        if pace is None:
            if not probe:
                raise UnknownCost(
                    f"{runs_dir} holds no finished run of {config.model} here: time and disk are not known."
                )
            from harness.sweep.plan.benchmark import measure

            pace = known[probed] = measure(config, counts.classes)
        known[the_kind, batch] = pace
        each.append(pace)
    return each
