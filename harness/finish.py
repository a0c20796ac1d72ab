"""What a finished run leaves: test scores with intervals, predictions, figures, tables and the model artifact."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from harness import track
from harness.data.dataset import Dataset
from harness.explain import output
from harness.explain.test_set import ExplainResult
from harness.runs import figures
from harness.runs.console import duration
from harness.runs.folder import BEST
from harness.runs.logger import RunLogger
from harness.runs.summary import peak_memory, per_class, score_lines, test_results
from harness.training.metrics import (
    CSV_COLUMNS,
    Predictions,
    Scores,
    bootstrap,
    predictions_rows,
    write_csv,
    write_predictions,
)
from harness.training.state import Progress

CLASS_COLUMNS = ("class", "precision", "recall", "f1", "support")


def finish_run(
    run_logger: RunLogger,
    data: Dataset,
    predictions: Predictions,
    scores: Scores,
    progress: Progress,
    sight: ExplainResult | None,
    probe_logits: np.ndarray | None = None,
) -> dict[str, Any]:
    """Write and show everything about the tested checkpoint; returns the summary. Main process only."""
    config, folder, tracker = run_logger.config, run_logger.folder, run_logger.tracker
    intervals = bootstrap(predictions.labels, predictions.predicted, len(data.classes))
    results = test_results(scores, intervals)
    rows = folder.read_metrics()
    speeds = [row["train/images_per_second"] for row in rows if "train/images_per_second" in row]
    results |= {
        "train/images_per_second": float(np.median(speeds)),
        "seconds/train": progress.seconds,
        "seconds/evaluate": progress.evaluation_seconds,
        "memory/peak_bytes": peak_memory(run_logger.device),
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
    if probe_logits is not None:
        results |= gain_over_probe(predictions, probe_logits)
    if sight:
        results |= _look(run_logger, sight)
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
    run_logger.end("finished", exit_code=0, results=results)
    run_logger.console.table(
        f"{config.run_name}: {config.model} on {Path(config.data).name}", _table(run_logger, results, progress)
    )
    return folder.read("summary.json")


def _look(run_logger: RunLogger, sight: ExplainResult) -> dict[str, Any]:
    folder = run_logger.folder
    try:
        return output.write_and_log(sight, folder.attention, folder.figures, run_logger.tracker, run_logger.console.say)
    except Exception as error:  # of a run that is trained and tested, whatever cannot be drawn
        run_logger.problem("pictures of attention", f"These could not be drawn: {str(error) or type(error).__name__}.")
        return {}


def _table(run_logger: RunLogger, results: dict[str, Any], progress: Progress) -> dict[str, str]:
    best = progress.best
    lines = {
        "best epoch": f"{best['best/epoch']} of {run_logger.config.epochs}",
        "validation macro F1": f"{best['best/val_f1']:.4f}",
        "validation accuracy": f"{best['best/val_accuracy']:.4f}",
        **score_lines(results),
        "training time": f"{duration(progress.seconds)} ({results['train/images_per_second']:.0f} images/s)",
        "peak memory": f"{results['memory/peak_bytes'] / 2**30:.2f} GiB",
        "run folder": str(run_logger.folder.path),
    }
    if run_logger.tracker and run_logger.tracker.url:
        lines["W&B"] = run_logger.tracker.url
    return lines
