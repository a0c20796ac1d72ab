"""verify: everything that is measured of a run's attention maps, from its best checkpoint to `evidence.json`."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.config import RunConfig
from harness.data.dataset import Dataset
from harness.evidence import depth, faithfulness, heads, output, pairs, pointing, position_use, randomisation
from harness.evidence.depth import Labelled
from harness.evidence.opened import IMAGES, Opened, maps_by_name, open_for_verifying, random_model
from harness.evidence.progress import open_progress
from harness.evidence.subject import Subject
from harness.explain.images import evenly_spaced
from harness.explain.localization import centre_prior, coverage, mask_path
from harness.predict import best_of, open_run
from harness.runs.attention_files import Archive
from harness.runs.evidence_file import Claim
from harness.runs.rules import RELEVANCE, duration, finite
from harness.track import Tracker
from harness.training.distributed import Processes

MOST_TRAINING_IMAGES = 5000  # for fitting probes; more would not change which layers are enough
SHOWN_MAP = RELEVANCE  # claims are about it: chosen before, so that no run's result favours a map

Say = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Material:
    """What the measures share: subjects, and the maps (n, P) of all test images."""

    opened: Opened
    archive: Archive
    subject: Subject
    few: Subject  # some of its images, for the most expensive measures
    maps: Mapping[str, np.ndarray]
    baselines: Mapping[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Measure:
    """One measure: its name in evidence.json, the images that go through the model, and what computes it.

    The result is a dataclass, or None if there is nothing to measure; `claims` are made of it.
    """

    name: str
    passes: int
    compute: Callable[[], Any]
    claims: Callable[[Any], list[Claim]] = lambda result: [result.claim()] if result else []


def verify(
    run_folder: Path, images: int, data: str | None, cache_dir: str | None, threads: int | None, say: Say
) -> list[Claim]:
    """Measure, write `evidence.json` and figures, and return the claims with their verdicts. Raises HarnessError."""
    best, config, dataset = open_run(run_folder, data, cache_dir, say)
    processes = Processes(dataclasses.replace(config, threads=threads))  # the run's may be those of another machine
    try:
        opened = open_for_verifying(best, config, dataset, processes, images)
        return _verify(run_folder, opened, say, None)[0]
    finally:
        processes.close()


def verify_finished(
    run_folder: Path, config: RunConfig, dataset: Dataset, processes: Processes, tracker: Tracker | None, say: Say
) -> dict[str, Any]:
    """The same for a run that has just been tested, on its main process; returns entries of summary.json."""
    opened = open_for_verifying(best_of(run_folder), config, dataset, processes, IMAGES)
    claims, summary = _verify(run_folder, opened, say, tracker)
    for claim in claims:
        say(f"{claim.verdict}: {claim.statement} ({claim.number}: {claim.numbers})")
    return summary


def _verify(run_folder: Path, opened: Opened, say: Say, tracker: Tracker | None) -> tuple[list[Claim], dict[str, Any]]:
    """Run every measure that an earlier, interrupted verification has not finished, and write the result."""
    progress = open_progress(run_folder, opened)
    with _timed("maps", len(opened.tested), say):
        material = _material(opened)
    for measure in _measures(material):
        if measure.name in progress.done:
            say(f"{measure.name}: measured before")
            continue
        with _timed(measure.name, measure.passes, say):
            result = measure.compute()
            progress.add(measure.name, result, measure.claims(result))
    results, figures = progress.results, {}
    with _timed("before and after, and mistakes", 2 * len(material.subject), say):
        compared = pairs.pairs_with_figures(run_folder, opened, material.archive, material.subject, say)
        for name, (paired, figure) in compared.items():
            results[name], figures[name] = finite(dataclasses.asdict(paired.measured())), figure
    claims = progress.claims
    summary = output.write_and_log(run_folder, len(opened.tested), claims, results, figures, tracker)
    progress.remove()
    return claims, summary


def _material(opened: Opened) -> Material:
    tested, few = opened.tested, opened.few
    archive = opened.maps_of(opened.best.model, tested)
    labels, predicted = archive.labels.astype(np.int64), archive.predicted.astype(np.int64)
    model, classes = opened.best.model, len(opened.best.classes)
    subject = Subject(model, opened.batches(tested), labels, predicted, classes)
    of_few = Subject(model, opened.batches(tested.take(few)), labels[few], predicted[few], classes)
    maps = maps_by_name(archive)
    centre = centre_prior(math.isqrt(archive.rollout.shape[1]))
    return Material(opened, archive, subject, of_few, maps, faithfulness.baselines(maps, centre, len(subject)))


def _measures(material: Material) -> Iterator[Measure]:
    """In the order in which they run; the cost of each is known before it runs."""
    opened, subject, few = material.opened, material.subject, material.few
    maps, baselines = (
        {name: values[opened.few] for name, values in every.items()} for every in (material.maps, material.baselines)
    )
    fitting, choosing = opened.dataset.train, opened.dataset.val
    fitting = fitting.take(evenly_spaced(len(fitting), MOST_TRAINING_IMAGES))
    train, val = (Labelled(opened.batches(part), part.labels) for part in (fitting, choosing))

    def depends_on_weights() -> Any:
        images = opened.tested.take(opened.few)
        return randomisation.measure_randomisation(
            maps,
            lambda mixed: maps_by_name(opened.maps_of(mixed, images)),
            opened.best.model,
            random_model(opened.best, opened.processes),
            beats_guessing=subject.beats_guessing,
        )

    yield Measure(
        "depth",
        depth.passes(subject, few, train, val),
        lambda: depth.measure_depth(subject, few, train, val),
    )
    yield Measure("heads", heads.passes(subject, few), lambda: heads.measure_heads(subject, few))
    yield Measure("positions", position_use.passes(few), lambda: position_use.measure_position_use(few))
    yield Measure(
        "faithfulness",
        faithfulness.passes(few, maps),
        lambda: faithfulness.measure_faithfulness(few, maps, baselines),
        lambda result: [result.claim() if result else faithfulness.not_measured()],
    )
    yield Measure(
        "randomisation",
        len(few) * len(randomisation.STAGES),
        depends_on_weights,
        lambda result: [result.claim(SHOWN_MAP)],
    )
    yield Measure(
        "pointing", 0, lambda: _pointing(material), lambda result: [result.claim(SHOWN_MAP)] if result else []
    )


def _pointing(material: Material) -> pointing.Pointing | None:
    """Where the data have masks."""
    if (covered := _coverage(material.opened, math.isqrt(material.archive.rollout.shape[1]))) is None:
        return None
    rows, parts = covered
    return pointing.measure_pointing(
        {name: values[rows] for name, values in material.maps.items()},
        {name: values[rows] for name, values in material.baselines.items()},
        parts,
        beats_guessing=material.subject.beats_guessing,
    )


def _coverage(opened: Opened, side: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Which of the images have an object inside the crop, and how much of each patch it covers; None if none has."""
    root, files = opened.dataset.root, opened.tested.files
    masked = [index for index, file in enumerate(files) if mask_path(root, file).is_file()]
    if not masked:
        return None
    covered = coverage(root, [files[index] for index in masked], opened.best.preprocessing, side)
    inside = (covered >= pointing.HALF).any(1)
    return (np.array(masked)[inside], covered[inside]) if inside.any() else None


@contextlib.contextmanager
def _timed(name: str, passes: int, say: Say) -> Iterator[None]:
    """Say what is measured, at what cost, and how long it took."""
    if passes:
        say(f"{name}: {passes:,} images through the model")
    began = time.perf_counter()
    yield
    say(f"{name}: {duration(time.perf_counter() - began)}")
