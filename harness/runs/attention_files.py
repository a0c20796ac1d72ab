"""`attention.npz` and `positions.npz` of a run folder: their arrays, and reading them with shapes and types checked.

n images, L layers, H heads, P = g² patches row by row, T = P + 1 tokens, C classes, K statistics, D hidden size.
Files may be damaged or come from anywhere; no code in them is run. Numpy only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_type_hints

import numpy as np

from harness.runs.embeddings import centred
from harness.runs.npz_arrays import check_arrays, damaged, read_arrays
from harness.runs.reading import EXPLAIN_AGAIN, UnreadableError, kind_of, refuse_links
from harness.runs.rules import ATTENTION_FILE, POSITIONS_FILE, VERSION, finite_number, has_outlier_attention

# Arrays that files of earlier versions lack.
ADDED_LATER = ("legrad",)
# Arrays of attention.npz with one number for each image.
PER_IMAGE = ("labels", "predicted", "probability", "label_probability", "outlier_share", "outlier_attention")
# Entries of `numbers` of positions.npz that every reader uses.
POSITION_NUMBERS = ("before/locality/value", "before/decoding/value", "after/locality/value", "after/decoding/value")


# Of each array: the numpy kinds that are allowed, and its axes by the letters above. Text without axes is JSON.
@dataclass(frozen=True, eq=False)
class Archive:
    """`attention.npz`. Attention is the class token's, of the model in evaluation mode."""

    files: Annotated[np.ndarray, "U", "n"]  # POSIX paths, relative to settings["root"] if that is not None
    labels: Annotated[np.ndarray, "iu", "n"]  # int32, -1 unknown
    predicted: Annotated[np.ndarray, "iu", "n"]  # int32
    probability: Annotated[np.ndarray, "f", "n"]  # float32, of the predicted class
    label_probability: Annotated[np.ndarray, "f", "n"]  # float32, of the label, NaN unknown
    classes: Annotated[np.ndarray, "U", "C"]
    layers: Annotated[np.ndarray, "f", "nLP"]  # float16: attention on patches, mean over heads
    heads: Annotated[np.ndarray, "f", "nHP"]  # float16: on patches, of each head of the layer settings["head_layer"]
    class_share: Annotated[np.ndarray, "f", "nL"]  # float32: attention that is not on patches, mean over heads
    rollout: Annotated[np.ndarray, "f", "nP"]  # float16
    relevance: Annotated[np.ndarray, "f", "nP"]  # float32: for the predicted class; images differ in scale
    entropy: Annotated[np.ndarray, "f", "nL"]  # float32: of the class token's attention, mean over heads, in nats
    distance: Annotated[np.ndarray, "f", "nL"]  # float32: mean attention distance, mean over heads, in pixels
    statistics: Annotated[np.ndarray, "f", "LHK"]  # float64: means over the images
    statistic_names: Annotated[np.ndarray, "U", "K"]  # heads.STATISTICS
    # In the layer where outliers take most of the attention: their share of the patches, and of that attention.
    outlier_share: Annotated[np.ndarray, "f", "n"]  # float32
    outlier_attention: Annotated[np.ndarray, "f", "n"]  # float32
    # version, model, weights, patch_size, image_size (pixels), grid [rows, columns], prefix_tokens, pools_patches (the
    # head reads their mean), head_layer (1 to L), rollout (its settings), preprocessing, self_test, root and run (or
    # None), seconds
    settings: Annotated[dict[str, Any], "U", ""]
    # float32: for the predicted class; images differ in scale; None in files of earlier versions
    legrad: Annotated[np.ndarray | None, "f", "nP"] = None

    def __post_init__(self) -> None:
        arrays = {name: getattr(self, name) for name in ATTENTION_FIELDS if name != "settings"}
        check_arrays({name: array for name, array in arrays.items() if array is not None}, ATTENTION_FIELDS)

    def __len__(self) -> int:
        return len(self.files)

    @property
    def misleading(self) -> np.ndarray:
        """(n,) bool: images whose maps are misleading, because a few outlier patches draw the attention."""
        return has_outlier_attention(self.outlier_share, self.outlier_attention)

    @property
    def prefix_tokens(self) -> int:
        """Tokens before the patches: class token and registers. Files of earlier versions do not say; it was 1."""
        count = self.settings.get("prefix_tokens", 1)
        return count if type(count) is int and count >= 0 else 1

    @property
    def attending(self) -> str:
        """Whose attention the maps show: that of the tokens which the head reads."""
        if self.settings.get("pools_by_attention") is True:
            return "the patches (mean), and in the last layer the pooling"
        if self.settings.get("read_tokens") == 2:
            return "the class token and the distillation token (mean)"
        return "the patches (mean)" if self.settings.get("pools_patches") is True else "the class token"

    @property
    def off_patches(self) -> str:
        """Where `class_share` of the attention is: on the class token itself, if that is the only other token."""
        return "on itself" if self.prefix_tokens == 1 and self.attending == "the class token" else "not on patches"

    @property
    def block_distance(self) -> np.ndarray:
        """Attention distance of the last block (n,), in pixels; attention that pools after it has no distance."""
        return self.distance[:, -2 if self.settings.get("pools_by_attention") is True else -1]


@dataclass(frozen=True, eq=False)
class PositionArchive:
    """`positions.npz`: the position embedding before and after fine-tuning."""

    before: Annotated[np.ndarray, "f", "TD"]  # float32; the first row is P_0, the class token's place
    after: Annotated[np.ndarray, "f", "TD"]  # float32
    class_token_before: Annotated[np.ndarray, "f", "D"]  # float32
    class_token_after: Annotated[np.ndarray, "f", "D"]  # float32
    # before and after: {locality, decoding, effective_rank: {value, low, high}} with low and high the range by chance;
    # change: {value, low, high} of |ΔP| / |P|; strength, verdict, and rule: the sentences that verdicts follow
    numbers: Annotated[dict[str, Any], "U", ""]

    def __post_init__(self) -> None:
        check_arrays({name: getattr(self, name) for name in POSITION_FIELDS if name != "numbers"}, POSITION_FIELDS)
        patches = len(self.before) - 1
        if patches < 1 or self.side**2 != patches:
            raise ValueError(f"{patches} patches do not form a square grid")

    @property
    def side(self) -> int:
        """Patches per row and per column, g."""
        return math.isqrt(len(self.before) - 1)

    @property
    def patches(self) -> list[np.ndarray]:
        """Before and after: embeddings of the patches (P, D) float64, minus their mean over patches."""
        return [centred(embedding[1:].astype(np.float64)) for embedding in (self.before, self.after)]

    @property
    def class_tokens(self) -> list[np.ndarray]:
        """Before and after: the class token plus its position, (1, D) float64."""
        pairs = ((self.before, self.class_token_before), (self.after, self.class_token_after))
        return [(embedding[:1] + token).astype(np.float64) for embedding, token in pairs]


ATTENTION_FIELDS, POSITION_FIELDS = (
    {name: hint.__metadata__ for name, hint in get_type_hints(kind, include_extras=True).items()}
    for kind in (Archive, PositionArchive)
)


@dataclass(frozen=True, eq=False)
class Attention:
    """The part of `attention.npz` that is small: everything about n images except their maps."""

    path: Path
    files: tuple[str, ...]  # (n,)
    classes: tuple[str, ...]  # (C,)
    labels: np.ndarray  # (n,) int, -1 unknown
    predicted: np.ndarray  # (n,) int
    probability: np.ndarray  # (n,) float, of the predicted class
    label_probability: np.ndarray  # (n,) float, of the label; NaN unknown
    outlier_share: np.ndarray  # (n,) float: of the patches, in the layer where outliers take most attention ...
    outlier_attention: np.ndarray  # (n,) float: ... and of that attention
    settings: Mapping[str, Any]
    stamp: str  # changes when the file is replaced; taken before it is read

    def __len__(self) -> int:
        return len(self.files)

    @property
    def misleading(self) -> np.ndarray:
        """As of an Archive."""
        return has_outlier_attention(self.outlier_share, self.outlier_attention)


@dataclass(frozen=True, eq=False)
class HeadStatistics:
    """Statistics of each head, as means over the images."""

    values: np.ndarray  # (L, H, K) float64
    names: tuple[str, ...]  # (K,)


Kind = TypeVar("Kind", Archive, PositionArchive)


def read_archive(path: Path, kind: type[Kind]) -> Kind:
    """A whole archive. Raises UnreadableError."""
    is_attention = kind is Archive
    fields = ATTENTION_FIELDS if is_attention else POSITION_FIELDS
    values = read_arrays(path, fields, fields, optional=ADDED_LATER)
    _check_settings(path, values["settings"]) if is_attention else _check_numbers(path, values["numbers"])
    try:
        return kind(**values)
    except ValueError as error:
        raise damaged(path, error) from error


def read_positions(run_folder: Path) -> PositionArchive:
    """The position embeddings of a run. Raises UnreadableError."""
    path = run_folder / "attention" / POSITIONS_FILE
    refuse_links(path, run_folder)
    return read_archive(path, PositionArchive)


def read_attention(run_folder: Path) -> Attention:
    """Everything about the images of a run except their maps. Raises UnreadableError."""
    path = run_folder / "attention" / ATTENTION_FILE
    refuse_links(path, run_folder)
    stamp = _stamp(path)  # first: a file that is replaced while it is read is then read again for the next page
    arrays = read_arrays(path, ATTENTION_FIELDS, ("files", "classes", "settings", *PER_IMAGE))
    _check_settings(path, arrays["settings"])
    files, classes = (tuple(map(str, arrays[name].tolist())) for name in ("files", "classes"))
    if not files:
        raise damaged(path, "it has no images")
    labels, predicted = (arrays[name].astype(np.int64) for name in ("labels", "predicted"))
    if predicted.min() < 0 or max(predicted.max(), labels.max()) >= len(classes) or len(set(files)) < len(files):
        raise damaged(path, "its classes or images do not fit together")
    numbers = {name: arrays[name].astype(np.float64) for name in PER_IMAGE if name not in ("labels", "predicted")}
    return Attention(path, files, classes, labels, predicted, settings=arrays["settings"], stamp=stamp, **numbers)


def read_statistics(run_folder: Path) -> HeadStatistics:
    """The statistics of the heads of a run. Raises UnreadableError."""
    path = run_folder / "attention" / ATTENTION_FILE
    refuse_links(path, run_folder)
    arrays = read_arrays(path, ATTENTION_FIELDS, ("statistics", "statistic_names"))
    if not arrays["statistics"].size:
        raise damaged(path, "its statistics are empty")
    return HeadStatistics(arrays["statistics"].astype(np.float64), tuple(map(str, arrays["statistic_names"].tolist())))


def _check_settings(path: Path, settings: Mapping[str, Any]) -> None:
    """The version, and the sizes that every reader uses."""
    version = settings.get("version")
    if version is not None and (isinstance(version, bool) or version != VERSION):
        raise UnreadableError(path, f"is of another version ({version})", EXPLAIN_AGAIN)
    for name in ("patch_size", "image_size", "head_layer"):
        size = settings.get(name)
        if size is not None and (type(size) is not int or not 0 < size < 100_000):
            raise damaged(path, f"{name} is {size!r} instead of a whole number above 0")


def _check_numbers(path: Path, numbers: Mapping[str, Any]) -> None:
    """Text of the verdict and its rule, and the numbers that every reader uses; NaN is a number here."""
    for name in ("verdict", "rule"):
        if not isinstance(numbers.get(name), str):
            raise damaged(path, f"{name} is {kind_of(numbers.get(name))} instead of text")
    for name in (*POSITION_NUMBERS, "change/value", "strength"):
        value: Any = numbers
        for key in name.split("/"):
            value = value.get(key) if isinstance(value, Mapping) else None
        if not isinstance(value, float) and finite_number(value) is None:
            raise damaged(path, f"{name} is {kind_of(value)} instead of a number")


def _stamp(path: Path) -> str:
    try:
        about = path.stat()
    except OSError:
        return ""  # reading the file reports the problem
    return f"{about.st_mtime_ns}-{about.st_size}"
