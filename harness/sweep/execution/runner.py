"""Run a sweep on this machine: claim trials, start each in a free slot, record how they end."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import signal
import time
from multiprocessing.connection import wait
from pathlib import Path
from types import FrameType
from typing import Any

from harness.errors import ConfigError, HarnessError
from harness.launch.launch import GRACE_SECONDS
from harness.launch.stop_signals import handling_stop_signals
from harness.runs.folder import RunFolder
from harness.runs.reading import UnreadableError
from harness.sweep.execution.budget import BudgetWatch
from harness.sweep.execution.endings import MAX_FAILURES_IN_A_ROW, TAKEN_OVER, TrialEndings
from harness.sweep.execution.memory import has_memory_for_another
from harness.sweep.execution.outcome import read_outcome
from harness.sweep.execution.pending import PendingTrials
from harness.sweep.execution.progress import SweepProgress
from harness.sweep.execution.resources import Slot
from harness.sweep.execution.runner_options import RunnerOptions
from harness.sweep.execution.running_trial import RunningTrial, start_trial, trial_environment
from harness.sweep.execution.time_limit import TimeLimit
from harness.sweep.retention import keep_best
from harness.sweep.search.lease import HEARTBEAT_SECONDS
from harness.sweep.search.ledger import STOP_REASON, read_trial
from harness.sweep.search.trial_queue import TrialQueue
from harness.sweep.search.trial_record import ClaimedTrial
from harness.sweep.whereabouts import write_whereabouts

POLL_SECONDS = 0.05  # between two reads of the trials' files: a slot stays empty as long after a trial's test
QUEUE_POLL_SECONDS = 2.0  # between two reads of the trial queue
MEMORY_POLL_SECONDS = 1.0  # between two looks at the memory of a trial: each reads a file of every process


class Runner:
    """Runs the trials of one sweep: in each slot one that trains, and perhaps a tested one that draws figures."""

    def __init__(self, trial_queue: TrialQueue, folder: Path, slots: list[Slot], options: RunnerOptions) -> None:
        self.sweep, self.trial_queue, self.folder = trial_queue.sweep, trial_queue, folder
        self.slots, self.options = slots, options
        self.progress = SweepProgress(trial_queue)
        self.running: list[RunningTrial] = []
        self._signals: list[int] = []  # received, in order
        self._exit_code: int | None = None  # set when the sweep stops before its last trial
        self._time_limit = TimeLimit(options.end_by, trial_queue, folder)
        self._out_of_time = False
        self.budget = BudgetWatch(options, trial_queue)
        self._pending = PendingTrials(trial_queue, self.progress)
        self.endings = TrialEndings(trial_queue, self._pending, self.progress, options)
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
                    if self._is_done():
                        break
                    wait([trial.process.sentinel for trial in self.running], timeout=POLL_SECONDS)
                    self._handle_stop_requests()
                    self._send_heartbeats()
                    for trial in list(self.running):
                        self._check_trial(trial)
                    if self.endings.failures_in_a_row >= MAX_FAILURES_IN_A_ROW and not self._stopping:
                        failures = self.endings.failures_in_a_row
                        self._stop(f"{failures} trials failed one after another", 1, finish_tested=True)
                    self.progress.refresh(self.running)
            finally:
                self._end_all()
            self._pending.release_all()
        self._keep_best()
        if self._exit_code is not None:
            return self._exit_code
        if self.endings.pause_cause is not None:
            return 1
        if self._out_of_time:
            return 0
        if "SLURM_ARRAY_TASK_ID" in os.environ:  # a task answers for its own trials; a shell of salloc is not one
            return int(self.endings.has_failures)
        return int(any(record.state == "failed" and record.in_file for record in self.trial_queue.records()))

    @property
    def _stopping(self) -> bool:
        return self._exit_code is not None

    @property
    def _starts_no_more(self) -> bool:
        return self._stopping or bool(self._signals) or self._out_of_time or self.endings.start_no_more

    def _is_done(self) -> bool:
        if self.running:
            return False
        if self._stopping or self._out_of_time or self.budget.reason or self.endings.pause_cause is not None:
            return True
        return not (self._signals or self._pending.may_come())

    def _fill_slots(self) -> None:
        if time.monotonic() < self._next_claim:
            return
        for slot in self.slots:
            while self._is_free(slot) and not self._starts_no_more:
                is_spent = self.budget.is_spent()
                if is_spent and not self.budget.may_resume:
                    return
                if not is_spent and (shortage := self._time_limit.shortage()):
                    self._out_of_time = True
                    self.progress.event(None, shortage)
                    return
                claimed = self._pending.next(only_begun=is_spent)
                if claimed is None:
                    self._next_claim = time.monotonic() + QUEUE_POLL_SECONDS
                    return
                self._start(claimed, slot)

    def _is_free(self, slot: Slot) -> bool:
        return all(trial.slot is not slot or trial.is_finishing for trial in self.running)

    def _start(self, claimed: ClaimedTrial, slot: Slot) -> None:
        try:
            config = dataclasses.replace(self.sweep.config(claimed.settings), runs_dir=str(self.folder))
            folder = RunFolder.of(config, claimed.run_id)
            if folder.is_locked:
                self.endings.hold(claimed, folder)
                return
            outcome = read_outcome(folder, self.sweep.metric.name)
        except ConfigError as error:  # a Bayesian search chose settings that cannot be combined
            self.trial_queue.end(claimed, "infeasible", reason=str(error))
            self.progress.event(claimed, f"infeasible: {error}")
            return
        except UnreadableError as error:
            self.endings.fail(claimed, str(error))
            return
        if outcome:  # its runner was killed before it could record the outcome
            self.endings.record(claimed, outcome, folder)
            self.endings.failures_in_a_row = 0
            return
        write_whereabouts(self.trial_queue, claimed.number, folder, config.epochs)
        try:
            environment = trial_environment(self.sweep, self.trial_queue.sweep_id, claimed, slot)
            self.running.append(start_trial(self._context, claimed, config, slot, environment))
        except (EOFError, OSError) as error:
            self.trial_queue.release(claimed)
            raise HarnessError(f"Trials cannot be started: {error or 'the fork server has ended'}.") from error
        attempt = f" (attempt {claimed.attempts + 1})" if claimed.attempts else ""
        self.progress.event(claimed, f"started{attempt}")

    def _check_trial(self, trial: RunningTrial) -> None:
        has_ended = not trial.is_alive  # checked before reading, so that the last rows are read too
        trial.update()
        trial.report_epochs(self.trial_queue)
        if has_ended:
            trial.process.join()
            trial.kill()  # ranks that are still running
            self.running.remove(trial)
            self.endings.settle(trial, interrupted=self._stopping or bool(self._signals))
            self._keep_best()
            return
        if trial.is_tested and not trial.is_finishing and self._frees_slot(trial):
            trial.is_finishing = True
            trial.lower_priority()
            self.endings.failures_in_a_row = 0  # failures from now on are of later trials
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
            trial.ask_to_stop()

    def _frees_slot(self, trial: RunningTrial) -> bool:
        """Whether the next trial may start while this tested one draws figures. On a GPU, it still holds its memory."""
        if any(other.slot is trial.slot and other.is_finishing for other in self.running):
            return False
        decides = self.sweep.method == "bayes" or self.options.results_decide
        if decides or trial.slot.gpus or trial.config.verify or self._time_limit.awaits_first_end():
            return False
        if time.monotonic() < trial.next_memory_check:
            return False
        trial.next_memory_check = time.monotonic() + MEMORY_POLL_SECONDS
        return has_memory_for_another(trial.process.pid or 0)

    def _note_signal(self, signum: int, frame: FrameType | None) -> None:
        self._signals.append(signum)  # the loop acts on it, where no operation is half done

    def _handle_stop_requests(self) -> None:
        """Act on signals and on `harness sweep stop`."""
        if self._signals and not self._stopping:
            self._stop(signal.Signals(self._signals[0]).name, 128 + self._signals[0])
        if self._signals.count(signal.SIGINT) > 1:
            for trial in self.running:  # a second Ctrl-C does not wait
                trial.kill()
        if time.monotonic() > self._next_stop_check and not self._stopping:
            self._next_stop_check = time.monotonic() + QUEUE_POLL_SECONDS
            if self.trial_queue.stop_requested:
                self._stop("harness sweep stop", 0)
            for trial in self.running:
                attributes = read_trial(self.trial_queue.study, trial.claimed.number).user_attrs
                trial.prune_reason = trial.prune_reason or str(attributes.get(STOP_REASON, ""))

    def _send_heartbeats(self) -> None:
        """Renew the leases of this runner's trials; kill a trial that another runner has taken over."""
        if time.monotonic() <= self._next_heartbeat:
            return
        self._next_heartbeat = time.monotonic() + HEARTBEAT_SECONDS
        self._pending.renew()
        self.trial_queue.unsettled()  # sees the heartbeats of the others
        for trial in [trial for trial in self.running if not self.trial_queue.heartbeat(trial.claimed)]:
            self.progress.event(trial.claimed, f"{TAKEN_OVER}: ending it")
            trial.kill()
            trial.process.join()
            self.running.remove(trial)

    def _keep_best(self) -> None:
        if self.options.keep is not None:
            in_use = [trial.folder.path for trial in self.running]
            keep_best(self.folder, self.options.keep, self.sweep.metric, self.sweep.seeds_per_setting, in_use=in_use)

    def _stop(self, cause: str, exit_code: int, *, finish_tested: bool = False) -> None:
        """Start no more trials and stop those that run; with `finish_tested`, a tested one first draws its figures."""
        self._exit_code = exit_code
        waiting = f" Trials save their state, {GRACE_SECONDS:.0f} s at most." if self.running else ""
        self.progress.event(None, f"Stopping: {cause}.{waiting}")
        for trial in self.running:
            if not (finish_tested and trial.is_finishing):
                trial.terminate()
        self._pending.release_all()

    def _end_all(self) -> None:
        """End all trials, also when the runner itself fails."""
        for trial in self.running:
            trial.terminate()
        for trial in self.running:
            trial.process.join(GRACE_SECONDS)
            trial.kill()
