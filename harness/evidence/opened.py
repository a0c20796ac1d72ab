"""What `harness verify` measures: a run's model, its data, and the maps of models like it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor, nn

from harness.config import RunConfig
from harness.data.dataset import CachedImages, Dataset
from harness.errors import HarnessError
from harness.explain.images import evenly_spaced
from harness.explain.test_set import ExplainedModel, explain_dataset
from harness.model.architectures import check_verifiable, head_layer
from harness.model.new_model import new_model
from harness.runs.attention_files import Archive
from harness.runs.evidence_file import LAST_LAYER, MEAN_OF_LAYERS
from harness.runs.rules import LEGRAD, RELEVANCE, ROLLOUT
from harness.training.checkpoint import BestCheckpoint
from harness.training.dataloaders import explaining_batches
from harness.training.distributed import Processes

IMAGES = 500  # test images, by default
FEW = 150  # of them, for what takes dozens of passes through the model for each image
RANDOM_SEED = 1  # of the weights that replace the trained ones


@dataclass(frozen=True, eq=False)
class Opened:
    """A run's model and data, ready to measure."""

    best: BestCheckpoint
    config: RunConfig
    dataset: Dataset
    processes: Processes
    tested: CachedImages  # the test images that are used

    @property
    def few(self) -> list[int]:
        """Which of the test images the most expensive measures use: at most FEW, evenly spaced."""
        return evenly_spaced(len(self.tested), FEW)

    def batches(self, images: CachedImages) -> Callable[[], Iterator[Tensor]]:
        loader = explaining_batches(images, self.best.preprocessing, self.config, self.processes)
        # On a CPU an image is valid until the next batch is drawn.
        return lambda: (batch.images.clone() for batch in loader)

    def maps_of(self, model: nn.Module, images: CachedImages) -> Archive:
        explained = ExplainedModel(
            model, self.config.model, self.config.weights, self.best.classes, self.best.preprocessing
        )
        layer = head_layer(self.config.model, None)
        result = explain_dataset(explained, images, str(self.dataset.root), layer, self.config, self.processes)
        assert result is not None  # this is the only process
        return result.archive


def open_for_verifying(
    best: BestCheckpoint, config: RunConfig, dataset: Dataset, processes: Processes, images: int
) -> Opened:
    """With evenly spaced test images, and the model on the device."""
    check_verifiable(config.model)
    chosen = dataset.test.take(evenly_spaced(len(dataset.test), images))
    if len(chosen) < 2:
        raise HarnessError(f"{len(chosen)} test image is not enough to verify anything; at least 2 are needed.")
    best.model.to(processes.device)
    return Opened(best, config, dataset, processes, chosen)


def maps_by_name(archive: Archive) -> Mapping[str, np.ndarray]:
    """The maps that are compared, (n, P) each, the one that pages show first."""
    layers = archive.layers.astype(np.float64)
    assert archive.legrad is not None  # it is of this version
    return {
        RELEVANCE: archive.relevance.astype(np.float64),
        LEGRAD: archive.legrad.astype(np.float64),
        LAST_LAYER: layers[:, -1],
        MEAN_OF_LAYERS: layers.mean(1),
        ROLLOUT: archive.rollout.astype(np.float64),
    }


def random_model(best: BestCheckpoint, processes: Processes) -> nn.Module:
    """New weights for the same architecture; the head too, which would otherwise start at zero."""
    model = new_model(best.config.model, best.preprocessing.crop_size, len(best.classes), "default", RANDOM_SEED)
    return model.eval().to(processes.device)
