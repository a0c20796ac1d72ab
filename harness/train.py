"""fit: the story of one run, from a folder of images to a tested checkpoint."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from harness.config import RunConfig
from harness.data.dataset import open_dataset
from harness.data.eval_loader import EvalBatches
from harness.data.loader import TrainBatches
from harness.errors import InfeasibleError, TrainingError
from harness.evaluate import evaluate
from harness.explain import test_set
from harness.explain.positions.change import Embedding
from harness.finish import finish_run
from harness.model.lora import merge_lora
from harness.model.norm_eps import norm_eps
from harness.model.vit import build_model
from harness.probe.head import start_from_probe
from harness.runs.console import Stopwatch
from harness.runs.context import RunContext
from harness.runs.folder import BEST, PROBE, STATE
from harness.runs.logger import RunLogger
from harness.runs.rules import epoch_order
from harness.runs.summary import error_facts, kept_best
from harness.runs.training_row import training_row
from harness.training import preflight
from harness.training.checkpoint import best_scores, save_best
from harness.training.class_weights import class_weights
from harness.training.dataloaders import check_same_images, keep_on_device, open_batches
from harness.training.distributed import Processes
from harness.training.failures import in_words
from harness.training.loss import training_loss
from harness.training.metrics import Predictions, Scores
from harness.training.optim import learning_rate
from harness.training.signals import StopRequested, StopSignals
from harness.training.state import Progress, TrainState, largest_micro_batch, training_ended
from harness.training.state_writer import StateWriter
from harness.training.step import training_step
from harness.training.threads import limit_threads

# What ranks agree on after each step; the largest wins.
SAVE_NOW, STOP_NOW = 1, 2


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a run ended: `finished`, `preempted` (the same command resumes it) or `stopped` (pruned or by hand)."""

    state: str
    folder: Path
    summary: dict[str, Any]
    exit_code: int = 0


def fit(config: RunConfig) -> Outcome:
    """Train, keep the best epoch, test it once; the same config resumes an interrupted run.

    Every rank calls it. Raises HarnessError for what the user can correct. The run folder and W&B record how it ended.
    """
    config, problems = preflight.resolved(config)
    with contextlib.ExitStack() as stack:
        stop = stack.enter_context(StopSignals())
        processes = Processes(config)
        stack.callback(processes.close)
        run_logger = RunLogger(config, processes)
        stack.callback(run_logger.console.close)
        stop.on_hard_exit = run_logger.on_hard_exit
        image_folder, preprocessing = processes.on_main(
            lambda: preflight.check_inputs(config, run_logger.folder.path, problems)
        )
        try:
            # W&B starts here, before any slow work: a sweep's server assigns a silent run to another agent.
            if not processes.on_main(lambda: run_logger.begin(image_folder, stack)):
                processes.leave()
                return Outcome("finished", run_logger.folder.path, run_logger.folder.read("summary.json"))
            summary = _train_and_test(RunContext(config, image_folder, preprocessing, processes, run_logger, stop))
        except StopRequested as stop_request:
            stop.finishing()
            if run_logger.finished:  # the signal came after everything was written
                return Outcome("finished", run_logger.folder.path, run_logger.folder.read("summary.json"))
            prune_reason = run_logger.prune_reason(stop_request.signum)
            state, exit_code = ("stopped", 0) if prune_reason else ("preempted", stop_request.exit_code)
            run_logger.end(state, exit_code=exit_code, reason=prune_reason)
            how = f"Stopped: {prune_reason}." if prune_reason else f"Stopped by {stop_request}."
            run_logger.console.say(f"{how} The same command resumes it from its last save: {run_logger.folder.path}")
            return Outcome(state, run_logger.folder.path, run_logger.folder.read("summary.json"), exit_code)
        except BaseException as error:
            stop.finishing()
            state, exit_code = ("infeasible", error.exit_code) if isinstance(error, InfeasibleError) else ("failed", 1)
            facts = error_facts(error, processes.device) | kept_best(run_logger.folder)
            cause = in_words(error, run_logger.folder.path)
            reason = str(cause or error) or type(error).__name__
            run_logger.end(state, exit_code=exit_code, reason=reason, results=facts)
            if cause:
                raise cause from error
            raise
        return Outcome("finished", run_logger.folder.path, summary)


def exit_code_of(config: RunConfig) -> int:
    """Run `fit`; returns the exit code for the process."""
    try:
        return fit(config).exit_code
    except StopRequested as stop_request:  # before there was a run folder
        return stop_request.exit_code
    except Exception as error:
        if cause := in_words(error):  # before there was a run folder
            raise cause from error
        raise


def _train_and_test(run: RunContext) -> dict[str, Any]:
    config, processes, run_logger, preprocessing = run.config, run.processes, run.run_logger, run.preprocessing
    # Data and model. The main process downloads first. One process of each node decodes; the cache lets others wait.
    # The model comes first: damaged weights are then an error before any decoding.
    loaded = processes.main_first(lambda: build_model(config, len(run.image_folder.classes)))
    limit_threads(loaded.model, largest_micro_batch(config, processes.world), config, processes)
    data = processes.main_first(lambda: open_dataset(run.image_folder, preprocessing, config), each_node=True)
    check_same_images(data, processes)
    probe = None
    if config.head_init == "probe":
        probe = start_from_probe(run_logger.folder.checkpoints / PROBE, loaded, data, config, processes)
    before = Embedding.of(loaded.model)
    loss_weights = processes.on_main(lambda: class_weights(config, data.classes, data.train.labels))
    loss = training_loss(loss_weights, data.train.labels, len(data.classes), config.logit_adjust, processes.device)
    total_steps = config.epochs * math.ceil(len(data.train) / config.batch_size)
    state = TrainState(loaded.model, config, processes.accelerator, loss, total_steps)
    data = keep_on_device(data, config, processes)
    batches = open_batches(data, preprocessing, config, processes, loss_weights)

    # Start, or resume.
    state_file, best_file = run_logger.folder.checkpoints / STATE, run_logger.folder.checkpoints / BEST
    origin = {"data": data.fingerprint, "weights": loaded.weights_digest} | loss.origin()
    if processes.on_main(state_file.exists):
        state.restore(state_file, origin)
        # The run may have ended after writing the best checkpoint of an epoch and before writing its state.
        stored = processes.on_main(lambda: best_scores(best_file))
        if state.progress.best and not stored:
            _forget_best(run, best_file, state.progress)
        state.progress.best = stored
    progress = state.progress
    progress.start_with(processes.world, config)
    run_logger.inputs(data, loaded, loss_weights)  # not of a run that is refused because they have changed
    run_logger.resume(progress, total_steps)
    if state.average and (shortfall := state.average.shortfall(total_steps)):
        run_logger.console.say(shortfall)
    if probe:
        run_logger.probe(probe.metrics())

    def timed_evaluate(split: EvalBatches, count: int) -> tuple[Predictions | None, Scores]:
        watch = Stopwatch()
        result = evaluate(state.forward, split, count, len(data.classes), processes, run.stop)
        progress.evaluation_seconds += watch.lap()[0]
        return result

    with run.stop.deferred():
        # Train, and keep the best epoch.
        facts: dict[str, Any] = {"config": config, "classes": data.classes, "preprocessing": preprocessing}
        keep_best = partial(save_best, best_file, **facts, eps=norm_eps(state.model))
        with StateWriter(state, state_file, origin, config, is_main=processes.is_main) as writer:
            while not training_ended(progress, config):
                try:
                    _train_epoch(run, progress.epochs, state, batches.train, writer)
                    _, scores = timed_evaluate(batches.val, len(data.val))
                except StopRequested:
                    run.stop.extend_deadline()
                    writer.save()
                    # No rank leaves before: a launcher would take its end for a failure, and end the main process.
                    writer.wait()
                    processes.any(False)
                    raise
                progress.epochs += 1
                if is_best := _better(scores, progress.best):
                    progress.best = {"best/epoch": progress.epochs} | scores.by_key("best/val_")
                row = {"step": progress.step, "epoch": progress.epochs} | scores.by_key("val/")
                # Before the state: resuming drops rows of steps that it repeats, but cannot restore a missing row.
                run_logger.validation(row, progress.best, is_best=is_best)
                writer.save(partial(keep_best, scores=progress.best) if is_best else None)

        # Test: once, with the best epoch's weights.
        merge_lora(state.model)
        processes.on_main(lambda: state.use(best_file))
        processes.broadcast(state.model)
        state.average = None
        state.train(False)
        predictions, scores = timed_evaluate(batches.test, len(data.test))
        explained = test_set.explain_test_set(run, state, data, before)

    # From here on the main process works alone: no other rank waits for it.
    processes.leave()
    if predictions is None:
        return {}
    summary = finish_run(run_logger, data, predictions, scores, progress, explained, processes, probe)
    state_file.unlink(missing_ok=True)  # a finished run is never resumed
    return summary


def _forget_best(run: RunContext, best_file: Path, progress: Progress) -> None:
    """Let the remaining epochs choose a new best checkpoint; TrainingError if there are none."""
    lost = f"{best_file}, the best checkpoint (epoch {progress.best['best/epoch']:.0f}), is missing"
    if training_ended(progress, run.config):
        raise TrainingError(f"{lost}, and training has ended. Restore the file, or use --fresh to start over.")
    run.run_logger.console.say(f"{lost}. The remaining epochs choose a new one; --fresh starts over.")


def _train_epoch(run: RunContext, epoch: int, state: TrainState, batches: TrainBatches, writer: StateWriter) -> None:
    """Train the remaining steps of an epoch. Order, augmentation and learning rate all follow from the step number.

    Raises StopRequested on all ranks, after the same step.
    """
    config, processes, stop = run.config, run.processes, run.stop
    progress, steps_per_epoch = state.progress, batches.steps_per_epoch
    losses: list[Tensor] = []  # per step since the last row, on the device
    watch = Stopwatch()
    state.train()
    for batch in batches.epoch(epoch, start_step=progress.step - epoch * steps_per_epoch):
        lr = learning_rate(progress.step, config, steps_per_epoch)
        losses.append(training_step(state, batch, lr, config, processes))
        watch.images += batch.total

        # One exchange for both decisions: any rank may stop the run, the main process's clock asks for a save. Several
        # GPUs act on it a step later, so that none waits for it.
        stop_here = stop.requested or run.run_logger.stop_requested
        agreed = processes.largest_of_last_call(STOP_NOW if stop_here else SAVE_NOW if writer.is_due() else 0)
        save = agreed > 0 or (config.checkpoint_every > 0 and progress.step % config.checkpoint_every == 0)
        if save or progress.step % config.log_every == 0 or progress.step % steps_per_epoch == 0:
            row = training_row(losses, watch, lr, progress, steps_per_epoch, processes)
            run.run_logger.training(row, epoch=epoch, steps=len(losses))
            losses.clear()
        if agreed == STOP_NOW:
            raise StopRequested(processes.largest(stop.signum or 0))
        if save:
            writer.save()
    state.train(False)


def _better(scores: Scores, best: dict[str, float]) -> bool:
    """Compare macro F1 on validation, then loss; of equal epochs the earlier one stays the best."""
    return not best or epoch_order(scores.f1, scores.loss) > epoch_order(best["best/val_f1"], best["best/val_loss"])
