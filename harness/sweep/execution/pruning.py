"""Early termination of running trials: report their epochs to the trial queue, and ask pruned ones to stop."""

from __future__ import annotations

import contextlib

from harness.runs.reading import UnreadableError
from harness.sweep.execution.outcome import EARLY_TERMINATION, read_summary
from harness.sweep.execution.running_trial import RunningTrial
from harness.sweep.search.trial_queue import TrialQueue


def report_epochs(trial: RunningTrial, trial_queue: TrialQueue, metric: str) -> None:
    """Report the metric of new epochs to the trial queue, which may prune the trial."""
    for epoch in range(trial.reported + 1, len(trial.metrics.validations) + 1):
        trial.reported = epoch
        value = trial.value(metric, epochs=epoch)
        prune = value is not None and trial_queue.report(trial.claimed, epoch, value)
        if prune and not trial.prune_reason and epoch < trial.config.epochs:
            trial.prune_reason = f"{EARLY_TERMINATION} after epoch {epoch}, at {metric} {value:.4f}"


def ask_to_stop(trial: RunningTrial) -> None:
    """Ask a pruned trial to stop, once its run trains: a run clears earlier requests when it starts."""
    if trial.folder.is_asked_to_stop:
        return
    with contextlib.suppress(UnreadableError):  # a damaged summary is reported when the trial ends
        if read_summary(trial.folder).get("state") == "running":
            trial.folder.ask_to_stop(trial.prune_reason)
