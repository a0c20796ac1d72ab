"""Probes of several backbones on one data set, side by side: which weights suit these images, before any training."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Sequence

from harness.config import RunConfig
from harness.data.dataset import open_dataset
from harness.data.image_folder import ImageFolder, load_image_folder
from harness.errors import ConfigError
from harness.model.vit import build_model
from harness.probe.features import features_of
from harness.probe.linear_probe import fit_probe
from harness.runs.intervals import score_intervals
from harness.runs.resampling import Intervals
from harness.settings.model import weights_names
from harness.training.distributed import Processes
from harness.training.metrics import Scores, score


@dataclasses.dataclass(frozen=True, eq=False)
class BackboneResult:
    """One row of the table: a backbone, what its probe scores, and the seconds it took."""

    model: str
    weights: str
    inverse_strength: float  # of L2, scikit-learn's C; chosen on validation
    val: Scores
    test: Scores
    test_intervals: Intervals
    feature_seconds: float
    fit_seconds: float


def pair_with_weights(models: Sequence[str], weights: Sequence[str]) -> list[tuple[str, str]]:
    """(model, weights) of each backbone: weights as given, one for all, or each model's first named ones."""
    if not weights:
        without = [model for model in models if weights_names(model) and not _named(model)]
        if without:
            raise ConfigError(
                f"No named weights exist for --model {', '.join(without)}: give a weights file for each model with "
                "--weights, in the order of --model."
            )
        # An unknown model has none; RunConfig refuses it and lists those that are known.
        return [(model, next(iter(_named(model)), "none")) for model in models]
    if len(weights) == 1:
        return [(model, weights[0]) for model in models]
    if len(weights) != len(models):
        raise ConfigError(
            f"{len(models)} --model and {len(weights)} --weights were given: give one --weights for all models, or "
            "one for each."
        )
    return list(zip(models, weights, strict=True))


def _named(model: str) -> list[str]:
    return [name for name in weights_names(model) if name != "none"]


def probe_backbones(configs: Sequence[RunConfig]) -> Iterator[BackboneResult]:
    """A result per config, as it is ready; configs differ in model and weights alone and share one data folder."""
    first = configs[0]
    folder = load_image_folder(first)
    processes = Processes(first)
    try:
        for config in configs:
            yield _probe_backbone(config, folder, processes)
    finally:
        processes.close()


def _probe_backbone(config: RunConfig, folder: ImageFolder, processes: Processes) -> BackboneResult:
    loaded = build_model(config, len(folder.classes))
    data = open_dataset(folder, loaded.preprocessing, config)
    loaded.model.to(processes.device)
    began = time.perf_counter()
    features = [features_of(split, loaded, config, processes) for split in (data.train, data.val, data.test)]
    extracted = time.perf_counter()
    train, val, test = features
    probe, val_scores = fit_probe(
        train, data.train.labels, val, data.val.labels, len(data.classes), device=processes.device
    )
    fitted = time.perf_counter()
    logits = probe.logits(test)
    return BackboneResult(
        model=config.model,
        weights=config.weights,
        inverse_strength=probe.inverse_strength,
        val=val_scores,
        test=score(data.test.labels, logits),
        test_intervals=score_intervals(data.test.labels, logits.argmax(axis=1), len(data.classes)),
        feature_seconds=extracted - began,
        fit_seconds=fitted - extracted,
    )
