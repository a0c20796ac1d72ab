"""Where a finished run's model looks: everything that takes the model, done by all processes together.

What is seen is written down and drawn afterwards, by the main process alone: show.py.
"""

from __future__ import annotations

import dataclasses
import time

import numpy as np
from torchvision.models import VisionTransformer

from harness.config import RunConfig
from harness.data.cache import PixelCache
from harness.data.dataset import Dataset, Pictures
from harness.errors import HarnessError
from harness.explain import archive
from harness.explain.archive import Archive
from harness.explain.attention.collect import CollectOptions, collect
from harness.explain.attention.head_statistics import STATISTICS
from harness.explain.images import Crops, evenly_spaced, of_cache
from harness.explain.positions.change import Change, Embedding
from harness.model.architectures import head_layer
from harness.model.vit import Preprocessing
from harness.runs.context import RunContext
from harness.runs.rules import duration
from harness.training.dataloaders import explaining_batches
from harness.training.distributed import Processes
from harness.training.signals import StopSignals
from harness.training.state import TrainState


@dataclasses.dataclass(frozen=True)
class ExplainedModel:
    """Whose attention is looked at."""

    model: VisionTransformer  # in eval mode, on the device; neither compiled nor wrapped
    name: str  # of the architecture
    weights: str
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    run: str | None = None


@dataclasses.dataclass(frozen=True)
class ExplainResult:
    """What was seen of a model."""

    archive: Archive
    pictures: Crops
    change: Change | None
    top_classes: np.ndarray  # (n, up to 5), the likeliest first ...
    top_probabilities: np.ndarray  # ... and how likely they are


def explain_test_set(run: RunContext, state: TrainState, data: Dataset, before: Embedding) -> ExplainResult | None:
    """Look at what --explain asks for, by the weights that were tested; None on all processes but the main one.

    The run is trained and tested: what goes wrong here is said and written down, and costs no more than the images.
    """
    config, processes, run_logger = run.config, run.processes, run.run_logger
    if config.explain == "none":
        return None
    chosen = np.array(evenly_spaced(len(data.test), len(data.test) if config.explain == "all" else int(config.explain)))
    files = tuple(data.test.files[index] for index in chosen)
    pictures = Pictures(data.test.positions[chosen], data.test.labels[chosen], files)
    # Accelerate has put mixed precision into the model's own forward; attention is looked at without.
    model = processes.accelerator.unwrap_model(state.model, keep_fp32_wrapper=False)
    subject = ExplainedModel(model, config.model, config.weights, data.classes, run.preprocessing, config.run_name)
    layer = head_layer(config.model, config.explain_layer)
    run_logger.console.close()
    run_logger.console.say(f"Explaining {len(pictures)} test images: attention of every layer, rollout, relevance.")
    try:
        sight = explain_dataset(subject, data.pixels, pictures, config.data, layer, config, processes, before, run.stop)
    except HarnessError as error:
        run_logger.problem("attention", str(error))
        return None
    if sight:
        run_logger.console.say(f"Explained {len(pictures)} images in {duration(sight.archive.settings['seconds'])}.")
    return sight


def explain_dataset(
    subject: ExplainedModel,
    pixels: PixelCache,
    pictures: Pictures,
    root: str,
    layer: int,
    config: RunConfig,
    processes: Processes,
    before: Embedding | None = None,
    stop: StopSignals | None = None,
) -> ExplainResult | None:
    """Look at images, all processes together; None on all but the main one. Files are relative to `root`."""
    after = Embedding.of(subject.model)
    wanted = CollectOptions(layer, projections=(before.projection, after.projection) if before else ())
    batches = explaining_batches(pixels, pictures, subject.preprocessing, config, processes)
    start = time.perf_counter()
    collected = collect(subject.model, batches, len(pictures), wanted, processes, stop)
    if collected is None:
        return None
    settings = {
        "version": archive.VERSION,
        "model": subject.name,
        "weights": subject.weights,
        "run": subject.run,
        "root": root,
        "patch_size": subject.model.patch_size,
        "image_size": subject.model.image_size,
        "grid": [subject.model.image_size // subject.model.patch_size] * 2,
        "head_layer": layer,
        "rollout": dataclasses.asdict(wanted.rollout),
        "preprocessing": dataclasses.asdict(subject.preprocessing),
        "self_test": collected.self_test,
        "seconds": time.perf_counter() - start,
    }
    found = Archive(
        files=np.array(pictures.files),
        classes=np.array(subject.classes),
        statistics=collected.statistics,
        statistic_names=np.array(STATISTICS),
        settings=settings,
        **collected.pictures,
    )
    return ExplainResult(
        found,
        of_cache(pixels, pictures.positions, subject.preprocessing.crop_size),
        Change(before, after, collected.content_lengths) if before else None,
        collected.top_classes,
        collected.top_probabilities,
    )
