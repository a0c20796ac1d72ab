"""The arrays of a look at many images, on disk: every figure can be drawn again from them, without the model.

n images, L blocks ("layers"), H heads, P patches row by row, C classes, K statistics, D hidden size.
"""

from __future__ import annotations

import dataclasses
import json
import math
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from harness.errors import HarnessError
from harness.explain import outliers
from harness.files import replacing

# Of the files' layout and of the definitions behind their numbers; another number is another meaning.
VERSION = 1


@dataclasses.dataclass(frozen=True, eq=False)
class Archive:
    """`attention.npz`. Attention is the class token's, of the model in evaluation mode."""

    files: np.ndarray  # (n,) str: POSIX paths, relative to settings["root"] where that is given
    labels: np.ndarray  # (n,) int32, -1 unknown
    predicted: np.ndarray  # (n,) int32
    probability: np.ndarray  # (n,) float32, of the predicted class
    label_probability: np.ndarray  # (n,) float32, of the label, NaN unknown
    classes: np.ndarray  # (C,) str
    layers: np.ndarray  # (n, L, P) float16: attention on patches, mean over heads
    heads: np.ndarray  # (n, H, P) float16: attention on patches of each head of the layer settings["head_layer"]
    class_share: np.ndarray  # (n, L) float32: attention of the class token on itself, mean over heads
    rollout: np.ndarray  # (n, P) float16
    relevance: np.ndarray  # (n, P) float32: for the predicted class; images differ in scale
    entropy: np.ndarray  # (n, L) float32: of the class token's attention, mean over heads, in nats
    distance: np.ndarray  # (n, L) float32: mean attention distance, mean over heads, in pixels
    statistics: np.ndarray  # (L, H, K) float64: means over the images
    statistic_names: np.ndarray  # (K,) str: heads.STATISTICS
    # In the layer where outliers take most of the attention: their share of the patches, and of that attention.
    outlier_share: np.ndarray  # (n,) float32
    outlier_attention: np.ndarray  # (n,) float32
    # version, model, weights, patch_size, image_size (pixels), grid [rows, columns], head_layer (1 to L), rollout (its
    # settings), preprocessing, self_test, root and run (or None), seconds
    settings: dict[str, Any]

    def __post_init__(self) -> None:
        n, layers, patches = self.layers.shape if self.layers.ndim == 3 else (-1, -1, -1)
        heads = self.heads.shape[1] if self.heads.ndim == 3 else -1
        shapes = {
            **dict.fromkeys(("files", "labels", "predicted", "probability", "label_probability"), (n,)),
            **dict.fromkeys(("outlier_share", "outlier_attention"), (n,)),
            "classes": (len(self.classes),),
            "layers": (n, layers, patches),
            "heads": (n, heads, patches),
            **dict.fromkeys(("class_share", "entropy", "distance"), (n, layers)),
            **dict.fromkeys(("rollout", "relevance"), (n, patches)),
            "statistics": (layers, heads, len(self.statistic_names)),
            "statistic_names": (len(self.statistic_names),),
        }
        _check_shapes(self, shapes)

    def __len__(self) -> int:
        return len(self.files)

    @property
    def misleading(self) -> np.ndarray:
        """Pictures (n,) bool whose maps are not to be trusted, for a few outlier patches draw the attention."""
        share, attention = self.outlier_share, self.outlier_attention
        return (attention >= outliers.TAKEN) & (attention >= outliers.EXCESS * share)


@dataclasses.dataclass(frozen=True, eq=False)
class PositionArchive:
    """`positions.npz`: the position embedding before and after fine-tuning."""

    before: np.ndarray  # (P + 1, D) float32; the first row is P_0, the class token's place
    after: np.ndarray  # (P + 1, D) float32
    class_token_before: np.ndarray  # (D,) float32
    class_token_after: np.ndarray  # (D,) float32
    # before and after: {locality, decoding, effective_rank: {value, low, high}} with low and high the range by chance;
    # change: {value, low, high} of |ΔP| / |P|; strength, verdict, and rule: the sentences that verdicts follow
    numbers: dict[str, Any]

    def __post_init__(self) -> None:
        size = self.before.shape[-1]
        shape = (len(self.before), size)
        tokens = {"class_token_before": (size,), "class_token_after": (size,)}
        _check_shapes(self, {"before": shape, "after": shape, **tokens})
        if math.isqrt(len(self.before) - 1) ** 2 != len(self.before) - 1:
            raise ValueError(f"{len(self.before) - 1} patches are no square grid")


Kind = TypeVar("Kind", Archive, PositionArchive)


def write(path: Path, archive: Archive | PositionArchive) -> None:
    """Write the file whole or not at all."""
    values = {field.name: getattr(archive, field.name) for field in dataclasses.fields(archive)}
    arrays: Any = {name: _text(value) if isinstance(value, Mapping) else value for name, value in values.items()}
    with replacing(path) as beside, beside.open("wb") as file:
        np.savez_compressed(file, **arrays)


def read(path: Path, kind: type[Kind]) -> Kind:
    """The archive in a file; files may come from anywhere, and nothing in them is run."""
    fields = dataclasses.fields(kind)
    try:
        with np.load(path, allow_pickle=False) as arrays:
            values: dict[str, Any] = {field.name: arrays[field.name] for field in fields}
        for field in fields:
            if field.name in ("settings", "numbers"):
                values[field.name] = json.loads(str(values[field.name]))
        return kind(**values)
    except FileNotFoundError:
        raise HarnessError(f"{path} is not there: `harness explain` without --redraw makes it.") from None
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise HarnessError(f"{path} is damaged or of another version ({error}); make it anew.") from error


def _text(values: Mapping[str, Any]) -> np.ndarray:
    return np.array(json.dumps(values, ensure_ascii=True))


def _check_shapes(archive: Archive | PositionArchive, shapes: Mapping[str, tuple[int, ...]]) -> None:
    wrong = {name: getattr(archive, name).shape for name, shape in shapes.items()}
    if problems := [f"{name} is {found}, not {shapes[name]}" for name, found in wrong.items() if found != shapes[name]]:
        raise ValueError("; ".join(problems))
