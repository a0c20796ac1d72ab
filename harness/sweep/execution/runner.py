"""Run a sweep on this machine: claim trials, start each in a free slot, record how they end."""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
import signal
import time
from multiprocessing.connection import wait
from pathlib import Path
from types import FrameType
from typing import Any

from harness.errors import ConfigError, HarnessError
from harness.launch.launch import GRACE_SECONDS, handling_stop_signals
from harness.runs.folder import RunFolder
from harness.runs.reading import UnreadableError
from harness.sweep.execution.outcome import Outcome, failure_reason, read_outcome, read_summary
from harness.sweep.execution.progress import SweepProgress
from harness.sweep.execution.resources import Slot
from harness.sweep.execution.running_trial import RunningTrial, start_trial, trial_environment
from harness.sweep.retention import keep_best
from harness.sweep.search.lease import HEARTBEAT_SECONDS
from harness.sweep.search.trial_queue import ClaimedTrial, TrialQueue
from harness.sweep.spec.sweep_file import Sweep

POLL_SECONDS = 0.2  # between two reads of the trials' files
QUEUE_POLL_SECONDS = 2.0  # between two reads of the trial queue
TAKEN_OVER = "another machine took over this trial (no heartbeat received)"
# If so many trials fail before the first success, the cause lies outside their settings.
MAX_EARLY_FAILURES = 5


@dataclasses.dataclass(frozen=True)
class RunnerOptions:
    """How a sweep is run. What it tries is in the sweep file."""

    retries: int = 1
    timeout: float = 3600.0  # seconds without progress after which a trial counts as hung; 0: no limit
    keep: int | None = None  # checkpoints to keep; None keeps all
    start_method: str = "forkserver"


class Runner:
    """Runs the trials of one sweep, one trial at a time in each slot."""

    def __init__(
        self, sweep: Sweep, trial_queue: TrialQueue, folder: Path, slots: list[Slot], options: RunnerOptions
    ) -> None:
        self.sweep, self.trial_queue, self.folder, self.slots, self.options = sweep, trial_queue, folder, slots, options
        self.progress = SweepProgress(sweep, trial_queue)
        self.running: dict[int, RunningTrial] = {}  # by slot number
        self._started = time.time()
        self._signals: list[int] = []  # received, in order
        self._exit_code: int | None = None  # set when the sweep stops before its last trial
        self._failures = self._successes = 0
        self._to_retry: list[ClaimedTrial] = []  # failed here, with attempts left
        self._next_stop_check = self._next_heartbeat = self._next_claim = 0.0
        self._context: Any = multiprocessing.get_context(options.start_method)
        if options.start_method == "forkserver":
            self._context.set_forkserver_preload(["harness.sweep.execution.forkserver"])

    def run(self) -> int:
        """Run until all trials have ended or a stop is requested; return the exit code."""
        with handling_stop_signals(self._note_signal), self.progress:
            try:
                while True:
                    self._fill_slots()
                    if not self.running and (self._stopping or (not self._signals and self.trial_queue.is_settled())):
                        break
                    wait([trial.process.sentinel for trial in self.running.values()], timeout=POLL_SECONDS)
                    self._handle_stop_requests()
                    self._send_heartbeats()
                    for trial in list(self.running.values()):
                        self._check_trial(trial)
                    self.progress.refresh(list(self.running.values()), len(self.slots))
            finally:
                self._end_all()
        self._keep_best()
        if self._exit_code is not None:
            return self._exit_code
        return int(any(record.state == "failed" for record in self.trial_queue.records()))

    @property
    def _stopping(self) -> bool:
        return self._exit_code is not None

    def _fill_slots(self) -> None:
        if self._stopping or time.monotonic() < self._next_claim:
            return
        for slot in self.slots:
            while not (self._stopping or self._signals or slot.number in self.running):
                claimed = self._to_retry.pop() if self._to_retry else self.trial_queue.claim()
                if claimed is None:
                    self._next_claim = time.monotonic() + QUEUE_POLL_SECONDS
                    return
                self._start(claimed, slot)

    def _start(self, claimed: ClaimedTrial, slot: Slot) -> None:
        try:
            config = dataclasses.replace(self.sweep.config(claimed.settings), runs_dir=str(self.folder))
            outcome = read_outcome(RunFolder.of(config, claimed.run_id), self.sweep.metric.name)
        except ConfigError as error:  # a Bayesian search chose settings that cannot be combined
            self.trial_queue.end(claimed, "infeasible", reason=str(error))
            self.progress.event(claimed, f"infeasible: {error}")
            return
        except UnreadableError as error:
            self._fail(claimed, str(error))
            return
        if outcome:  # its runner was killed before it could record the outcome
            self._record(claimed, outcome)
            return
        try:
            environment = trial_environment(self.sweep, self.trial_queue.sweep_id, claimed, slot)
            self.running[slot.number] = start_trial(self._context, claimed, config, slot, environment)
        except (EOFError, OSError) as error:
            self.trial_queue.release(claimed)
            raise HarnessError(f"Trials cannot be started: {error or 'the fork server has ended'}.") from error
        attempt = f" (attempt {claimed.attempts + 1})" if claimed.attempts else ""
        self.progress.event(claimed, f"started{attempt}")

    def _check_trial(self, trial: RunningTrial) -> None:
        has_ended = not trial.is_alive  # checked before reading, so that the last rows are read too
        trial.update()
        self._report_epochs(trial)
        if has_ended:
            trial.process.join()
            trial.kill()  # ranks that are still running
            del self.running[trial.slot.number]
            self._settle(trial)
            return
        if not trial.process.is_alive():
            trial.terminate()  # the fork server has ended and has sent the trial SIGTERM
        if trial.kill_at is not None:
            if time.monotonic() > trial.kill_at:
                trial.kill()
        elif trial.made_no_progress_for(self.options.timeout):
            trial.hung = True
            trial.terminate()
            self.progress.event(trial.claimed, f"made no progress for {self.options.timeout:g} s: ending it")
        elif trial.prune_reason:
            # A run clears earlier stop requests when it starts. A damaged summary is reported when the trial ends.
            with contextlib.suppress(UnreadableError):
                if read_summary(trial.folder).get("state") == "running":
                    trial.folder.ask_to_stop(trial.prune_reason)

    def _report_epochs(self, trial: RunningTrial) -> None:
        """Report the metric of new epochs to the trial queue, which may prune the trial."""
        metric = self.sweep.metric.name
        for epoch in range(trial.reported + 1, len(trial.metrics.validations) + 1):
            trial.reported = epoch
            value = trial.value(metric, epochs=epoch)
            prune = value is not None and self.trial_queue.report(trial.claimed, epoch, value)
            if prune and not trial.prune_reason and epoch < trial.config.epochs:
                trial.prune_reason = f"early termination after epoch {epoch}, at {metric} {value:.4f}"

    def _note_signal(self, signum: int, frame: FrameType | None) -> None:
        self._signals.append(signum)  # the loop acts on it, where no operation is half done

    def _handle_stop_requests(self) -> None:
        """Act on signals and on `harness sweep stop`."""
        if self._signals and not self._stopping:
            self._stop(signal.Signals(self._signals[0]).name, 128 + self._signals[0])
        if self._signals.count(signal.SIGINT) > 1:
            for trial in self.running.values():  # a second Ctrl-C does not wait
                trial.kill()
        if time.monotonic() > self._next_stop_check and not self._stopping:
            self._next_stop_check = time.monotonic() + QUEUE_POLL_SECONDS
            if self.trial_queue.stop_requested_since(self._started):
                self._stop("harness sweep stop", 0)

    def _send_heartbeats(self) -> None:
        """Renew the leases of running trials; kill a trial that another machine has taken over."""
        if time.monotonic() <= self._next_heartbeat:
            return
        self._next_heartbeat = time.monotonic() + HEARTBEAT_SECONDS
        for trial in [trial for trial in self.running.values() if not self.trial_queue.heartbeat(trial.claimed)]:
            self.progress.event(trial.claimed, f"{TAKEN_OVER}: ending it")
            trial.kill()
            trial.process.join()
            del self.running[trial.slot.number]

    def _settle(self, trial: RunningTrial) -> None:
        """Record how a trial ended whose process has ended; release it if it was interrupted."""
        try:
            if outcome := read_outcome(trial.folder, self.sweep.metric.name):
                self._record(trial.claimed, outcome)
            elif not self.trial_queue.owns(trial.claimed):
                self.progress.event(trial.claimed, TAKEN_OVER)
            elif not trial.hung and (self._stopping or self._signals or trial.was_preempted()):
                self.trial_queue.release(trial.claimed)
                self.progress.event(trial.claimed, "interrupted; harness sweep run resumes it")
            else:
                self._retry_or_fail(trial)
        except UnreadableError as error:
            if self.trial_queue.owns(trial.claimed):
                self._fail(trial.claimed, str(error))
            else:
                self.progress.event(trial.claimed, TAKEN_OVER)
        self._keep_best()

    def _record(self, claimed: ClaimedTrial, outcome: Outcome) -> None:
        self.trial_queue.end(claimed, outcome.state, value=outcome.value, reason=outcome.reason)
        self.progress.event(claimed, outcome.message)
        self._successes += 1

    def _retry_or_fail(self, trial: RunningTrial) -> None:
        exit_code = trial.process.exitcode or 0
        if trial.hung:
            reason = f"no progress for {self.options.timeout:g} s"
        else:
            reason = failure_reason(exit_code, read_summary(trial.folder), trial.log)
        claimed = self.trial_queue.attempt_failed(trial.claimed)
        if exit_code != ConfigError.exit_code and claimed.attempts <= self.options.retries:
            self.progress.event(claimed, f"failed: {reason}. Trying again.")
            self._to_retry.append(claimed)
        else:
            self._fail(claimed, reason, f". Log: {trial.log}")

    def _fail(self, claimed: ClaimedTrial, reason: str, details: str = "") -> None:
        """Record that a trial failed for good; stop the sweep if trials only fail."""
        self.trial_queue.end(claimed, "failed", reason=reason)
        self.progress.event(claimed, f"failed: {reason}{details}")
        self._failures += 1
        if self._failures >= MAX_EARLY_FAILURES and not self._successes and not self._stopping:
            self._stop(f"{self._failures} trials failed, and none succeeded", 1)

    def _keep_best(self) -> None:
        if self.options.keep is not None:
            in_use = [trial.folder.path for trial in self.running.values()]
            keep_best(self.folder, self.options.keep, self.sweep.metric, self.sweep.seeds_per_setting, in_use=in_use)

    def _stop(self, cause: str, exit_code: int) -> None:
        self._exit_code = exit_code
        waiting = f" Trials save their state, {GRACE_SECONDS:.0f} s at most." if self.running else ""
        self.progress.event(None, f"Stopping: {cause}.{waiting}")
        for trial in self.running.values():
            trial.terminate()
        for claimed in self._to_retry:
            self.trial_queue.release(claimed)
        self._to_retry.clear()

    def _end_all(self) -> None:
        """End all trials, also when the runner itself fails."""
        for trial in self.running.values():
            trial.terminate()
        for trial in self.running.values():
            trial.process.join(GRACE_SECONDS)
            trial.kill()
