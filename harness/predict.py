"""Use the best checkpoint of a run: score the test split again, or predict the classes of images."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness.config import RunConfig
from harness.data.augment import centre_box
from harness.data.dataset import Dataset, open_dataset
from harness.data.decode import DecodeError, decode_pil
from harness.data.image_folder import load_image_folder
from harness.data.resize import Resize, resized
from harness.errors import DataError, HarnessError
from harness.evaluate import evaluate
from harness.runs.folder import BEST, RunFolder
from harness.runs.resampling import bootstrap
from harness.runs.summary import test_results
from harness.training.checkpoint import BestCheckpoint, load_best
from harness.training.dataloaders import scoring_batches
from harness.training.distributed import Processes

TOP_CLASSES = 5


def best_of(run_folder: Path) -> BestCheckpoint:
    """Load the best checkpoint of a run folder. Raises HarnessError if there is none."""
    path = run_folder / "checkpoints" / BEST
    if not path.is_file():
        if reason := RunFolder(run_folder).read("manifest.json").get("checkpoint"):
            raise HarnessError(f"{run_folder} no longer has its best checkpoint: {reason}.")
        raise HarnessError(
            f"{run_folder} holds no best checkpoint ({path.relative_to(run_folder)}). Give a run folder whose run has "
            "finished at least one epoch."
        )
    return load_best(path)


def open_run(
    run_folder: Path, data: str | None = None, cache_dir: str | None = None
) -> tuple[BestCheckpoint, RunConfig, Dataset]:
    """Load the best checkpoint of a run, with the run's data or another folder that has the same classes."""
    best = best_of(run_folder)
    # The initial weights are not needed, and their file may have been deleted.
    changes: dict[str, Any] = {"weights": "none", "fresh": False, "image_size": None, "crop_pct": None}
    changes |= {key: value for key, value in (("data", data), ("cache_dir", cache_dir)) if value}
    config = dataclasses.replace(best.config, **changes).resolved()
    image_folder = load_image_folder(config.data, seed=config.split_seed, split_fraction=config.split_fraction)
    if image_folder.classes != best.classes:
        differing = sorted(set(image_folder.classes) ^ set(best.classes))
        raise DataError(
            f"{config.data} and {run_folder} differ in their classes: {', '.join(differing[:8])}"
            f"{' ...' if len(differing) > 8 else ''}. Give a folder with the {len(best.classes)} classes of the run."
        )
    return best, config, open_dataset(image_folder, best.preprocessing, config)


def evaluate_again(run_folder: Path, data: str | None = None, cache_dir: str | None = None) -> dict[str, Any]:
    """Score the test split of the run's data, or of another folder with the same classes; returns the metrics."""
    best, config, dataset = open_run(run_folder, data, cache_dir)
    processes = Processes(config)
    batches = scoring_batches(dataset.pixels, dataset.test, best.preprocessing, config, processes)
    model = processes.accelerator.prepare_model(best.model, evaluation_mode=True)
    predictions, scores = evaluate(model, batches, len(dataset.test), len(best.classes), processes)
    processes.close()
    assert predictions is not None
    return test_results(scores, bootstrap(predictions.labels, predictions.predicted, len(best.classes)))


@torch.inference_mode()
def predict_files(run_folder: Path, images: Sequence[Path]) -> Iterator[tuple[Path, list[tuple[str, float]]]]:
    """Yield each image path with its top-5 (class, probability) pairs, most likely first. Raises DataError."""
    best = best_of(run_folder)
    preprocessing = best.preprocessing
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = best.model.to(device)
    mean, std = (
        torch.tensor(values, device=device).view(3, 1, 1) for values in (preprocessing.mean, preprocessing.std)
    )
    for path in images:
        try:
            pixels = np.array(resized(decode_pil(path), Resize(preprocessing.resize_size, preprocessing.interpolation)))
        except DecodeError as error:
            raise DataError(f"{path} cannot be used: {error.reason}.") from error
        top, left, height, width = centre_box(pixels.shape[0], pixels.shape[1], preprocessing.crop_size)
        crop = torch.from_numpy(pixels[top : top + height, left : left + width]).to(device)
        image = (crop.permute(2, 0, 1).float() / 255 - mean) / std
        probabilities = model(image[None])[0].double().softmax(0)
        values, indices = probabilities.topk(min(TOP_CLASSES, len(best.classes)))
        yield (
            path,
            [(best.classes[index], value) for index, value in zip(indices.tolist(), values.tolist(), strict=True)],
        )
