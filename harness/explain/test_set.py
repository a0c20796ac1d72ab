"""Explains the predictions of a finished run's model, on all processes together.

The main process writes and draws the result afterwards: output.py.
"""

from __future__ import annotations

import dataclasses
import time

import numpy as np
from torch import nn

from harness.config import RunConfig
from harness.data.dataset import CachedImages, Dataset
from harness.errors import HarnessError
from harness.explain.attention.collect import collect
from harness.explain.attention.head_statistics import STATISTICS
from harness.explain.attention.rollout import SETTINGS as ROLLOUT_SETTINGS
from harness.explain.images import Crops, evenly_spaced, of_cache
from harness.explain.positions.change import Change, Embedding
from harness.model import adapter
from harness.model.architectures import head_layer
from harness.model.preprocessing import Preprocessing
from harness.runs.attention_files import Archive
from harness.runs.context import RunContext
from harness.runs.rules import VERSION, duration
from harness.training.dataloaders import explaining_batches
from harness.training.distributed import Processes
from harness.training.signals import StopSignals
from harness.training.state import TrainState

AUTO_IMAGES = 2000  # with --explain auto; a large test set would fill a disk with pages


@dataclasses.dataclass(frozen=True)
class ExplainedModel:
    """The model whose attention is captured."""

    model: nn.Module  # in eval mode, on the device; neither compiled nor wrapped
    name: str  # of the architecture
    weights: str
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    run: str | None = None


@dataclasses.dataclass(frozen=True)
class ExplainResult:
    """Arrays of the explained images, and what else drawing needs."""

    archive: Archive
    images: Crops
    change: Change | None
    top_classes: np.ndarray  # (n, up to 5), the likeliest first ...
    top_probabilities: np.ndarray  # ... and how likely they are


def explain_test_set(
    run: RunContext, state: TrainState, data: Dataset, before: Embedding | None
) -> ExplainResult | None:
    """Explain the images that --explain selects, with the tested weights; None on all processes but the main one.

    The run is already trained and tested, so a HarnessError is logged and recorded and does not fail the run.
    """
    config, processes, run_logger = run.config, run.processes, run.run_logger
    if config.explain == "none":
        return None
    total = len(data.test)
    most = {"all": total, "auto": AUTO_IMAGES}.get(config.explain) or int(config.explain)
    images = data.test.take(evenly_spaced(total, most))
    # Accelerate has put mixed precision into the model's own forward; attention is captured without it.
    model = processes.accelerator.unwrap_model(state.model, keep_fp32_wrapper=False)
    explained = ExplainedModel(model, config.model, config.weights, data.classes, run.preprocessing, config.run_name)
    layer = head_layer(config.model, config.explain_layer)
    run_logger.console.close()
    run_logger.console.say(f"Explaining {len(images)} test images: relevance, LeGrad, rollout, every layer.")
    if before is None:
        run_logger.console.say(adapter.parts(model).no_positions)
    if config.explain == "auto" and len(images) < total:
        run_logger.console.say(f"These are evenly spaced among all {total}; --explain all explains every one.")
    try:
        result = explain_dataset(explained, images, str(data.root), layer, config, processes, before, run.stop)
    except HarnessError as error:
        run_logger.problem("attention", str(error))
        return None
    if result:
        run_logger.console.say(f"Explained {len(images)} images in {duration(result.archive.settings['seconds'])}.")
    return result


def explain_dataset(
    explained: ExplainedModel,
    images: CachedImages,
    root: str,
    layer: int,
    config: RunConfig,
    processes: Processes,
    before: Embedding | None = None,
    stop: StopSignals | None = None,
) -> ExplainResult | None:
    """Explain images, all processes together; None on all but the main one. Files are relative to `root`."""
    parts = adapter.parts(explained.model)
    after = Embedding.of(explained.model)
    compared = (before, after) if before and after else None
    projections = [each.projection for each in compared or ()]
    batches = explaining_batches(images, explained.preprocessing, config, processes)
    start = time.perf_counter()
    collected = collect(explained.model, batches, len(images), layer, projections, processes, stop)
    if collected is None:
        return None
    settings = {
        "version": VERSION,
        "model": explained.name,
        "weights": explained.weights,
        "run": explained.run,
        "root": root,
        "patch_size": parts.patch_size,
        "image_size": parts.image_size,
        "grid": [parts.grid] * 2,
        "prefix_tokens": parts.layout.prefix,
        "pools_patches": parts.layout.pools_patches,
        "read_tokens": parts.layout.read,
        "pools_by_attention": parts.layout.pools_by_attention,
        "head_layer": layer,
        "rollout": ROLLOUT_SETTINGS,
        "preprocessing": dataclasses.asdict(explained.preprocessing),
        "self_test": collected.self_test,
        "seconds": time.perf_counter() - start,
    }
    arrays = Archive(
        files=np.array(images.files),
        classes=np.array(explained.classes),
        statistics=collected.statistics,
        statistic_names=np.array(STATISTICS),
        settings=settings,
        **collected.per_image,
    )
    return ExplainResult(
        arrays,
        of_cache(images.cache, images.positions, explained.preprocessing.crop_size),
        Change(*compared, collected.content_lengths) if compared else None,
        collected.top_classes,
        collected.top_probabilities,
    )
