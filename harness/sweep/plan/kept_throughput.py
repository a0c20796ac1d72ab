"""A benchmark's result in the user's cache folder: a repeated plan neither measures again nor imports torch."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import platform
import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import harness
from harness.config import RunConfig
from harness.data.cache import user_cache_directory
from harness.errors import HarnessError
from harness.files import write_atomically
from harness.launch.cores import cpu_name, default_threads, usable_cores
from harness.launch.gpus import gpu_names
from harness.runs.reading import content_of
from harness.runs.rules import finite_number, printable
from harness.sweep.plan.throughput import Throughput, speed_key

FOLDER = "throughput"

# Settings that a step of the benchmark depends on, besides those of `speed_key`.
_STEP_SETTINGS = ("optimizer", "ema", "deterministic", "micro_batch")
_PACKAGES = ("torch", "torchvision", "accelerate", "timm")


@dataclasses.dataclass(frozen=True)
class KeptThroughput:
    """What an earlier benchmark measured, how many seconds ago, and its file."""

    throughput: Throughput
    age: float
    path: Path


def benchmark_key(config: RunConfig, classes: int, device: str) -> str:
    """All that changes what a benchmark measures, as JSON: model, settings, weights file, machine, versions."""
    on_gpu = device == "cuda"
    key = {
        "speed": speed_key(config.to_dict()),
        "settings": {name: getattr(config, name) for name in _STEP_SETTINGS},
        "drop_path": config.drop_path > 0,
        "clip_grad": config.clip_grad > 0,
        "classes": classes,
        # On a CPU, the number of threads depends on it; with --threads, speed hardly does.
        "batch_size": config.batch_size if on_gpu or not config.threads else None,
        "threads": None if on_gpu else config.threads or default_threads(1),
        "weights_file": _stamp(config.weights),  # it may decide the image size
        "machine": [platform.node(), cpu_name(), usable_cores()],
        "gpus": [*gpu_names(), os.environ.get("CUDA_VISIBLE_DEVICES")] if on_gpu else [],
        "mixed_precision": os.environ.get("ACCELERATE_MIXED_PRECISION"),
        "versions": {"vit-harness": harness.__version__} | {name: _version(name) for name in _PACKAGES},
    }
    return json.dumps(key, sort_keys=True)


def read_throughput(key: str) -> KeptThroughput | None:
    """The throughput that was kept under a key; None if there is none, or its file cannot be used."""
    path = _file(key)
    try:
        stored = json.loads(content_of(path))
        if stored["key"] != key:
            return None
        measured_at = finite_number(stored["time"])
        if measured_at is None or measured_at <= 0:
            return None
        return KeptThroughput(_checked(stored["throughput"]), max(0.0, time.time() - measured_at), path)
    except (OSError, ValueError, LookupError, TypeError, OverflowError, RecursionError):
        return None


def keep_throughput(key: str, throughput: Throughput) -> None:
    """Keep it for later plans; if the folder cannot be written to, they measure again."""
    stored = {"key": key, "time": time.time(), "throughput": dataclasses.asdict(throughput)}
    with contextlib.suppress(OSError, HarnessError):
        write_atomically(_file(key), json.dumps(stored, indent=2).encode())


def _file(key: str) -> Path:
    return user_cache_directory() / FOLDER / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"


def _checked(values: Mapping[str, Any]) -> Throughput:
    """Raises ValueError, LookupError or TypeError for values that no benchmark has written."""
    training, scoring, overhead = (finite_number(values[name]) for name in ("training", "scoring", "overhead_seconds"))
    checkpoint, source, threads = values["checkpoint"], values["source"], values["threads"]
    if not (training and scoring and overhead and min(training, scoring, overhead) > 0):
        raise ValueError("its numbers cannot be used")
    if type(checkpoint) is not int or checkpoint <= 0 or type(source) is not str:
        raise ValueError("its size or source cannot be used")
    if type(threads) is not int or threads <= 0:
        raise ValueError("its number of threads cannot be used")
    return Throughput(training, scoring, overhead, checkpoint, printable(source), threads=threads)


def _stamp(weights: str) -> list[int] | None:
    """Size and modification time of a weights file; None for named weights."""
    try:
        facts = Path(weights).expanduser().stat()
    except (OSError, ValueError):
        return None
    return [facts.st_size, facts.st_mtime_ns]


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
