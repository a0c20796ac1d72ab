"""Explains a finished run or plain weights: computes attention, or only draws it again."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from torchvision.models import ViT_B_16_Weights

from harness.config import RunConfig
from harness.data.cache import open_cache
from harness.data.dataset import CachedImages
from harness.data.resize import Resize
from harness.errors import HarnessError, WeightsError
from harness.explain import output, test_set
from harness.explain.attention.head_statistics import STATISTICS
from harness.explain.images import of_files, resolve_image_paths
from harness.explain.output_folder import OutputFolder
from harness.explain.positions.change import Embedding
from harness.explain.test_set import ExplainedModel
from harness.model import adapter
from harness.model.architectures import head_layer
from harness.model.preprocessing import Preprocessing, checked_preprocessing
from harness.model.pretrained import published, weights_path
from harness.model.state_dict_keys import HEAD, naming_of, to_torchvision
from harness.model.timm_catalog import is_timm
from harness.model.vit import build_model
from harness.model.weights_file import read_metadata, read_weights
from harness.predict import best_of, initial_model, open_run
from harness.runs.attention_files import Archive, PositionArchive, read_archive
from harness.runs.npz_arrays import damaged
from harness.runs.reading import parse_json
from harness.runs.rules import ATTENTION_FILE, POSITIONS_FILE, printable
from harness.training.checkpoint import BestCheckpoint, checked_classes
from harness.training.distributed import Processes

IMAGENET: tuple[str, ...] = tuple(ViT_B_16_Weights.IMAGENET1K_V1.meta["categories"])

Say = Callable[[str], None]


def explain_run(
    run_folder: Path,
    place: OutputFolder,
    layer: int | None,
    data: str | None,
    cache_dir: str | None,
    say: Say,
) -> None:
    """Explain every test image of a run with its best checkpoint, and compare its position embedding."""
    best, config, dataset = open_run(run_folder, data, cache_dir, say)
    layer = head_layer(config.model, layer, "--layer")
    processes = Processes(config)
    explained = _model_of(best, processes)
    before = None
    try:
        before = Embedding.of(initial_model(best, run_folder))
        if before is None:
            say(adapter.parts(explained.model).no_positions)
    except HarnessError as error:
        say(f"Position embeddings are not compared with those before training: {error}")
    say(f"Explaining {len(dataset.test)} test images.")
    result = test_set.explain_dataset(explained, dataset.test, str(dataset.root), layer, config, processes, before)
    processes.close()
    assert result is not None
    output.write_and_log(result, place, None, say)


def explain_images_with_run(
    run_folder: Path, images: Sequence[Path], place: OutputFolder, layer: int | None, say: Say
) -> list[tuple[Path, list[tuple[str, float]]]]:
    """Explain any images with a run's best checkpoint; returns each with its top-5 classes."""
    best = best_of(run_folder)
    config = dataclasses.replace(best.config, weights="none", fresh=False, image_size=None, crop_pct=None)
    layer = head_layer(config.model, layer, "--layer")
    root, files = resolve_image_paths(images)
    processes = Processes(config)
    explained = _model_of(best, processes)
    return _explain_files(explained, root, files, place, layer, config, processes, say)


def explain_images_with_weights(
    weights: str, model: str, images: Sequence[Path], place: OutputFolder, layer: int | None, say: Say
) -> list[tuple[Path, list[tuple[str, float]]]]:
    """Explain any images with weights outside a run; returns each with its top-5 classes."""
    layer = head_layer(model, layer, "--layer")
    root, files = resolve_image_paths(images)
    config = RunConfig(data=str(root), model=model, weights=weights).resolved()
    classes = class_names(model, config.weights)
    if classes is IMAGENET:
        say(f"The weights name no classes; the names of ImageNet's {len(classes)} classes are used.")
    loaded = build_model(config, len(classes))
    for sentence in loaded.report:
        say(sentence)
    processes = Processes(config)
    explained = ExplainedModel(
        loaded.model.eval().to(processes.device), model, config.weights, classes, loaded.preprocessing
    )
    return _explain_files(explained, root, files, place, layer, config, processes, say)


def _model_of(best: BestCheckpoint, processes: Processes) -> ExplainedModel:
    config = best.config
    model = best.model.to(processes.device)
    return ExplainedModel(model, config.model, config.weights, best.classes, best.preprocessing, config.run_name)


def redraw(place: OutputFolder, data: str | None, say: Say) -> Archive:
    """Draw again from the arrays in a folder and the images themselves; no model is needed.

    object.json and its figure stay if the masks were deleted.
    """
    folder, owned = place.path, place.open()
    arrays = read_archive(folder / ATTENTION_FILE, Archive)
    positions = folder / POSITIONS_FILE
    compared = read_archive(positions, PositionArchive) if positions.is_file() else None
    try:
        preprocessing, root = _recorded_images(arrays, data)
    except ValueError as error:
        raise damaged(folder / ATTENTION_FILE, error) from error
    crops = of_files(root, [str(file) for file in arrays.files], preprocessing)
    on_object = output.measure_object(arrays, root, owned, say)
    output.draw(arrays, compared, on_object, crops, place, owned)
    return arrays


def _recorded_images(arrays: Archive, data: str | None) -> tuple[Preprocessing, Path]:
    """How the images of the arrays were cropped, and their folder. Raises ValueError if they cannot be drawn."""
    for file in map(str, arrays.files):
        path = PurePosixPath(file)
        if path.is_absolute() or ".." in path.parts or "\0" in file:
            raise ValueError(f"it names {printable(file)}, which is outside the folder of its images")
    root = data or arrays.settings.get("root")
    if not isinstance(root, str) or "\0" in root:
        raise ValueError("it does not name the folder of its images")
    classes = len(arrays.classes)
    if not ((arrays.predicted >= 0) & (arrays.predicted < classes) & (arrays.labels < classes)).all():
        raise ValueError(f"labels or predictions are not among its {classes} classes")
    if missing := [name for name in ("patch_size", "image_size") if arrays.settings.get(name) is None]:
        raise ValueError(f"its settings lack {' and '.join(missing)}")
    if missing := [name for name in STATISTICS if name not in arrays.statistic_names]:
        raise ValueError(f"its statistics lack {', '.join(missing)}")
    return checked_preprocessing(arrays.settings.get("preprocessing")), Path(root)


def class_names(model: str, weights: str) -> tuple[str, ...]:
    """Class names of the head of these weights; numbered if the file has none.

    A head of 1000 classes without names counts as ImageNet's.
    """
    if entry := published(model, weights):
        return tuple(entry.meta["categories"])
    path = weights_path(model, weights)
    if path is None:
        raise HarnessError("--weights none cannot be explained: give a weights file, published weights or a run.")
    state, _ = read_weights(path)
    timms = is_timm(model) and naming_of("timm").marker in state
    head = state.get("head.weight") if timms else to_torchvision(state)[0].get(HEAD[0])
    if head is None or head.dim() != 2:
        raise HarnessError(f"{path} has no classification head, so its predictions cannot be explained.")
    if (text := read_metadata(path).get("classes")) is not None:
        try:
            return checked_classes(parse_json(text), {HEAD[0]: head})
        except ValueError as error:
            raise WeightsError(f"{path}: 'classes' in its metadata cannot be used ({error}).") from error
    if len(head) == len(IMAGENET):
        return IMAGENET
    return tuple(f"class {index}" for index in range(len(head)))


def _explain_files(
    explained: ExplainedModel,
    root: Path,
    files: Sequence[str],
    place: OutputFolder,
    layer: int,
    config: RunConfig,
    processes: Processes,
    say: Say,
) -> list[tuple[Path, list[tuple[str, float]]]]:
    rule = explained.preprocessing
    with tempfile.TemporaryDirectory(prefix="harness-") as scratch:
        resize = Resize(rule.resize_size, rule.interpolation)
        pixels = open_cache(root, files, resize=resize, cache_dir=scratch, progress=len(files) > 100)
        unknown = np.full(len(files), -1)
        rows = CachedImages(pixels, np.arange(len(files)), unknown, tuple(files))
        say(f"Explaining {len(files)} images.")
        result = test_set.explain_dataset(explained, rows, str(root), layer, config, processes)
        processes.close()
        assert result is not None
        output.write_and_log(result, place, None, say)
    tops = zip(result.top_classes.tolist(), result.top_probabilities.tolist(), strict=True)
    return [
        (root / file, [(explained.classes[index], value) for index, value in zip(*top, strict=True)])
        for file, top in zip(files, tops, strict=True)
    ]
