"""Running a sweep on this machine: claim trials, start each in a slot of its own, record how they end."""

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
from harness.sweep.execution.outcome import Rows, final_value, why_it_failed
from harness.sweep.execution.progress import SweepProgress
from harness.sweep.execution.resources import Slot
from harness.sweep.execution.running_trial import PARENT_IS_GONE, RunningTrial
from harness.sweep.execution.trial_process import run_trial
from harness.sweep.retention import keep_best
from harness.sweep.search.lease import HEARTBEAT_SECONDS
from harness.sweep.search.trial_queue import ClaimedTrial, TrialQueue
from harness.sweep.spec.sweep_file import Sweep
from harness.track import PROJECT

LOOK_EVERY = 0.2  # seconds between two looks at what the trials have written
ASK_EVERY = 2.0  # ... between two questions to the trial queue whether to stop
USAGE_ERROR = 2
TAKEN = "another machine has taken it, not having heard of this one"
# So many trials that fail before one ends well: it is not their settings.
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
        self, sweep: Sweep, trial_queue: TrialQueue, folder: Path, slots: list[Slot], rules: RunnerOptions
    ) -> None:
        self.sweep, self.trial_queue, self.folder, self.slots, self.rules = sweep, trial_queue, folder, slots, rules
        self.board = SweepProgress(sweep, trial_queue)
        self.running: dict[int, RunningTrial] = {}  # by slot
        self._began = time.time()
        self._told: list[int] = []  # signals received
        self._stopping = False
        self._exit_code = 0
        self._failed = self._ended_well = 0
        self._again: list[ClaimedTrial] = []  # failed here, with attempts left
        self._next_question = self._next_sign = self._next_take = 0.0
        self._context: Any = multiprocessing.get_context(rules.start_method)
        if rules.start_method == "forkserver":
            self._context.set_forkserver_preload(["harness.sweep.execution.forkserver"])

    def run(self) -> int:
        """Until nothing is left to do, or somebody says stop; the exit code."""
        with self._signals(), self.board:
            try:
                while True:
                    if not self._stopping:
                        self._fill_slots()
                    if not self.running and (self._stopping or (not self._told and self.trial_queue.is_settled())):
                        break
                    wait([one.process.sentinel for one in self.running.values()], timeout=LOOK_EVERY)
                    self._listen()
                    for one in list(self.running.values()):
                        self._look_at(one)
                    self.board.refresh(list(self.running.values()), len(self.slots))
            finally:
                self._end_all()
        self._keep_best()
        if self._stopping:
            return self._exit_code
        return int(any(entry.state == "failed" for entry in self.trial_queue.entries()))

    def _fill_slots(self) -> None:
        if time.monotonic() < self._next_take:
            return
        for slot in self.slots:
            while slot.number not in self.running and not self._told:
                task = self._again.pop() if self._again else self.trial_queue.claim()
                if task is None:
                    self._next_take = time.monotonic() + ASK_EVERY
                    return
                self._start(task, slot)

    def _start(self, task: ClaimedTrial, slot: Slot) -> None:
        try:
            config = dataclasses.replace(self.sweep.config(task.settings), runs_dir=str(self.folder))
        except ConfigError as error:  # a corner of a Bayesian search in which settings do not go together
            self.trial_queue.end(task, "infeasible", reason=str(error))
            self.board.event(task, f"infeasible: {error}")
            return
        folder = RunFolder.of(config, task.run_id)
        if self._settle_by_summary(task, folder, folder.read("summary.json")):
            return  # it had ended, and nobody was left to note it
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
        self.board.event(task, f"started{attempt}")

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

    def _look_at(self, one: RunningTrial) -> None:
        ended = not one.is_alive  # before looking, so that nothing it wrote is missed
        one.look()
        self._report(one)
        if not ended and not one.process.is_alive():
            one.tell_to_end()  # its parent has ended, which has told it, too
        if ended:
            one.process.join()
            one.kill()  # ranks that its end has left behind
            del self.running[one.slot.number]
            self._settle(one)
        elif one.kill_at is not None:
            if time.monotonic() > one.kill_at:
                one.kill()
        elif one.hangs(self.rules.timeout):
            one.hung = True
            one.tell_to_end()
            self.board.event(one.task, f"has made no progress for {self.rules.timeout:g} s: ending it")
        elif one.prune_reason and one.folder.read("summary.json").get("state") == "running":
            # Not before it has begun, when it forgets what an earlier start was told.
            one.folder.ask_to_stop(one.prune_reason)

    def _report(self, one: RunningTrial) -> None:
        """Hand the metric of epochs that are new to the trial_queue, which may want the trial to end."""
        for epoch in range(one.reported + 1, len(one.rows.epochs) + 1):
            one.reported = epoch
            value = one.value(self.sweep.metric.name, epochs=epoch)
            wanted = value is None or not self.trial_queue.report(one.task, epoch, value)
            if not wanted and not one.prune_reason and epoch < one.config.epochs:
                one.prune_reason = f"early termination after epoch {epoch}, at {self.sweep.metric.name} {value:.4f}"

    def _listen(self) -> None:
        """To signals, and to the trial_queue: whether somebody elsewhere wants the sweep to stop."""
        if self._told and not self._stopping:
            self._stop(signal.Signals(self._told[0]).name, 128 + self._told[0])
        if self._told.count(signal.SIGINT) > 1:
            for one in self.running.values():  # a second Ctrl-C does not wait
                one.kill()
        now = time.monotonic()
        if now > self._next_question and not self._stopping:
            self._next_question = now + ASK_EVERY
            if self.trial_queue.stop_asked_since(self._began):
                self._stop("harness sweep stop", 0)
        if now > self._next_sign:
            self._next_sign = now + HEARTBEAT_SECONDS
            for one in list(self.running.values()):
                if not self.trial_queue.heartbeat(one.task):
                    self.board.event(one.task, f"{TAKEN}: ending it")
                    one.kill()
                    one.process.join()
                    del self.running[one.slot.number]

    def _settle(self, one: RunningTrial) -> None:
        """Note what became of a trial whose process has ended."""
        summary = one.folder.read("summary.json")
        if not self._settle_by_summary(one.task, one.folder, summary):
            self._settle_unfinished(one, summary)
        self._keep_best()

    def _settle_unfinished(self, one: RunningTrial, summary: Mapping[str, Any]) -> None:
        """Note of a trial whose process has ended, and its run has not, who is to go on with it, or that it failed."""
        if not self.trial_queue.owns(one.task):
            self.board.event(one.task, TAKEN)
            return
        # Told to end by somebody else, or by the end of the process that trials come from.
        by_signal = one.process.exitcode in (*(128 + s for s in STOP_SIGNALS), PARENT_IS_GONE)
        told = by_signal and summary.get("state") == "preempted"
        if (self._stopping or self._told or told) and not one.hung:
            self.trial_queue.release(one.task)
            self.board.event(one.task, "interrupted; harness sweep run goes on with it")
        else:
            self._settle_failure(one, summary)

    def _keep_best(self) -> None:
        if self.rules.keep is not None:
            going_on = [one.folder.path for one in self.running.values()]
            metric = self.sweep.metric
            keep_best(self.folder, self.rules.keep, metric.name, metric.goal, still_needed=going_on)

    def _settle_by_summary(self, task: ClaimedTrial, folder: RunFolder, summary: Mapping[str, Any]) -> bool:
        """Whether the run itself says that it has come to an end that stands."""
        metric, state, reason = self.sweep.metric.name, summary.get("state"), summary.get("reason")
        if state == "finished" and (value := final_value(folder, metric)) is None:
            self.trial_queue.end(task, "infeasible", reason=f"its {metric} is not a number")
            self.board.event(task, f"finished, but its {metric} is not a number")
        elif state == "finished":
            self.trial_queue.end(task, "finished", value=value)
            self.board.event(task, f"finished: {metric} {value:.4f}, test F1 {summary['test/f1']:.4f}")
        elif state in ("stopped", "infeasible"):
            self.trial_queue.end(task, state, reason=reason)
            self.board.event(task, f"{state}: {reason}")
        else:
            return False
        self._ended_well += 1
        return True

    def _settle_failure(self, one: RunningTrial, summary: Mapping[str, Any]) -> None:
        code = one.process.exitcode or 0
        reason = why_it_failed(code, summary, one.log, hung=one.hung, timeout=self.rules.timeout)
        task = self.trial_queue.attempt_failed(one.task)
        if code != USAGE_ERROR and task.attempts <= self.rules.retries:
            self.board.event(task, f"failed: {reason}. Trying again.")
            self._again.append(task)
            return
        self.trial_queue.end(task, "failed", reason=reason)
        self.board.event(task, f"failed: {reason}. All it said: {one.log}")
        self._failed += 1
        if self._failed >= MAX_EARLY_FAILURES and not self._ended_well and not self._stopping:
            self._stop(f"{self._failed} trials failed, and none has ended well", 1)

    def _stop(self, why: str, exit_code: int) -> None:
        self._stopping, self._exit_code = True, exit_code
        waiting = f" Trials save their state, {GRACE_SECONDS:.0f} s at most." if self.running else ""
        self.board.event(None, f"Stopping: {why}.{waiting}")
        for one in self.running.values():
            one.tell_to_end()
        for task in self._again:
            self.trial_queue.release(task)
        self._again.clear()

    def _end_all(self) -> None:
        """On the way out of an error of our own: no trial is left alone."""
        for one in self.running.values():
            one.tell_to_end()
        for one in self.running.values():
            one.process.join(GRACE_SECONDS)
            one.kill()

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Only note signals: the loop acts on them where nothing is half done."""

        def told(signum: int, frame: FrameType | None) -> None:
            self._told.append(signum)

        ignored = signal.SIG_IGN  # by nohup, or a shell's `&`
        signals = [s for s in STOP_SIGNALS if signal.getsignal(s) is not ignored]
        previous = {signum: signal.signal(signum, told) for signum in signals}
        try:
            yield
        finally:
            for signum, handler in previous.items():
                signal.signal(signum, handler)
