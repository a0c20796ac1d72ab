"""What a finished run leaves: test scores with intervals, predictions, figures, tables and the model artifact."""

from __future__ import annotations

import dataclasses
import resource
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness import track
from harness.data.dataset import Dataset
from harness.explain import output
from harness.explain.test_set import Sight
from harness.runs import figures
from harness.runs.console import duration
from harness.runs.folder import BEST
from harness.runs.logger import Record
from harness.training.metrics import (
    CSV_COLUMNS,
    Intervals,
    Predictions,
    Scores,
    bootstrap,
    predictions_rows,
    write_csv,
    write_predictions,
)
from harness.training.state import Progress

CLASS_COLUMNS = ("class", "precision", "recall", "f1", "support")


def conclude(
    record: Record,
    data: Dataset,
    predictions: Predictions,
    scores: Scores,
    progress: Progress,
    sight: Sight | None,
) -> dict[str, Any]:
    """Write and show everything about the tested checkpoint; returns the summary. Main process only."""
    config, folder, tracker = record.config, record.folder, record.tracker
    intervals = bootstrap(predictions.labels, predictions.predicted, len(data.classes))
    results = test_results(scores, intervals)
    rows = folder.read_metrics()
    speeds = [row["train/images_per_second"] for row in rows if "train/images_per_second" in row]
    results |= {
        "train/images_per_second": float(np.median(speeds)),
        "seconds/train": progress.seconds,
        "seconds/evaluate": progress.evaluation_seconds,
        "memory/peak_bytes": peak_memory(record.device),
        "micro_batch": progress.micro_batch,
    }
    write_predictions(folder.predictions, data.test.files, data.classes, predictions)
    class_rows = per_class(data.classes, scores)
    write_csv(folder.path / "per_class.csv", CLASS_COLUMNS, class_rows)
    curve = figures.loss_curve(rows, title=config.run_name, best_epoch=int(progress.best["best/epoch"]))
    loss_curve = figures.save(curve, folder.figures / "loss_curve.png")
    confusion = figures.save(
        figures.confusion_matrix(scores.confusion, data.classes, scores), folder.figures / "confusion_matrix.png"
    )
    if sight:
        results |= _look(record, sight)
    if tracker:
        tracker.summarize(results)
        tracker.image("figures/loss_curve", loss_curve)
        tracker.image("figures/confusion_matrix", confusion)
        tracker.table("test/per_class", CLASS_COLUMNS, class_rows)
        tracker.table(
            "test/predictions",
            CSV_COLUMNS,
            [
                (*row[:3], float(row[3]), float(row[4]))
                for row in predictions_rows(data.test.files, data.classes, predictions)
            ],
        )
        tracker.model(
            folder.checkpoints / BEST,
            name=track.model_name(folder.path),
            metadata={
                **results,
                **progress.best,
                "config": config.to_dict(),
                "classes": list(data.classes),
                "data_fingerprint": data.fingerprint,
            },
            description=f"Best epoch by validation macro F1 of run {config.run_name}.",
        )
    record.end("finished", exit_code=0, results=results)
    record.console.table(
        f"{config.run_name}: {config.model} on {Path(config.data).name}", _table(record, results, progress)
    )
    return folder.read("summary.json")


def _look(record: Record, sight: Sight) -> dict[str, Any]:
    folder = record.folder
    try:
        return output.present(sight, folder.attention, folder.figures, record.tracker, record.console.say)
    except Exception as error:  # of a run that is trained and tested, whatever cannot be drawn
        record.problem("pictures of attention", f"These could not be drawn: {str(error) or type(error).__name__}.")
        return {}


def test_results(scores: Scores, intervals: Intervals) -> dict[str, float]:
    """Metrics of the test split by their keys, with 95 % bootstrap intervals and n."""
    return {
        "test/f1": scores.f1,
        "test/accuracy": scores.accuracy,
        "test/loss": scores.loss,
        "test/top5": scores.top5,
        "test/ece": scores.ece,
        "test/n": scores.n,
        **{f"test/{name}": value for name, value in dataclasses.asdict(intervals).items()},
    }


def per_class(classes: tuple[str, ...], scores: Scores) -> list[tuple[str, float, float, float, int]]:
    columns = (scores.class_precision, scores.class_recall, scores.class_f1, scores.support)
    return list(zip(classes, *(column.tolist() for column in columns), strict=True))


def score_lines(results: dict[str, Any]) -> dict[str, str]:
    """Test scores as lines of a closing table."""
    return {
        "test macro F1": _with_interval(results, "f1"),
        "test accuracy": _with_interval(results, "accuracy"),
        "test top-5": f"{results['test/top5']:.4f}",
        "test loss": f"{results['test/loss']:.4f}",
        "calibration error": f"{results['test/ece']:.4f}",
    }


def peak_memory(device: torch.device) -> int:
    """Bytes: allocated on the GPU where the run is on one, else resident of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        # Not getrusage's maximum, which a process inherits from the one that started it.
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _table(record: Record, results: dict[str, Any], progress: Progress) -> dict[str, str]:
    best = progress.best
    lines = {
        "best epoch": f"{best['best/epoch']} of {record.config.epochs}",
        "validation macro F1": f"{best['best/val_f1']:.4f}",
        "validation accuracy": f"{best['best/val_accuracy']:.4f}",
        **score_lines(results),
        "training time": f"{duration(progress.seconds)} ({results['train/images_per_second']:.0f} images/s)",
        "peak memory": f"{results['memory/peak_bytes'] / 2**30:.2f} GiB",
        "run folder": str(record.folder.path),
    }
    if record.tracker and record.tracker.url:
        lines["W&B"] = record.tracker.url
    return lines


def _with_interval(results: dict[str, Any], name: str) -> str:
    low, high = results[f"test/{name}_low"], results[f"test/{name}_high"]
    return f"{results[f'test/{name}']:.4f}  (95 % interval {low:.4f} to {high:.4f}, n = {results['test/n']})"
