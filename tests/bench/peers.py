"""Fine-tuning scripts of other projects, run as published: their commands, and the scores in the files they write.

Neither project is a dependency, and no file of theirs is changed. timm's scripts are train.py and inference.py of
https://github.com/huggingface/pytorch-image-models, Hugging Face's is examples/pytorch/image-classification/
run_image_classification.py of https://github.com/huggingface/transformers. Their settings are those that the projects
document for fine-tuning; the passes over train, the seed and the starting weights are the ones of our own runs.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.runs.intervals import score_intervals
from harness.runs.resampling import macro_f1, wilson

SPLITS = {"train": ("train",), "val": ("valid", "val", "validation"), "test": ("test",)}
# torchvision's names of the architectures that we share, and timm's.
TIMM_MODELS = {
    "vit_ti_16": "deit_tiny_patch16_224",
    "vit_s_16": "deit_small_patch16_224",
    "vit_b_16": "deit_base_patch16_224",
}


@dataclass(frozen=True)
class FinalScores:
    """Scores on the test images with 95 % intervals; NaN for what a script does not write."""

    accuracy: float
    accuracy_low: float
    accuracy_high: float
    f1: float = float("nan")
    f1_low: float = float("nan")
    f1_high: float = float("nan")
    val_accuracy: float = float("nan")


def split_folder(data: Path, split: str) -> Path:
    """The folder of a split, by whichever of its names it has. FileNotFoundError if there is none."""
    for name in SPLITS[split]:
        if (data / name).is_dir():
            return data / name
    raise FileNotFoundError(f"{data} has no folder {' or '.join(SPLITS[split])}.")


def class_names(data: Path) -> list[str]:
    return sorted(folder.name for folder in split_folder(data, "train").iterdir() if folder.is_dir())


def timm_commands(
    scripts: Path,
    python: str,
    *,
    data: Path,
    weights: Path,
    model: str,
    epochs: int,
    seed: int,
    out: Path,
    image_size: int | None = None,
) -> list[list[str]]:
    """timm: AdamW, lr 1e-4, cosine, its default augmentation; model_best by validation, then inference.py on test.

    Its warm-up of 5 epochs is longer than a short run, so it is at most a tenth of the epochs, rounded.
    """
    name, classes = TIMM_MODELS[model], out / "classes.txt"
    out.mkdir(parents=True, exist_ok=True)
    classes.write_text("".join(f"{label}\n" for label in class_names(data)))
    count, val = str(len(class_names(data))), split_folder(data, "val").name
    shared = ["--data-dir", str(data), "--model", name, "--num-classes", count, "--class-map", str(classes)]
    shared += ["--device", "cpu", "--workers", "1", *_timm_size(image_size)]
    train = [python, str(scripts / "train.py"), *shared, "--train-split", "train", "--val-split", val]
    train += ["--pretrained", "--pretrained-path", str(weights), "--opt", "adamw", "--lr", "1e-4"]
    train += ["--weight-decay", "0.05", "--sched", "cosine", "--warmup-epochs", str(round(epochs / 10))]
    train += ["--epochs", str(epochs), "--batch-size", "16", "--seed", str(seed)]
    train += ["--output", str(out), "--experiment", "run"]
    test = [python, str(scripts / "inference.py"), *shared, "--split", "test", "--batch-size", "16"]
    test += ["--checkpoint", str(out / "run" / "model_best.pth.tar"), "--topk", "1", "--include-index", "--fullname"]
    test += ["--no-console-results", "--results-dir", str(out), "--results-file", "test.csv"]
    return [train, test]


def _timm_size(image_size: int | None) -> list[str]:
    size = str(image_size)
    return ["--img-size", size, "--model-kwargs", f"img_size={size}"] if image_size else []


def timm_scores(out: Path, data: Path) -> FinalScores:
    """From test.csv, a row per test image with the index of its predicted class, and summary.csv, a row per epoch."""
    classes = class_names(data)
    rows = list(csv.DictReader((out / "test.csv").open(newline="")))
    labels = np.array([classes.index(Path(row["filename"]).parent.name) for row in rows])
    predicted = np.array([int(row["index"]) for row in rows])
    intervals = score_intervals(labels, predicted, len(classes))
    epochs = list(csv.DictReader((out / "run" / "summary.csv").open(newline="")))
    return FinalScores(
        accuracy=float((labels == predicted).mean()),
        accuracy_low=intervals.accuracy_low,
        accuracy_high=intervals.accuracy_high,
        f1=macro_f1(labels, predicted, len(classes)),
        f1_low=intervals.f1_low,
        f1_high=intervals.f1_high,
        val_accuracy=max(float(row["eval_top1"]) for row in epochs) / 100,
    )


def hf_commands(script: Path, python: str, *, data: Path, model: Path, epochs: int, seed: int, out: Path) -> list:
    """Hugging Face's example with its defaults: AdamW, lr 5e-5, linear decay, crops and flips; the last epoch's model.

    It evaluates one folder and chooses no epoch, so that folder is test: nothing is chosen on it.
    """
    command = [python, str(script), "--model_name_or_path", str(model), "--ignore_mismatched_sizes"]
    command += ["--train_dir", str(split_folder(data, "train")), "--validation_dir", str(split_folder(data, "test"))]
    command += ["--do_train", "--do_eval", "--remove_unused_columns", "False", "--use_cpu"]
    command += ["--label_column_name", "label", "--per_device_train_batch_size", "16"]
    command += ["--num_train_epochs", str(epochs), "--seed", str(seed), "--save_strategy", "no"]
    command += ["--report_to", "none", "--output_dir", str(out)]
    return [command]


def hf_model_of_size(model: Path, image_size: int, folder: Path) -> Path:
    """The folder of a Transformers model for another image size: its position embeddings start from new values."""
    shutil.copytree(model, folder, symlinks=False)
    config, preprocessor = folder / "config.json", folder / "preprocessor_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"image_size": image_size}))
    size = {"size": {"height": image_size, "width": image_size}}
    preprocessor.write_text(json.dumps(json.loads(preprocessor.read_text()) | size))
    return folder


def hf_scores(out: Path, data: Path) -> FinalScores:
    """From all_results.json; it has an accuracy and no F1, and no predictions to compute one from."""
    accuracy = float(json.loads((out / "all_results.json").read_text())["eval_accuracy"])
    images = sum(1 for path in split_folder(data, "test").rglob("*") if path.is_file())
    return FinalScores(accuracy, *wilson(round(accuracy * images), images))


@dataclass(frozen=True)
class Common:
    """What all jobs of a comparison share."""

    data: Path
    weights: Path
    model: str
    threads: int
    timm: Path | None
    hf: Path | None
    hf_model: Path | None
    peer_python: str


def add_common_options(parser: argparse.ArgumentParser, timm_scripts: Sequence[str]) -> None:
    """An option for each field of Common."""
    parser.add_argument("--data", type=Path, default=os.environ.get("HARNESS_REAL_DATA"))
    parser.add_argument("--weights", type=Path, default=os.environ.get("HARNESS_REAL_WEIGHTS"))
    parser.add_argument("--model", default="vit_ti_16")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of every job")
    parser.add_argument("--timm", type=Path, help=f"folder of timm's {' and '.join(timm_scripts)}")
    parser.add_argument("--hf", type=Path, help="Hugging Face's run_image_classification.py")
    parser.add_argument("--hf-model", type=Path, help="the weights as a folder that Transformers reads")
    parser.add_argument("--peer-python", default=PYTHON, help="interpreter of the other projects' scripts")


def parsed(parser: argparse.ArgumentParser) -> dict[str, Any] | None:
    """The options by name; None, and a sentence, without data or weights."""
    options = vars(parser.parse_args())
    if options["data"] and options["weights"]:
        return options
    print("Skipped: give --data and --weights, or set HARNESS_REAL_DATA and HARNESS_REAL_WEIGHTS.")
    return None


def why_skipped(method: str, common: Common, timm_scripts: Sequence[str]) -> str:
    """Why a method's scripts cannot be run here, as a sentence; empty if they can, or if it is one of ours."""
    if method == "timm":
        if common.timm is None:
            return f"timm: skipped; give the folder of its {' and '.join(timm_scripts)} with --timm."
        if common.model not in TIMM_MODELS:
            return f"timm: skipped; --model {common.model} has no counterpart among {', '.join(TIMM_MODELS)}."
        files = [common.timm / script for script in timm_scripts]
    elif method == "hf":
        if common.hf is None or common.hf_model is None:
            return (
                "hf: skipped; give run_image_classification.py with --hf, and the same weights as a folder of "
                "Transformers with --hf-model."
            )
        files = [common.hf, common.hf_model]
    else:
        return ""
    absent = [str(path) for path in (Path(common.peer_python), *files) if not path.exists()]
    return f"{method}: skipped; {', '.join(absent)} does not exist." if absent else ""


PYTHON = sys.executable
