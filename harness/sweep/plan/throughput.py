"""How fast a model trains and scores on this machine, as earlier runs tell it."""

from __future__ import annotations

import statistics
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.config import NAMED_WEIGHTS, RunConfig
from harness.runs.rules import printable
from reports.runs import Run

# A training step is a forward and a backward pass, and the latter costs twice the former.
SCORING_TO_TRAINING = 3

# Settings beside model and size of the images that speed depends on; on the batch size it depends little.
_COSTS = ("freeze", "grad_checkpointing", "compile", "precision")


@dataclass(frozen=True)
class Pace:
    """What was measured of a model on this machine."""

    training: float  # images per second
    scoring: float  # images per second
    overhead_seconds: float  # seconds of a run that are neither: starting, figures, saving
    checkpoint: int | None  # bytes of the best weights on the disk
    source: str  # the measurement, in words


def kind(config: Mapping[str, Any]) -> Hashable:
    """What two runs share that take equally long for an image; the settings are those of a RunConfig."""
    weights = config.get("weights")
    if weights not in NAMED_WEIGHTS:
        weights = str(Path(str(weights)).expanduser().resolve())
    # Without an --image-size, the weights decide how large images are.
    size = config.get("image_size") or weights
    return (config.get("model"), size, *(config.get(name) for name in _COSTS))


def pace_of_runs(runs: Sequence[Run], config: RunConfig, device: str, folder: str) -> Pace | None:
    """The pace of the finished runs of this kind on a `device` ("cpu" or "cuda"); None if there are none.

    Runs of several processes count with what one of them did. Those of the same batch size are preferred.
    """
    wanted = kind(config.to_dict())
    alike = [run for run in runs if run.finished and run.manifest.get("device") == device and _training(run) > 0]
    alike = [run for run in alike if kind(run.config) == wanted]
    alike = [run for run in alike if run.config.get("batch_size") == config.batch_size] or alike
    if not alike:
        return None
    training = statistics.median(map(_training, alike))
    besides = [seconds for run in alike if (seconds := _besides(run)) is not None]
    sizes = [size for run in alike if (size := _size(run.path / "checkpoints" / "best.safetensors"))]
    return Pace(
        training,
        training * SCORING_TO_TRAINING,
        statistics.median(besides) if besides else 0.0,
        max(sizes, default=None),
        f"{len(alike)} finished run{'s' * (len(alike) > 1)} of {config.model} in {folder}: {training:.3g} images per "
        f"second in training, on {' and '.join(sorted({_machine(run) for run in alike}))}",
    )


def _training(run: Run) -> float:
    """Images per second and process in training; 0 where the run does not say."""
    processes = run.manifest.get("processes")
    return (run.metric("train/images_per_second") or 0.0) / (processes if type(processes) is int and processes else 1)


def _besides(run: Run) -> float | None:
    """Seconds that went neither into training nor into scoring; None for a run that was interrupted."""
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
