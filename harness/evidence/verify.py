"""verify: everything that is measured of a run's attention maps, from its best checkpoint to `evidence.json`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from harness.config import RunConfig
from harness.data.dataset import CachedImages, Dataset
from harness.errors import HarnessError
from harness.evidence import depth, faithfulness, heads, output, pointing, position_use, randomisation
from harness.evidence.depth import Labelled
from harness.evidence.subject import Subject
from harness.explain.archive import Archive
from harness.explain.images import evenly_spaced
from harness.explain.localization import centre_prior, coverage, mask_path
from harness.explain.test_set import ExplainedModel, explain_dataset
from harness.model.architectures import head_layer
from harness.model.vit import build_model
from harness.predict import best_of, open_run
from harness.runs.evidence_file import LAST_LAYER, MEAN_OF_LAYERS, Claim
from harness.runs.rules import LEGRAD, RELEVANCE, ROLLOUT, duration
from harness.track import Tracker
from harness.training.checkpoint import BestCheckpoint
from harness.training.dataloaders import explaining_batches
from harness.training.distributed import Processes

IMAGES = 500  # test images, by default
MOST_TRAINING_IMAGES = 5000  # for fitting probes; more would not change which layers are enough
SHOWN_MAP = RELEVANCE  # claims are about it: chosen before, so that no run's result favours a map
RANDOM_SEED = 1  # of the weights that replace the trained ones

Say = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Opened:
    """A run's model and data, ready to measure."""

    best: BestCheckpoint
    config: RunConfig
    dataset: Dataset
    processes: Processes
    tested: CachedImages  # the test images that are used

    def batches(self, images: CachedImages) -> Callable[[], Iterator[Tensor]]:
        loader = explaining_batches(self.dataset.pixels, images, self.best.preprocessing, self.config, self.processes)
        # On a CPU an image is valid until the next batch is drawn.
        return lambda: (batch.images.clone() for batch in loader)

    def maps_of(self, model: nn.Module) -> Archive:
        explained = ExplainedModel(
            model, self.config.model, self.config.weights, self.best.classes, self.best.preprocessing
        )
        layer = head_layer(self.config.model, None)
        pixels, root = self.dataset.pixels, self.config.data
        result = explain_dataset(explained, pixels, self.tested, root, layer, self.config, self.processes)
        assert result is not None  # this is the only process
        return result.archive


def verify(run_folder: Path, images: int, data: str | None, cache_dir: str | None, say: Say) -> list[Claim]:
    """Measure, write `evidence.json` and figures, and return the claims with their verdicts. Raises HarnessError."""
    best, config, dataset = open_run(run_folder, data, cache_dir)
    processes = Processes(config)
    try:
        opened = _opened(best, config, dataset, processes, images)
        claims, results = _measure(opened, say)
    finally:
        processes.close()
    output.write_and_log(run_folder, len(opened.tested), claims, results)
    return claims


def verify_finished(
    run_folder: Path, config: RunConfig, dataset: Dataset, processes: Processes, tracker: Tracker | None, say: Say
) -> dict[str, Any]:
    """The same for a run that has just been tested, on its main process; returns entries of summary.json."""
    opened = _opened(best_of(run_folder), config, dataset, processes, IMAGES)
    claims, results = _measure(opened, say)
    for claim in claims:
        say(f"{claim.verdict}: {claim.statement} ({claim.number}: {claim.numbers})")
    return output.write_and_log(run_folder, len(opened.tested), claims, results, tracker)


def _opened(best: BestCheckpoint, config: RunConfig, dataset: Dataset, processes: Processes, images: int) -> Opened:
    """With evenly spaced test images, and the model on the device."""
    chosen = dataset.test.take(evenly_spaced(len(dataset.test), images))
    if len(chosen) < 2:
        raise HarnessError(f"{len(chosen)} test image is not enough to verify anything; at least 2 are needed.")
    best.model.to(processes.device)
    return Opened(best, config, dataset, processes, chosen)


def _measure(opened: Opened, say: Say) -> tuple[list[Claim], dict[str, Any]]:
    best, model = opened.best, opened.best.model
    archive = opened.maps_of(model)
    subject = Subject(
        model,
        opened.batches(opened.tested),
        archive.labels.astype(np.int64),
        archive.predicted.astype(np.int64),
        len(best.classes),
    )
    fitting, choosing = opened.dataset.train, opened.dataset.val
    fitting = fitting.take(evenly_spaced(len(fitting), MOST_TRAINING_IMAGES))
    train, val = (Labelled(opened.batches(part), part.labels) for part in (fitting, choosing))
    maps = maps_by_name(archive)
    side = math.isqrt(archive.rollout.shape[1])
    baselines = faithfulness.baselines(maps, centre_prior(side), len(subject))
    clock = _Clock(say)
    results: dict[str, Any] = {}
    claims: list[Claim] = []

    clock.start("depth", depth.passes(subject, train, val))
    results["depth"] = depth.measure_depth(subject, train, val)
    claims.append(results["depth"].claim())

    clock.start("heads", heads.passes(subject))
    results["heads"] = heads.measure_heads(subject)
    claims.append(results["heads"].claim())

    clock.start("positions", position_use.passes(subject))
    if positions := position_use.measure_position_use(subject):
        results["positions"] = positions
        claims.append(positions.claim())

    clock.start("faithfulness", faithfulness.passes(subject, maps))
    faithful = faithfulness.measure_faithfulness(subject, maps, baselines)
    if faithful:
        results["faithfulness"] = faithful
    claims.append(faithful.claim() if faithful else faithfulness.not_measured())

    clock.start("randomisation", len(subject) * len(randomisation.STAGES))
    random = _random_model(best, opened.processes)
    results["randomisation"] = randomisation.measure_randomisation(
        maps, lambda mixed: maps_by_name(opened.maps_of(mixed)), model, random, beats_guessing=subject.beats_guessing
    )
    claims.append(results["randomisation"].claim(SHOWN_MAP))

    if (covered := _coverage(opened, side)) is not None:
        rows, parts = covered
        results["pointing"] = pointing.measure_pointing(
            {name: values[rows] for name, values in maps.items()},
            {name: values[rows] for name, values in baselines.items()},
            parts,
            beats_guessing=subject.beats_guessing,
        )
        claims.append(results["pointing"].claim(SHOWN_MAP))
    clock.stop()
    return claims, results


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


def _random_model(best: BestCheckpoint, processes: Processes) -> nn.Module:
    """New weights for the same architecture; the head too, which would otherwise start at zero."""
    config = best.config
    model = build_model(
        config.model,
        num_classes=len(best.classes),
        weights="none",
        image_size=best.preprocessing.crop_size,
        head_init="default",
        seed=RANDOM_SEED,
    ).model
    return model.eval().to(processes.device)


def _coverage(opened: Opened, side: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Which of the images have an object inside the crop, and how much of each patch it covers; None if none has."""
    root, files = Path(opened.config.data), opened.tested.files
    masked = [index for index, file in enumerate(files) if mask_path(root, file).is_file()]
    if not masked:
        return None
    covered = coverage(root, [files[index] for index in masked], opened.best.preprocessing, side)
    inside = (covered >= pointing.HALF).any(1)
    return (np.array(masked)[inside], covered[inside]) if inside.any() else None


class _Clock:
    """Says what is measured, at what cost, and how long it took."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._name = ""
        self._began = 0.0

    def start(self, name: str, passes: int) -> None:
        self.stop()
        self._say(f"{name}: {passes:,} images through the model")
        self._name, self._began = name, time.perf_counter()

    def stop(self) -> None:
        if self._name:
            self._say(f"{self._name}: {duration(time.perf_counter() - self._began)}")
        self._name = ""
