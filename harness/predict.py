"""A finished run used again: its best checkpoint scores the test split, or names what images show."""

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

TOP = 5


def best_of(run_folder: Path) -> BestCheckpoint:
    """The best checkpoint of a run folder."""
    path = run_folder / "checkpoints" / BEST
    if not path.is_file():
        if why := RunFolder(run_folder).read("manifest.json").get("checkpoint"):
            raise HarnessError(f"{run_folder} has its best checkpoint no more: {why}.")
        raise HarnessError(
            f"{run_folder} holds no best checkpoint ({path.relative_to(run_folder)}). Give the folder of a run that "
            "has finished an epoch, such as those under runs/."
        )
    return load_best(path)


def open_run(
    run_folder: Path, data: str | None = None, cache_dir: str | None = None
) -> tuple[BestCheckpoint, RunConfig, Dataset]:
    """A run's best checkpoint, and its own data or another folder with the same classes."""
    best = best_of(run_folder)
    # The checkpoint is enough: the weights that training began from may be gone.
    changes: dict[str, Any] = {"weights": "none", "fresh": False, "image_size": None, "crop_pct": None}
    changes |= {key: value for key, value in (("data", data), ("cache_dir", cache_dir)) if value}
    config = dataclasses.replace(best.config, **changes).resolved()
    photos = load_image_folder(config.data, seed=config.split_seed, split_fraction=config.split_fraction)
    if photos.classes != best.classes:
        differing = sorted(set(photos.classes) ^ set(best.classes))
        raise DataError(
            f"{config.data} and {run_folder} differ in their classes: {', '.join(differing[:8])}"
            f"{' ...' if len(differing) > 8 else ''}. Give a folder with the {len(best.classes)} classes of the run."
        )
    return best, config, open_dataset(photos, best.preprocessing, config)


def evaluate_again(run_folder: Path, data: str | None = None, cache_dir: str | None = None) -> dict[str, Any]:
    """Metrics of the test split, of the run's own data or of another folder with the same classes."""
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
    """Each image with its likeliest classes and their probabilities, most likely first."""
    best = best_of(run_folder)
    rule, size = best.preprocessing, best.preprocessing.crop_size
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = best.model.to(device)
    mean, std = (torch.tensor(values, device=device).view(3, 1, 1) for values in (rule.mean, rule.std))
    for path in images:
        try:
            pixels = np.array(resized(decode_pil(path), Resize(rule.resize_size, rule.interpolation)))
        except DecodeError as error:
            raise DataError(f"{path} cannot be used: {error.reason}.") from error
        top, left, height, width = centre_box(pixels.shape[0], pixels.shape[1], size)
        crop = torch.from_numpy(pixels[top : top + height, left : left + width]).to(device)
        image = (crop.permute(2, 0, 1).float() / 255 - mean) / std
        probabilities = model(image[None])[0].double().softmax(0)
        values, indices = probabilities.topk(min(TOP, len(best.classes)))
        yield (
            path,
            [(best.classes[index], value) for index, value in zip(indices.tolist(), values.tolist(), strict=True)],
        )
