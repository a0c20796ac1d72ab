"""What a runner does about the end of a trial: record it, try again, hold it, or pause the sweep."""

from __future__ import annotations

from harness.errors import ConfigError
from harness.runs.folder import RunFolder
from harness.runs.reading import UnreadableError
from harness.sweep.execution.outcome import Outcome, failure_reason, outside_cause, read_outcome, read_summary
from harness.sweep.execution.pending import PendingTrials
from harness.sweep.execution.progress import SweepProgress
from harness.sweep.execution.runner_options import RunnerOptions
from harness.sweep.execution.running_trial import RunningTrial
from harness.sweep.execution.surroundings import RUN_LOCKED
from harness.sweep.retention import drop_state
from harness.sweep.search.trial_queue import TrialQueue
from harness.sweep.search.trial_record import ClaimedTrial
from harness.sweep.whereabouts import write_scores

TAKEN_OVER = "another runner took over this trial (no heartbeat received)"
# If so many trials fail one after another, the cause is probably not in their settings.
MAX_FAILURES_IN_A_ROW = 5


class TrialEndings:
    """Records how trials of one runner end, and remembers when the runner must not start another one."""

    def __init__(
        self, trial_queue: TrialQueue, pending: PendingTrials, progress: SweepProgress, options: RunnerOptions
    ) -> None:
        self._sweep, self._trial_queue, self._pending = trial_queue.sweep, trial_queue, pending
        self._progress, self._options = progress, options
        self.pause_cause: str | None = None  # lies outside the trials: no further one is started
        self.failures_in_a_row = 0
        self.has_failures = False  # whether a trial of this runner has failed for good

    @property
    def start_no_more(self) -> bool:
        return self.pause_cause is not None or self.failures_in_a_row >= MAX_FAILURES_IN_A_ROW

    def settle(self, trial: RunningTrial, *, interrupted: bool) -> None:
        """Record how a trial ended whose process has ended; release it if it was interrupted."""
        try:
            if outcome := read_outcome(trial.folder, self._sweep.metric.name):
                self.record(trial.claimed, outcome, trial.folder)
                if not trial.is_finishing:  # else it was counted when the next trial took its slot
                    self.failures_in_a_row = 0
            elif not self._trial_queue.owns(trial.claimed):
                self._progress.event(trial.claimed, TAKEN_OVER)
            elif trial.process.exitcode == RUN_LOCKED:
                self.hold(trial.claimed, trial.folder)
            elif not trial.hung and (interrupted or trial.was_preempted()):
                self._trial_queue.release(trial.claimed)
                self._progress.event(trial.claimed, "interrupted; harness sweep run resumes it")
            elif not trial.hung and (cause := outside_cause(trial, self._sweep)):
                self._pause(trial.claimed, cause)
            else:
                self._retry_or_fail(trial)
        except UnreadableError as error:
            if self._trial_queue.owns(trial.claimed):
                self.fail(trial.claimed, str(error))
            else:
                self._progress.event(trial.claimed, TAKEN_OVER)

    def record(self, claimed: ClaimedTrial, outcome: Outcome, folder: RunFolder) -> None:
        if outcome.is_pruned:  # before the queue: if this process is killed in between, the next one does it again
            drop_state(folder)
        write_scores(self._trial_queue, claimed.number, read_summary(folder))
        self._trial_queue.end(claimed, outcome.state, value=outcome.value, reason=outcome.reason, memory=outcome.memory)
        self._progress.event(claimed, outcome.message)

    def fail(self, claimed: ClaimedTrial, reason: str, details: str = "") -> None:
        """Record that a trial failed for good."""
        self._trial_queue.end(claimed, "failed", reason=reason)
        self._progress.event(claimed, f"failed: {reason}{details}")
        self.failures_in_a_row += 1
        self.has_failures = True

    def hold(self, claimed: ClaimedTrial, folder: RunFolder) -> None:
        """Wait until the process ends that is working on the run; then resume the run, or record its outcome."""
        self._pending.add(claimed, folder)
        self._progress.event(claimed, "its run is in use by another process: waiting for its end")

    def _pause(self, claimed: ClaimedTrial, cause: str) -> None:
        """Return a trial to the queue without counting an attempt: its machine or its files failed, not the trial."""
        self._trial_queue.release(claimed)
        self._progress.event(claimed, f"returned to the queue, not counted as an attempt: {cause}")
        self.pause_cause = self.pause_cause or cause

    def _retry_or_fail(self, trial: RunningTrial) -> None:
        exit_code = trial.process.exitcode or 0
        if trial.hung:
            reason = f"no progress for {self._options.timeout:g} s"
        else:
            reason = failure_reason(exit_code, read_summary(trial.folder), trial.log)
        claimed = self._trial_queue.attempt_failed(trial.claimed)
        if exit_code != ConfigError.exit_code and claimed.attempts <= self._options.retries:
            self._progress.event(claimed, f"failed: {reason}. Trying again.")
            self._pending.add(claimed, trial.folder)
        else:
            self.fail(claimed, reason, f". Log: {trial.log}")
