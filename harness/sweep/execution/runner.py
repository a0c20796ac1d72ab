"""Running a sweep on this machine: claim trials, start each in its own slot, record how they end."""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator, Mapping
from multiprocessing.connection import wait
from pathlib import Path
from types import FrameType
from typing import Any

from harness.errors import ConfigError, HarnessError
from harness.launch.launch import GRACE_SECONDS, RANK_VARIABLES
from harness.options import arguments
from harness.runs.folder import RunFolder
from harness.runs.reading import UnreadableError
from harness.runs.rules import finite_number
from harness.sweep.execution.outcome import Rows, final_value, read_summary, why_it_failed
from harness.sweep.execution.progress import SweepProgress
from harness.sweep.execution.resources import Slot
from harness.sweep.execution.running_trial import PARENT_IS_GONE, RunningTrial
from harness.sweep.execution.trial_process import run_trial
from harness.sweep.retention import keep_best
from harness.sweep.search.lease import HEARTBEAT_SECONDS
from harness.sweep.search.trial_queue import ClaimedTrial, TrialQueue
from harness.sweep.spec.sweep_file import Sweep
from harness.track import PROJECT

POLL_SECONDS = 0.2  # seconds between two reads of the trials' files
QUEUE_POLL_SECONDS = 2.0  # between two reads of the trial queue
USAGE_ERROR = 2
TAKEN_OVER = "another machine took over this trial (no heartbeat received)"
# So many trials that fail before the first success point at a cause outside their settings.
MAX_EARLY_FAILURES = 5

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

# They would mean another run than the trial's own.
NOT_FOR_TRIALS = ("HARNESS_SWEEP_ARGS", "WANDB_SWEEP_PARAM_PATH", "WANDB_SERVICE", "WANDB_NAME", *RANK_VARIABLES)


@dataclasses.dataclass(frozen=True)
class RunnerOptions:
    """How a sweep is run, as opposed to what it tries."""

    retries: int = 1
    timeout: float = 3600.0  # seconds without progress after which a trial hangs; 0 waits for ever
    keep: int | None = None  # checkpoints of the sweep; None keeps all
    start_method: str = "forkserver"


class Runner:
    def __init__(
        self, sweep: Sweep, trial_queue: TrialQueue, folder: Path, slots: list[Slot], options: RunnerOptions
    ) -> None:
        self.sweep, self.trial_queue, self.folder, self.slots, self.options = sweep, trial_queue, folder, slots, options
        self.progress = SweepProgress(sweep, trial_queue)
        self.running: dict[int, RunningTrial] = {}  # by slot
        self._began = time.time()
        self._signals_received: list[int] = []  # signals received
        self._stopping = False
        self._exit_code = 0
        self._failed = self._ended_well = 0
        self._to_retry: list[ClaimedTrial] = []  # failed here, with attempts left
        self._next_stop_check = self._next_heartbeat = self._next_claim = 0.0
        self._context: Any = multiprocessing.get_context(options.start_method)
        if options.start_method == "forkserver":
            self._context.set_forkserver_preload(["harness.sweep.execution.forkserver"])

    def run(self) -> int:
        """Run until all trials have ended or a stop is requested; return the exit code."""
        with self._signals(), self.progress:
            try:
                while True:
                    if not self._stopping:
                        self._fill_slots()
                    if not self.running and (
                        self._stopping or (not self._signals_received and self.trial_queue.is_settled())
                    ):
                        break
                    wait([trial.process.sentinel for trial in self.running.values()], timeout=POLL_SECONDS)
                    self._handle_stop_requests()
                    for trial in list(self.running.values()):
                        self._check_trial(trial)
                    self.progress.refresh(list(self.running.values()), len(self.slots))
            finally:
                self._end_all()
        self._keep_best()
        if self._stopping:
            return self._exit_code
        return int(any(entry.state == "failed" for entry in self.trial_queue.entries()))

    def _fill_slots(self) -> None:
        if time.monotonic() < self._next_claim:
            return
        for slot in self.slots:
            while slot.number not in self.running and not self._signals_received:
                task = self._to_retry.pop() if self._to_retry else self.trial_queue.claim()
                if task is None:
                    self._next_claim = time.monotonic() + QUEUE_POLL_SECONDS
                    return
                self._start(task, slot)

    def _start(self, task: ClaimedTrial, slot: Slot) -> None:
        try:
            config = dataclasses.replace(self.sweep.config(task.settings), runs_dir=str(self.folder))
        except ConfigError as error:  # a corner of a Bayesian search in which settings do not go together
            self.trial_queue.end(task, "infeasible", reason=str(error))
            self.progress.event(task, f"infeasible: {error}")
            return
        folder = RunFolder.of(config, task.run_id)
        try:
            if self._settle_by_summary(task, folder, read_summary(folder)):
                return  # it ended after its runner did
        except UnreadableError as error:
            self._end_failed(task, str(error))
            return
        log = self.folder / "logs" / f"{task.number}.log"
        log.parent.mkdir(exist_ok=True)
        process = self._context.Process(
            target=run_trial,
            args=(
                arguments(config),
                self._environment(task, slot),
                slot.cores,
                slot.processes,
                bool(slot.gpus),
                str(log),
            ),
            name=f"trial-{task.number}",
        )
        try:
            process.start()
        except (EOFError, OSError) as error:
            self.trial_queue.release(task)
            raise HarnessError(
                f"Trials cannot be started: {error or 'the process they come from has ended'}."
            ) from error
        self.running[slot.number] = RunningTrial(task, config, slot, process, folder, log, Rows(folder.metrics))
        attempt = f" (attempt {task.attempts + 1})" if task.attempts else ""
        self.progress.event(task, f"started{attempt}")

    def _environment(self, task: ClaimedTrial, slot: Slot) -> dict[str, str]:
        environment = {name: value for name, value in os.environ.items() if name not in NOT_FOR_TRIALS}
        environment.setdefault("WANDB_MODE", "offline")
        environment.setdefault("WANDB_PROJECT", self.sweep.project or PROJECT)
        if self.sweep.entity:
            environment.setdefault("WANDB_ENTITY", self.sweep.entity)
        own = {
            "WANDB_SWEEP_ID": self.trial_queue.sweep_id,
            "WANDB_RUN_ID": task.run_id,
            "WANDB_RUN_GROUP": self.sweep.name,
        }
        return environment | slot.environment() | own

    def _check_trial(self, trial: RunningTrial) -> None:
        ended = not trial.is_alive  # before looking, so that nothing it wrote is missed
        trial.look()
        self._report(trial)
        if not ended and not trial.process.is_alive():
            trial.tell_to_end()  # its parent has ended, and asks it to stop too
        if ended:
            trial.process.join()
            trial.kill()  # ranks that its end has left behind
            del self.running[trial.slot.number]
            self._settle(trial)
        elif trial.kill_at is not None:
            if time.monotonic() > trial.kill_at:
                trial.kill()
        elif trial.hangs(self.options.timeout):
            trial.hung = True
            trial.tell_to_end()
            self.progress.event(trial.task, f"made no progress for {self.options.timeout:g} s: ending it")
        elif trial.prune_reason:
            # A run clears earlier stop requests when it starts. A damaged summary is reported when the trial ends.
            with contextlib.suppress(UnreadableError):
                if read_summary(trial.folder).get("state") == "running":
                    trial.folder.ask_to_stop(trial.prune_reason)

    def _report(self, trial: RunningTrial) -> None:
        """Report the metric of new epochs to the trial queue, which may prune the trial."""
        for epoch in range(trial.reported + 1, len(trial.rows.epochs) + 1):
            trial.reported = epoch
            value = trial.value(self.sweep.metric.name, epochs=epoch)
            prune = value is not None and self.trial_queue.report(trial.task, epoch, value)
            if prune and not trial.prune_reason and epoch < trial.config.epochs:
                trial.prune_reason = f"early termination after epoch {epoch}, at {self.sweep.metric.name} {value:.4f}"

    def _handle_stop_requests(self) -> None:
        """Act on signals and on stop requests in the trial queue; renew the leases of running trials."""
        if self._signals_received and not self._stopping:
            self._stop(signal.Signals(self._signals_received[0]).name, 128 + self._signals_received[0])
        if self._signals_received.count(signal.SIGINT) > 1:
            for trial in self.running.values():  # a second Ctrl-C does not wait
                trial.kill()
        now = time.monotonic()
        if now > self._next_stop_check and not self._stopping:
            self._next_stop_check = now + QUEUE_POLL_SECONDS
            if self.trial_queue.stop_asked_since(self._began):
                self._stop("harness sweep stop", 0)
        if now > self._next_heartbeat:
            self._next_heartbeat = now + HEARTBEAT_SECONDS
            for trial in list(self.running.values()):
                if not self.trial_queue.heartbeat(trial.task):
                    self.progress.event(trial.task, f"{TAKEN_OVER}: ending it")
                    trial.kill()
                    trial.process.join()
                    del self.running[trial.slot.number]

    def _settle(self, trial: RunningTrial) -> None:
        """Record how a trial ended once its process has ended."""
        try:
            summary = read_summary(trial.folder)
            if not self._settle_by_summary(trial.task, trial.folder, summary):
                self._settle_unfinished(trial, summary)
        except UnreadableError as error:
            if self.trial_queue.owns(trial.task):
                self._end_failed(trial.task, str(error))
            else:
                self.progress.event(trial.task, TAKEN_OVER)
        self._keep_best()

    def _settle_unfinished(self, trial: RunningTrial, summary: Mapping[str, Any]) -> None:
        """Release a trial whose process was interrupted, or record that it failed."""
        if not self.trial_queue.owns(trial.task):
            self.progress.event(trial.task, TAKEN_OVER)
            return
        # Another process sent the signal, or the forkserver has ended.
        by_signal = trial.process.exitcode in (*(128 + s for s in STOP_SIGNALS), PARENT_IS_GONE)
        stopped_by_others = by_signal and summary.get("state") == "preempted"
        if (self._stopping or self._signals_received or stopped_by_others) and not trial.hung:
            self.trial_queue.release(trial.task)
            self.progress.event(trial.task, "interrupted; harness sweep run resumes it")
        else:
            self._settle_failure(trial, summary)

    def _keep_best(self) -> None:
        if self.options.keep is not None:
            still_running = [trial.folder.path for trial in self.running.values()]
            metric = self.sweep.metric
            keep_best(self.folder, self.options.keep, metric.name, metric.goal, still_needed=still_running)

    def _settle_by_summary(self, task: ClaimedTrial, folder: RunFolder, summary: Mapping[str, Any]) -> bool:
        """Record the final state in the run's summary; return whether there is one."""
        metric, state, reason = self.sweep.metric.name, summary.get("state"), summary.get("reason")
        if state == "finished" and (value := final_value(folder, metric)) is None:
            self.trial_queue.end(task, "infeasible", reason=f"its {metric} is not a number")
            self.progress.event(task, f"finished, but its {metric} is not a number")
        elif state == "finished":
            self.trial_queue.end(task, "finished", value=value)
            test_f1 = finite_number(summary.get("test/f1"))
            tested = "" if test_f1 is None else f", test F1 {test_f1:.4f}"
            self.progress.event(task, f"finished: {metric} {value:.4f}{tested}")
        elif state in ("stopped", "infeasible"):
            self.trial_queue.end(task, state, reason=reason)
            self.progress.event(task, f"{state}: {reason}")
        else:
            return False
        self._ended_well += 1
        return True

    def _settle_failure(self, trial: RunningTrial, summary: Mapping[str, Any]) -> None:
        code = trial.process.exitcode or 0
        reason = why_it_failed(code, summary, trial.log, hung=trial.hung, timeout=self.options.timeout)
        task = self.trial_queue.attempt_failed(trial.task)
        if code != USAGE_ERROR and task.attempts <= self.options.retries:
            self.progress.event(task, f"failed: {reason}. Trying again.")
            self._to_retry.append(task)
            return
        self._end_failed(task, reason, f". Log: {trial.log}")

    def _end_failed(self, task: ClaimedTrial, reason: str, details: str = "") -> None:
        """Record that a trial failed for good; stop the sweep if trials only fail."""
        self.trial_queue.end(task, "failed", reason=reason)
        self.progress.event(task, f"failed: {reason}{details}")
        self._failed += 1
        if self._failed >= MAX_EARLY_FAILURES and not self._ended_well and not self._stopping:
            self._stop(f"{self._failed} trials failed, and none has ended well", 1)

    def _stop(self, why: str, exit_code: int) -> None:
        self._stopping, self._exit_code = True, exit_code
        waiting = f" Trials save their state, {GRACE_SECONDS:.0f} s at most." if self.running else ""
        self.progress.event(None, f"Stopping: {why}.{waiting}")
        for trial in self.running.values():
            trial.tell_to_end()
        for task in self._to_retry:
            self.trial_queue.release(task)
        self._to_retry.clear()

    def _end_all(self) -> None:
        """End all trials, also when the runner itself fails."""
        for trial in self.running.values():
            trial.tell_to_end()
        for trial in self.running.values():
            trial.process.join(GRACE_SECONDS)
            trial.kill()

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Only note signals: the loop acts on them where nothing is half done."""

        def note_signal(signum: int, frame: FrameType | None) -> None:
            self._signals_received.append(signum)

        ignored = signal.SIG_IGN  # by nohup, or a shell's `&`
        signals = [s for s in STOP_SIGNALS if signal.getsignal(s) is not ignored]
        previous = {signum: signal.signal(signum, note_signal) for signum in signals}
        try:
            yield
        finally:
            for signum, handler in previous.items():
                signal.signal(signum, handler)
