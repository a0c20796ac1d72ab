"""verify: everything that is measured of a run's attention maps, from its best checkpoint to `evidence.json`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from harness.config import RunConfig
from harness.data.dataset import Dataset
from harness.evidence import depth, faithfulness, heads, output, pairs, pointing, position_use, randomisation
from harness.evidence.depth import Labelled
from harness.evidence.opened import IMAGES, Opened, maps_by_name, open_for_verifying, random_model
from harness.evidence.subject import Subject
from harness.explain.images import evenly_spaced
from harness.explain.localization import centre_prior, coverage, mask_path
from harness.predict import best_of, open_run
from harness.runs.evidence_file import Claim
from harness.runs.rules import RELEVANCE, duration
from harness.track import Tracker
from harness.training.distributed import Processes

MOST_TRAINING_IMAGES = 5000  # for fitting probes; more would not change which layers are enough
SHOWN_MAP = RELEVANCE  # claims are about it: chosen before, so that no run's result favours a map

Say = Callable[[str], None]


def verify(run_folder: Path, images: int, data: str | None, cache_dir: str | None, say: Say) -> list[Claim]:
    """Measure, write `evidence.json` and figures, and return the claims with their verdicts. Raises HarnessError."""
    best, config, dataset = open_run(run_folder, data, cache_dir)
    processes = Processes(config)
    try:
        opened = open_for_verifying(best, config, dataset, processes, images)
        measured = _measure(opened, say)
    finally:
        processes.close()
    output.write_and_log(run_folder, len(opened.tested), measured)
    return measured.claims


def verify_finished(
    run_folder: Path, config: RunConfig, dataset: Dataset, processes: Processes, tracker: Tracker | None, say: Say
) -> dict[str, Any]:
    """The same for a run that has just been tested, on its main process; returns entries of summary.json."""
    opened = open_for_verifying(best_of(run_folder), config, dataset, processes, IMAGES)
    measured = _measure(opened, say)
    for claim in measured.claims:
        say(f"{claim.verdict}: {claim.statement} ({claim.number}: {claim.numbers})")
    return output.write_and_log(run_folder, len(opened.tested), measured, tracker)


def _measure(opened: Opened, say: Say) -> output.Measured:
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
    random = random_model(best, opened.processes)
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
    clock.start("before and after, and mistakes", 2 * len(subject))
    figures = {}
    for name, (paired, figure) in pairs.pairs_with_figures(opened, archive, subject, say).items():
        results[name], figures[name] = paired.measured(), figure
    clock.stop()
    return output.Measured(claims, results, figures)


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
