"""What exported files are compared with: the run's own probabilities of its test images.

N images, C classes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import nn

from harness.data.augment import centre_crop
from harness.data.dataset import Dataset
from harness.data.decode import FORMATS
from harness.data.resize import Resize, resized
from harness.errors import DataError
from harness.evaluate import evaluate
from harness.explain.images import of_cache
from harness.export.library_files import cut_differently
from harness.launch.cores import usable_cores
from harness.model.preprocessing import Preprocessing
from harness.predict import open_run, probabilities_of
from harness.runs.rules import printable
from harness.training.checkpoint import BestCheckpoint
from harness.training.dataloaders import CPU_SCORING_BATCH, scoring_batches
from harness.training.distributed import Processes


@dataclass(frozen=True, eq=False)
class Reference:
    """Probabilities float64 (N, C) of a run's test images, in float32 arithmetic."""

    paths: tuple[Path, ...]
    labels: np.ndarray  # (N,) int64
    run: np.ndarray  # of the pixels that the run was tested on
    opened: np.ndarray  # of the pixels that Pillow's plain `open` gives; other rows only where `differs`
    differs: np.ndarray  # (N,) bool: those pixels are not the run's
    cut_differently: int  # images whose centre transformers cuts one pixel off


def reference_of(
    run_folder: Path, data: str | None, cache_dir: str | None, say: Callable[[str], None]
) -> tuple[BestCheckpoint, Dataset, Reference]:
    """Score the test split with the run's best checkpoint. Raises HarnessError."""
    best, config, dataset = open_run(run_folder, data, cache_dir, say)
    paths = tuple(dataset.root / file for file in dataset.test.files)
    if missing := [path for path in paths if not path.is_file()]:
        raise DataError(
            f"{len(missing)} of {len(paths)} test images are not files in {printable(dataset.root)} (the first is "
            f"{printable(missing[0].name)}), so exported files cannot be scored on them."
        )
    processes = Processes(replace(config, precision="fp32"))
    try:
        with _exact_convolutions():
            batches = scoring_batches(dataset.test, best.preprocessing, config, processes)
            model = processes.accelerator.prepare_model(best.model, evaluation_mode=True)
            predictions, _ = evaluate(model, batches, len(paths), len(best.classes), processes)
            assert predictions is not None  # this is the only process
            opened, differs = _of_opened(model, paths, dataset, best.preprocessing, predictions.probabilities)
    finally:
        processes.close()
    size = best.preprocessing.crop_size
    shapes = [dataset.pixels.image(int(position)).shape for position in dataset.test.positions]
    off = sum(cut_differently(shape[0], shape[1], size) for shape in shapes)
    reference = Reference(paths, dataset.test.labels, predictions.probabilities, opened, differs, off)
    return best, dataset, reference


def plain_crop(path: Path, rule: Preprocessing) -> np.ndarray:
    """The image (S, S, 3) uint8 as Pillow opens it, resized and cropped by the run's rule."""
    with Image.open(path, formats=FORMATS) as image:
        upright = ImageOps.exif_transpose(image).convert("RGB")
    return centre_crop(np.asarray(resized(upright, Resize(rule.resize_size, rule.interpolation))), rule.crop_size)


def _of_opened(
    model: nn.Module, paths: tuple[Path, ...], dataset: Dataset, rule: Preprocessing, run: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (N, C) of the pixels that Pillow opens, and where (N,) these are not the run's pixels.

    They differ for JPEGs decoded at a fraction of their size, for transparency and for 16-bit grey. Elsewhere the
    probabilities are those of the run, `run`.
    """
    own = of_cache(dataset.pixels, dataset.test.positions, rule.crop_size)
    opened, differs = run.copy(), np.zeros(len(paths), bool)

    def other(index: int) -> np.ndarray | None:
        pixels = plain_crop(paths[index], rule)
        return None if np.array_equal(pixels, own(index)) else pixels

    with ThreadPoolExecutor(usable_cores()) as pool:
        for start in range(0, len(paths), CPU_SCORING_BATCH):
            batch = range(start, min(start + CPU_SCORING_BATCH, len(paths)))
            others = list(pool.map(other, batch))
            rows = [index for index, pixels in zip(batch, others, strict=True) if pixels is not None]
            if rows:
                differs[rows] = True
                crops = np.stack([pixels for pixels in others if pixels is not None])
                opened[rows] = probabilities_of(model, torch.from_numpy(crops), rule)
    return opened, differs


@contextlib.contextmanager
def _exact_convolutions() -> Iterator[None]:
    """Without TF32, which rounds the patch projection on a GPU to 10 bits."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before
