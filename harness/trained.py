"""A trained model in Python: `harness.load(RUN)` returns it; `predict` and `attention` take images as they come.

Shapes: N images, C classes, L layers, H heads, g patches a side, S pixels a side.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from harness.data.decode import DecodeError, upright_rgb
from harness.errors import DataError, HarnessError
from harness.explain.attention.batch import collect_batch
from harness.explain.attention.collect import TESTED
from harness.explain.attention.self_test import self_test
from harness.explain.drawing.canvas import overlay
from harness.model.architectures import head_layer
from harness.model.preprocessing import Preprocessing
from harness.predict import Predictor, crop_of, normalised, probabilities_of
from harness.training.dataloaders import CPU_EXPLAINING_BATCH, GPU_EXPLAINING_BATCH

# A path is decoded as in training. A Pillow image and an array (H, W, 3) or (H, W) of uint8 are taken as they are.
ImageLike: TypeAlias = str | os.PathLike[str] | Image.Image | np.ndarray


@dataclass(frozen=True, eq=False)
class Predicted:
    """Probabilities of all classes for N images."""

    classes: tuple[str, ...]
    probabilities: np.ndarray  # (N, C) float64; rows sum to 1

    @property
    def labels(self) -> list[str]:
        """The most probable class of each image; of equal ones, the first."""
        return [self.classes[index] for index in self.probabilities.argmax(1)]

    def top(self, count: int = 5) -> list[list[tuple[str, float]]]:
        """The most probable classes of each image, with their probabilities."""
        order = np.argsort(-self.probabilities, axis=1, kind="stable")[:, :count]
        return [
            [(self.classes[index], float(row[index])) for index in best]
            for row, best in zip(self.probabilities, order, strict=True)
        ]


@dataclass(frozen=True, eq=False)
class AttentionMaps:
    """Maps over the patches of N images, float32. See the page on attention for their definitions."""

    images: np.ndarray  # (N, S, S, 3) uint8: what the model received
    labels: tuple[str, ...]  # N predicted classes, which `relevance` is for
    layers: np.ndarray  # (N, L, g, g): attention of what the head reads, mean over heads
    heads: np.ndarray  # (N, H, g, g): the same of each head of one layer
    rollout: np.ndarray  # (N, g, g): attention added up over layers
    relevance: np.ndarray  # (N, g, g): gradient-weighted attention for the predicted class

    def over_image(self, index: int, map_: np.ndarray | None = None) -> np.ndarray:
        """A map (g, g), by default the relevance, over image `index`: (S, S, 3) uint8, to show or to save."""
        chosen = self.relevance[index] if map_ is None else map_
        return overlay(self.images[index], np.asarray(chosen, np.float32).ravel())


class TrainedModel:
    """The best checkpoint of a run, on the GPU if there is one. Raises HarnessError if there is no checkpoint."""

    def __init__(self, run: str | os.PathLike[str]) -> None:
        self._predictor = Predictor(Path(run))
        self._tested = False

    @property
    def classes(self) -> tuple[str, ...]:
        return self._predictor.classes

    @property
    def preprocessing(self) -> Preprocessing:
        """How images become the model's input."""
        return self._predictor.preprocessing

    def predict(self, images: ImageLike | Sequence[ImageLike]) -> Predicted:
        """Class probabilities of one image or of several. Raises DataError with all images that cannot be used."""
        model, batches = self._predictor.model, self._crops(images).split(self._predictor.batch_size)
        scores = [probabilities_of(model, batch, self.preprocessing) for batch in batches]
        return Predicted(self.classes, np.concatenate(scores))

    def attention(self, images: ImageLike | Sequence[ImageLike], layer: int | None = None) -> AttentionMaps:
        """Attention maps of one image or of several; `layer`, from 1, is the one whose heads are kept apart (the last).

        Raises DataError as `predict` does, and HarnessError if captured attention is not exactly the model's.
        """
        layer = head_layer(self._predictor.architecture, layer, "layer")
        crops = self._crops(images)
        batches = [self._captured(batch, layer) for batch in crops.split(self._explaining_batch)]
        fields = {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}
        maps = {name: _as_grids(fields[name]) for name in ("layers", "heads", "rollout", "relevance")}
        labels = tuple(self.classes[index] for index in fields["predicted"])
        return AttentionMaps(crops.numpy(), labels, **maps)

    @property
    def _explaining_batch(self) -> int:
        return GPU_EXPLAINING_BATCH if self._predictor.device.type == "cuda" else CPU_EXPLAINING_BATCH

    def _captured(self, crops: Tensor, layer: int) -> dict[str, np.ndarray]:
        """Maps (n, ..., P) and predicted classes of a batch; the first batch is compared with the model's attention."""
        model = self._predictor.model
        pixels = normalised(crops, self.preprocessing, self._predictor.device)
        if not self._tested and not self_test(model, pixels[:TESTED])["passed"]:
            raise HarnessError("Captured attention differs from the model's by more than float32 explains.")
        self._tested = True
        unknown = torch.full((len(crops),), -1, device=pixels.device)
        fields, _ = collect_batch(model, pixels, unknown, layer)
        names = ("layers", "heads", "rollout", "relevance", "predicted")
        return {name: fields[name].detach().cpu().numpy() for name in names}

    def _crops(self, images: ImageLike | Sequence[ImageLike]) -> Tensor:
        """What the model receives, uint8 (N, S, S, 3)."""
        crops, problems = [], []
        for number, image in enumerate(_each(images), 1):
            try:
                crops.append(crop_of(_opened(image), self.preprocessing))
            except (DecodeError, OSError) as error:  # OSError: a Pillow image that is decoded only now
                name = os.fspath(image) if isinstance(image, str | os.PathLike) else f"Image {number}"
                problems.append(f"{name} cannot be used: {error}.")
        if problems or not crops:
            raise DataError(problems or "There are no images: give at least one.")
        return torch.from_numpy(np.stack(crops))


def _each(images: ImageLike | Sequence[ImageLike]) -> Iterator[ImageLike]:
    """The images in what was given: one, a sequence, or an array (N, H, W, 3)."""
    if isinstance(images, np.ndarray):
        yield from images if images.ndim == 4 else [images]
    elif isinstance(images, str | os.PathLike | Image.Image):
        yield images
    else:
        yield from images


def _opened(image: ImageLike) -> str | os.PathLike[str] | Image.Image:
    """A path as it is, anything else as an RGB image. Raises DecodeError."""
    if isinstance(image, str | os.PathLike):
        return image
    return _from_array(image) if isinstance(image, np.ndarray) else upright_rgb(image)


def _from_array(array: np.ndarray) -> Image.Image:
    if array.dtype != np.uint8 or not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3)) or not array.size:
        raise DecodeError(
            f"an array of {array.dtype} {array.shape}; it must be uint8, (height, width, 3) or (height, width)"
        )
    return Image.fromarray(array).convert("RGB")


def _as_grids(maps: np.ndarray) -> np.ndarray:
    """(..., P) -> (..., g, g) float32; patches lie row by row."""
    side = round(maps.shape[-1] ** 0.5)
    return maps.reshape(*maps.shape[:-1], side, side).astype(np.float32)
