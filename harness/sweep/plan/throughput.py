"""How fast a model trains and scores on this machine, measured in earlier runs."""

from __future__ import annotations

import statistics
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.config import RunConfig
from harness.runs.rules import printable
from harness.settings.model import NAMED_WEIGHTS
from reports.runs import Run

# A training step is a forward and a backward pass; the backward pass costs twice as much.
SCORING_TO_TRAINING = 3

# Settings that speed depends on, besides the model and the image size. It hardly depends on the batch size.
_SPEED_SETTINGS = ("freeze", "grad_checkpointing", "compile", "precision")

# Bytes of figures, tables and W&B's offline record of a run with few classes; attention maps come on top.
RUN_FILES = 500_000

# Runs whose files are counted.
COUNTED_RUNS = 5


@dataclass(frozen=True)
class Throughput:
    """The measured speed and size of a model on this machine."""

    training: float  # images per second
    scoring: float  # images per second
    overhead_seconds: float  # seconds of a run outside training and scoring: start-up, figures, saving
    checkpoint: int | None  # bytes of the best weights on disk
    source: str  # the measurement, in words
    files: int = RUN_FILES  # bytes of a run besides its checkpoints
    threads: int | None = None  # CPU threads of a training step; None if that is not known
    disturbed: bool = False  # whether something else used the processor meanwhile


def speed_key(config: Mapping[str, Any]) -> Hashable:
    """Equal for two runs that take equally long per image. The config is that of a RunConfig."""
    weights = config.get("weights")
    if weights not in NAMED_WEIGHTS:
        weights = str(Path(str(weights)).expanduser().resolve())
    # Without --image-size, the weights decide the size of the images.
    size = config.get("image_size") or weights
    lora = (config["lora_rank"], config.get("lora_targets")) if config.get("lora_rank") else ()
    captured = ("cuda_graph",) if config.get("cuda_graph") else ()
    return (config.get("model"), size, *(config.get(name) for name in _SPEED_SETTINGS), *lora, *captured)


def throughput_of_runs(runs: Sequence[Run], config: RunConfig, device: str, folder: str) -> Throughput | None:
    """The median throughput of finished runs with this speed key on a `device` ("cpu" or "cuda"); None without runs.

    Runs with several processes count per process. Runs with the same batch size are preferred.
    """
    key = speed_key(config.to_dict())
    similar = [run for run in runs if run.finished and run.manifest.get("device") == device and _training(run) > 0]
    similar = [run for run in similar if speed_key(run.config) == key]
    similar = [run for run in similar if run.config.get("batch_size") == config.batch_size] or similar
    if not similar:
        return None
    training = statistics.median(map(_training, similar))
    overheads = [seconds for run in similar if (seconds := _overhead(run)) is not None]
    sizes = [size for run in similar if (size := _size(run.path / "checkpoints" / "best.safetensors"))]
    return Throughput(
        training,
        training * SCORING_TO_TRAINING,
        statistics.median(overheads) if overheads else 0.0,
        max(sizes, default=None),
        f"{len(similar)} finished run{'s' * (len(similar) > 1)} of {config.model} in {folder}: {training:.3g} images "
        f"per second in training, on {' and '.join(sorted({_machine(run) for run in similar}))}",
        int(statistics.median(_files(run.path) for run in similar[:COUNTED_RUNS])),
        _threads(similar),
    )


def _training(run: Run) -> float:
    """Training images per second and process; 0 if the run did not log them."""
    processes = run.manifest.get("processes")
    return (run.metric("train/images_per_second") or 0.0) / (processes if type(processes) is int and processes else 1)


def _threads(runs: Sequence[Run]) -> int | None:
    """The largest number of CPU threads; None if one of the runs, of an earlier version, does not name it."""
    named = [run.manifest.get("threads") for run in runs]
    numbers = [threads for threads in named if type(threads) is int and threads > 0]
    return max(numbers) if len(numbers) == len(runs) else None


def _overhead(run: Run) -> float | None:
    """Seconds outside training and scoring; None for a run that was interrupted."""
    total, training = run.metric("seconds/total"), run.metric("seconds/train")
    data = run.manifest.get("data")
    counts = data.get("images") if isinstance(data, dict) else None
    if run.manifest.get("earlier_starts") or total is None or training is None or not isinstance(counts, dict):
        return None
    try:
        epochs = run.metric("stopped_early/epoch") or run.config["epochs"]
        scored = epochs * counts["val"] + counts["test"]
    except (KeyError, TypeError):
        return None
    return max(0.0, total - training - scored / (_training(run) * SCORING_TO_TRAINING))


def _machine(run: Run) -> str:
    hardware = run.manifest.get("hardware")
    if not isinstance(hardware, dict):
        return "an unknown machine"
    gpus = hardware.get("gpus")
    what = gpus[0] if isinstance(gpus, list) and gpus else f"{hardware.get('cpu')}, {hardware.get('cores')} cores"
    return printable(what)


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def _files(folder: Path) -> int:
    """Bytes of the files of a run besides its checkpoints."""
    checkpoints = folder / "checkpoints"
    return sum(_size(path) or 0 for path in folder.rglob("*") if path.is_file() and checkpoints not in path.parents)
