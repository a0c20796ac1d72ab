"""Use the best checkpoint of a run: score the test split again, or predict the classes of images."""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from PIL import Image
from torch import Tensor, nn

from harness.config import RunConfig
from harness.data.augment import centre_crop
from harness.data.data_change import what_changed
from harness.data.dataset import Dataset, open_dataset
from harness.data.decode import DecodeError
from harness.data.image_folder import load_image_folder
from harness.data.resize import Resize, decode_resized, resized
from harness.errors import DataError, HarnessError, InfeasibleError, summarise
from harness.evaluate import evaluate
from harness.files import not_a_file
from harness.launch.cores import usable_cores
from harness.model.preprocessing import Preprocessing
from harness.model.vit import build_model
from harness.prediction import Prediction, failed
from harness.runs.folder import BEST, RunFolder, check_exists
from harness.runs.intervals import score_intervals
from harness.runs.reading import refuse_links
from harness.runs.reliability import temperature
from harness.runs.summary import test_results
from harness.training.checkpoint import BestCheckpoint, load_best
from harness.training.dataloaders import CPU_SCORING_BATCH, GPU_SCORING_BATCH, scoring_batches
from harness.training.distributed import Processes, runs_on_cpu


def best_of(run_folder: Path) -> BestCheckpoint:
    """Load the best checkpoint of a run folder; on a CPU, one of fp16 computes in fp32. Raises HarnessError."""
    check_exists(run_folder)
    path = run_folder / "checkpoints" / BEST
    if not path.is_file():
        if checkpoint_note := RunFolder(run_folder).read_manifest()[0].get("checkpoint"):
            raise HarnessError(f"{run_folder} no longer has its best checkpoint: {checkpoint_note}.")
        raise HarnessError(
            f"{run_folder} holds no best checkpoint ({path.relative_to(run_folder)}). Give a run folder whose run has "
            "finished at least one epoch."
        )
    refuse_links(path, run_folder)
    best = load_best(path)
    if best.config.precision == "fp16" and runs_on_cpu():  # which cannot compute in it
        return dataclasses.replace(best, config=dataclasses.replace(best.config, precision="fp32"))
    return best


def initial_model(best: BestCheckpoint, run_folder: Path) -> nn.Module:
    """The model before fine-tuning, on the CPU. Raises HarnessError if its weights are missing or others by now."""
    plain: dict[str, Any] = {"freeze": "none", "lora_rank": 0, "drop_path": 0.0, "grad_checkpointing": False}
    size = best.preprocessing.crop_size
    config = dataclasses.replace(best.config, **plain, head_init="zero", image_size=size, crop_pct=None)
    loaded = build_model(config, len(best.classes))
    weights = RunFolder(run_folder).read_manifest()[0].get("weights")
    recorded = weights.get("digest") if isinstance(weights, dict) else None
    # Of the file itself; what may follow, earlier versions did not write.
    if isinstance(recorded, str) and recorded[:64] != str(loaded.weights_digest)[:64]:
        raise HarnessError(f"{config.weights} is another file by now than the run started from.")
    return loaded.model.eval()


def open_run(
    run_folder: Path, data: str | None, cache_dir: str | None, say: Callable[[str], None]
) -> tuple[BestCheckpoint, RunConfig, Dataset]:
    """Load the best checkpoint of a run, with the run's data or another folder that has the same classes.

    `say` gets a sentence if the run's own data has changed since the run; a manifest may not say what they were.
    """
    best = best_of(run_folder)
    # The initial weights are not needed, and their file may have been deleted.
    changes: dict[str, Any] = {"weights": "none", "fresh": False, "image_size": None, "crop_pct": None}
    # Not the cache folder of the checkpoint: a checkpoint from elsewhere must not choose where files are written.
    changes |= {"cache_dir": cache_dir, **({"data": data} if data else {})}
    config = dataclasses.replace(best.config, **changes).resolved()
    image_folder = load_image_folder(config)
    if image_folder.classes != best.classes:
        differing = sorted(set(image_folder.classes) ^ set(best.classes))
        raise DataError(
            f"{config.data} and {run_folder} differ in their classes: {summarise(differing, 8)}. "
            f"Give a folder with the {len(best.classes)} classes of the run."
        )
    dataset = open_dataset(image_folder, best.preprocessing, config)
    if not data:
        manifest, problem = RunFolder(run_folder).read_manifest()
        if problem:
            say(f"{run_folder}/{problem}: whether the images have changed since the run is not known.")
        if change := what_changed(manifest.get("data") or {}, dataset.fingerprint, dataset.facts()["images"]):
            say(f"{change}: the results are not those of the images that the run was tested on.")
    return best, config, dataset


def evaluate_again(
    run_folder: Path, data: str | None, cache_dir: str | None, say: Callable[[str], None]
) -> dict[str, Any]:
    """Score the test split of the run's data, or of another folder with the same classes; returns the metrics."""
    best, config, dataset = open_run(run_folder, data, cache_dir, say)
    processes = Processes(config)
    batches = scoring_batches(dataset.test, best.preprocessing, config, processes)
    model = processes.accelerator.prepare_model(best.model, evaluation_mode=True)
    predictions, scores = evaluate(model, batches, len(dataset.test), len(best.classes), processes)
    processes.close()
    assert predictions is not None
    results = test_results(scores, score_intervals(predictions.labels, predictions.predicted, len(best.classes)))
    return results | {"test/temperature": temperature(predictions.labels, predictions.logits)}


class Predictor:
    """A run's best checkpoint, on the GPU if there is one. Raises HarnessError if there is no checkpoint."""

    def __init__(self, run_folder: Path) -> None:
        best = best_of(run_folder)
        self.classes, self.preprocessing, self.architecture = best.classes, best.preprocessing, best.config.model
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.batch_size = GPU_SCORING_BATCH if self.device.type == "cuda" else CPU_SCORING_BATCH
        self.model = best.model.to(self.device)

    def predict(self, images: Iterable[Prediction | Path]) -> Iterator[Prediction]:
        """A prediction for each path, in order; a Prediction with a problem is passed on."""
        remaining = iter(images)
        with ThreadPoolExecutor(usable_cores()) as pool:
            while batch := list(itertools.islice(remaining, self.batch_size)):
                loaded = list(pool.map(self._load, batch))
                crops = [crop for crop in loaded if isinstance(crop, Tensor)]
                rows = probabilities_of(self.model, torch.stack(crops), self.preprocessing) if crops else ()
                probabilities = iter(rows)
                for path, crop in zip(batch, loaded, strict=True):
                    if isinstance(crop, Prediction):
                        yield crop
                    else:
                        assert isinstance(path, Path)
                        yield Prediction(path, next(probabilities))

    def _load(self, image: Prediction | Path) -> Tensor | Prediction:
        """The crop that the model gets, uint8 (S, S, 3)."""
        if isinstance(image, Prediction):
            return image
        if problem := not_a_file(image):
            return failed(image, problem)
        try:
            return torch.from_numpy(crop_of(image, self.preprocessing))
        except DecodeError as error:
            return failed(image, error.reason)
        except MemoryError:
            return failed(image, "there is not enough memory to decode it")


def crop_of(image: str | os.PathLike[str] | Image.Image, preprocessing: Preprocessing) -> np.ndarray:
    """What a model receives of a file, or of an RGB image that is open: (S, S, 3) uint8. Raises DecodeError."""
    rule = Resize(preprocessing.resize_size, preprocessing.interpolation)
    pixels = resized(image, rule) if isinstance(image, Image.Image) else decode_resized(image, rule)
    return centre_crop(np.array(pixels), preprocessing.crop_size)


def normalised(crops: Tensor, preprocessing: Preprocessing, device: torch.device) -> Tensor:
    """The model's input, float32 (N, 3, S, S) on a device, of crops, uint8 (N, S, S, 3)."""
    mean, std = (
        torch.tensor(values, device=device).view(3, 1, 1) for values in (preprocessing.mean, preprocessing.std)
    )
    return (crops.to(device).permute(0, 3, 1, 2).float() / 255 - mean) / std


@torch.inference_mode()
def probabilities_of(model: nn.Module, crops: Tensor, preprocessing: Preprocessing) -> np.ndarray:
    """Probabilities (N, C) float64 of crops, uint8 (N, S, S, 3); in halves if memory does not suffice."""
    device = next(model.parameters()).device
    try:
        return model(normalised(crops, preprocessing, device)).double().softmax(1).cpu().numpy()
    except Exception as error:
        if not should_reduce_batch_size(error):
            raise
        if len(crops) == 1:
            raise InfeasibleError("Out of memory while predicting one image: free memory on the device.") from None
    clear_device_cache(garbage_collection=True)
    return np.concatenate([probabilities_of(model, half, preprocessing) for half in crops.chunk(2)])
