"""Write the results of a finished run: test scores with intervals, predictions, figures, tables, model artifact."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from harness import track
from harness.data.dataset import Dataset
from harness.evidence.verify import verify_finished
from harness.explain import output
from harness.explain.output_folder import OutputFolder
from harness.explain.test_set import ExplainResult
from harness.probe.gain import gain_over_probe, probe_lines
from harness.probe.head import ProbeHead
from harness.runs import figures
from harness.runs.confusion_figure import confusion_matrix
from harness.runs.folder import BEST
from harness.runs.intervals import score_intervals
from harness.runs.logger import RunLogger
from harness.runs.predictions import CLASS_COLUMNS, CLASSES_FILE, PREDICTION_COLUMNS
from harness.runs.reliability import confidence_lines, reliability, reliability_figure
from harness.runs.rules import duration
from harness.runs.summary import lowest_recalls, peak_memory, per_class, score_lines, test_results
from harness.track import Tracker
from harness.training.distributed import Processes
from harness.training.metrics import (
    Predictions,
    Scores,
    predictions_rows,
    write_csv,
    write_predictions,
)
from harness.training.state import Progress


def finish_run(
    run_logger: RunLogger,
    data: Dataset,
    predictions: Predictions,
    scores: Scores,
    progress: Progress,
    explained: ExplainResult | None,
    processes: Processes,
    probe: ProbeHead | None = None,
) -> dict[str, Any]:
    """Write the results of the tested checkpoint and log them to W&B; returns the summary. Main process only."""
    config, folder, tracker = run_logger.config, run_logger.folder, run_logger.tracker
    intervals = score_intervals(predictions.labels, predictions.predicted, len(data.classes))
    results: dict[str, Any] = dict(test_results(scores, intervals))
    rows = folder.read_metrics()
    speeds = [row["train/images_per_second"] for row in rows if row.get("train/images_per_second") is not None]
    results |= {
        "train/images_per_second": float(np.median(speeds)),
        "seconds/train": progress.seconds,
        "seconds/evaluate": progress.evaluation_seconds,
        "memory/peak_bytes": peak_memory(run_logger.device),
        "micro_batch": progress.micro_batch,
    }
    if progress.epochs < config.epochs:
        reason = f"epochs without a better validation score: {config.patience}"
        results |= {"stopped_early/epoch": progress.epochs, "stopped_early/reason": reason}
    write_predictions(folder.predictions, data.test.files, data.classes, predictions)
    class_rows = per_class(data.classes, scores)
    write_csv(folder.path / CLASSES_FILE, CLASS_COLUMNS, class_rows)
    measured = reliability(predictions, scores.ece)
    results["test/temperature"] = measured.temperature
    drawn = {
        "loss_curve": figures.loss_curve(
            rows, title=config.run_name, best_epoch_number=int(progress.best["best/epoch"])
        ),
        "confusion_matrix": confusion_matrix(scores.confusion, data.classes, scores),
        "reliability": reliability_figure(measured),
    }
    paths = {name: figures.save(figure, folder.figures / f"{name}.png") for name, figure in drawn.items()}
    if probe:
        results |= gain_over_probe(predictions.labels, predictions.predicted, probe.test_predicted, len(data.classes))
    if explained:
        results |= _write_explanation(run_logger, explained)
    if tracker:
        _log(run_logger, tracker, data, predictions, paths, class_rows, results, progress.best)
    if config.verify:
        results |= _verify(run_logger, data, processes)
    run_logger.end("finished", exit_code=0, results=results)
    about = confidence_lines(measured, progress.best["best/val_loss"], len(data.classes))
    about["lowest recall"] = lowest_recalls(class_rows)
    run_logger.console.table(
        f"{config.run_name}: {config.model} on {Path(config.data).name}",
        _closing_table(run_logger, results, progress, about),
    )
    return folder.read("summary.json")


def _log(
    run_logger: RunLogger,
    tracker: Tracker,
    data: Dataset,
    predictions: Predictions,
    paths: dict[str, Path],
    class_rows: list[tuple[str, float, float, float, int]],
    results: dict[str, Any],
    best: dict[str, float],
) -> None:
    """Log results, figures, tables and the model to W&B."""
    config, folder = run_logger.config, run_logger.folder
    tracker.summarize(results)
    for name, path in paths.items():
        tracker.image(f"figures/{name}", path)
    tracker.table("test/per_class", CLASS_COLUMNS, class_rows)
    tracker.table(
        "test/predictions",
        PREDICTION_COLUMNS,
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
            **best,
            "config": config.to_dict(),
            "classes": list(data.classes),
            "data_fingerprint": data.fingerprint,
        },
        description=f"Best epoch by validation macro F1 of run {config.run_name}.",
    )


def _write_explanation(run_logger: RunLogger, explained: ExplainResult) -> dict[str, Any]:
    folder = run_logger.folder
    try:
        return output.write_and_log(
            explained, OutputFolder.of_run(folder.path), run_logger.tracker, run_logger.console.say
        )
    except Exception as error:  # the run is trained and tested: a drawing error must not fail it
        run_logger.problem("attention maps", f"They could not be drawn: {str(error) or type(error).__name__}.")
        return {}


def _verify(run_logger: RunLogger, data: Dataset, processes: Processes) -> dict[str, Any]:
    folder, console = run_logger.folder, run_logger.console
    console.say("Testing what attention maps show (--verify).")
    try:
        return verify_finished(folder.path, run_logger.config, data, processes, run_logger.tracker, console.say)
    except Exception as error:  # the run is trained and tested
        run_logger.problem("evidence", f"It could not be measured: {str(error) or type(error).__name__}.")
        return {}


def _closing_table(
    run_logger: RunLogger, results: dict[str, Any], progress: Progress, about: dict[str, str]
) -> dict[str, str]:
    best = progress.best
    early = f" (stopped early after epoch {progress.epochs})" if "stopped_early/epoch" in results else ""
    lines = {
        "best epoch": f"{best['best/epoch']} of {run_logger.config.epochs}{early}",
        **score_lines(best | results),
        **about,
        **probe_lines(results),
        "training time": f"{duration(progress.seconds)} ({results['train/images_per_second']:.0f} images/s)",
        "peak memory": f"{results['memory/peak_bytes'] / 2**30:.2f} GiB",
        "run folder": str(run_logger.folder.path),
    }
    if run_logger.tracker and run_logger.tracker.url:
        lines["W&B"] = run_logger.tracker.url
    return lines
