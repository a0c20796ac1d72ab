"""Checks before a run starts: everything that is cheap to check, with all problems reported together."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from harness.config import RunConfig
from harness.data.cache import check_cache
from harness.data.handover import listed_folder
from harness.data.image_folder import ImageFolder
from harness.data.order_notes import order_notes
from harness.data.resize import Resize
from harness.errors import ConfigError, HarnessError, joined
from harness.model.architectures import check_verifiable, head_layer
from harness.model.preprocessing import Preprocessing, preprocessing_of
from harness.model.pretrained import check_reachable
from harness.model.timm_catalog import is_timm
from harness.model.timm_model import check_model_name, check_timm_build
from harness.model.weights import check_header
from harness.runs.reading import START_OVER, read_checked_object
from harness.settings.model import NAMED_WEIGHTS
from harness.training.class_weights import class_weights
from harness.training.static_step import check_cuda_graph

T = TypeVar("T")


def resolved(config: RunConfig) -> tuple[RunConfig, list[HarnessError]]:
    """The config with absolute paths, or the config as it is and the error; `check_inputs` reports it."""
    try:
        return config.resolved(), []
    except ConfigError as error:
        return config, [error]


def check_inputs(config: RunConfig, run_folder: Path, errors: list[HarnessError]) -> tuple[ImageFolder, Preprocessing]:
    """The image folder and the preprocessing; raises one HarnessError with every problem, `errors` included.

    Weights files are opened, but only their headers are read; of weights to be downloaded, a server is asked whether it
    has them. A run that has finished needs neither them nor decoded images: its command prints its results. Only the
    cache is written to: digests of the images, and the folder of decoded ones.
    """
    weights_found = not errors
    errors = list(errors)

    def attempt(check: Callable[[], T]) -> T | None:
        try:
            return check()
        except HarnessError as error:
            errors.append(error)
            return None

    trains = config.fresh or not attempt(lambda: _is_finished(run_folder))
    image_folder = attempt(lambda: listed_folder(config))
    if image_folder:
        attempt(lambda: class_weights(config, image_folder.classes, image_folder.train.labels))
    if config.cuda_graph and trains:
        attempt(lambda: check_cuda_graph(config))
    preprocessing, before = None, len(errors)
    attempt(lambda: check_model_name(config.model))
    if model_known := len(errors) == before:
        if config.explain_layer is not None:
            attempt(lambda: head_layer(config.model, config.explain_layer))
        if config.verify:
            attempt(lambda: check_verifiable(config.model))
    if model_known and weights_found:
        preprocessing = attempt(lambda: preprocessing_of(config))
        if config.weights in NAMED_WEIGHTS:
            if trains:
                attempt(lambda: check_reachable(config.model, config.weights))
        elif preprocessing:  # a file whose metadata cannot be read is reported once
            attempt(lambda: check_header(config.model, Path(config.weights), config.weights_key))
    if preprocessing and trains and is_timm(config.model):
        size, targets = preprocessing.crop_size, config.lora_targets if config.lora_rank else None
        attempt(lambda: check_timm_build(config.model, size, targets))
    if image_folder and preprocessing and trains:
        rule = Resize(preprocessing.resize_size, preprocessing.interpolation)
        attempt(lambda: check_cache(rule, image_folder.digests, config.cache_dir))
    attempt(lambda: _check_writable(run_folder))
    if errors:
        raise joined(errors)
    assert image_folder is not None and preprocessing is not None
    notes = (*image_folder.notes, *order_notes(config, image_folder, preprocessing.resize_size))
    return dataclasses.replace(image_folder, notes=notes), preprocessing


def _is_finished(run_folder: Path) -> bool:
    """Whether the run finished in an earlier start. Raises UnreadableError."""
    path = run_folder / "summary.json"
    return path.is_file() and read_checked_object(path, START_OVER).get("state") == "finished"


def _check_writable(run_folder: Path) -> None:
    """HarnessError if the run folder can neither be written to nor created."""
    existing = next(folder for folder in (run_folder, *run_folder.parents) if folder.exists())
    if not existing.is_dir():
        raise HarnessError(f"{existing} is a file, not a folder. Choose another --runs-dir.")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise HarnessError(f"Cannot write to {existing}. Choose another --runs-dir.")
