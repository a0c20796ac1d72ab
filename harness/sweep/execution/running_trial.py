"""A trial in its process: how it is started, how far it is, how it is ended."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from harness.config import RunConfig
from harness.launch.launch import GRACE_SECONDS, RANK_VARIABLES
from harness.launch.stop_signals import STOP_SIGNALS
from harness.options import arguments
from harness.runs.folder import RunFolder
from harness.runs.reading import UnreadableError
from harness.sweep.execution.memory import KILLED, memory_kills
from harness.sweep.execution.metrics_reader import MetricsReader, modification_time, modification_times, value_after
from harness.sweep.execution.outcome import EARLY_TERMINATION, read_summary
from harness.sweep.execution.resources import Slot
from harness.sweep.execution.trial_process import run_trial
from harness.sweep.search.trial_queue import TrialQueue
from harness.sweep.search.trial_record import ClaimedTrial
from harness.sweep.spec.sweep_file import Sweep
from harness.track import PROJECT
from harness.track.settings import OWN_SWEEP

# The exit code that multiprocessing reports for a process whose fork server has ended.
FORK_SERVER_ENDED = 255

# Added to the niceness of a tested trial: it then gets a tenth of a core for which a thread that trains waits, too
# (sched(7): each step is a factor of 1.25).
FINISHING_NICENESS = 10

# Variables of the runner that a trial must not inherit: they describe another run.
NOT_FOR_TRIALS = ("HARNESS_SWEEP_ARGS", "WANDB_SWEEP_PARAM_PATH", "WANDB_SERVICE", "WANDB_NAME", *RANK_VARIABLES)


@dataclass
class RunningTrial:
    claimed: ClaimedTrial
    config: RunConfig
    slot: Slot
    process: BaseProcess
    folder: RunFolder
    log: Path
    metrics: MetricsReader
    last_progress: float = field(default_factory=time.monotonic)  # when it last wrote a file
    modified: tuple[int | None, ...] = ()  # modification times of its files then
    reported: int = 0  # epochs reported to the trial queue
    prune_reason: str = ""  # set when early termination prunes the trial
    hung: bool = False
    is_finishing: bool = False  # it is tested and draws figures, while its slot has the next trial
    next_memory_check: float = 0.0  # monotonic time
    kill_at: float | None = None  # monotonic time of SIGKILL; set by `terminate`
    earlier_predictions: int | None = None  # modification time (ns) of the predictions of an earlier start
    earlier_memory_kills: int | None = None  # processes that the kernel had killed for lack of memory before

    def update(self) -> None:
        """Read what the run has written since the last call."""
        self.metrics.read()
        modified = modification_times(self.folder, self.log)
        if modified != self.modified:
            self.modified, self.last_progress = modified, time.monotonic()

    def report_epochs(self, trial_queue: TrialQueue) -> None:
        """Report the metric of new epochs to the trial queue, which may prune the trial."""
        metric = trial_queue.sweep.metric.name
        for epoch in range(self.reported + 1, len(self.metrics.validations) + 1):
            self.reported = epoch
            value = value_after(self.metrics.validations[:epoch], metric)
            prune = value is not None and trial_queue.report(self.claimed, epoch, value)
            if prune and not self.prune_reason and epoch < self.config.epochs:
                self.prune_reason = f"{EARLY_TERMINATION} after epoch {epoch}, at {metric} {value:.4f}"

    def ask_to_stop(self) -> None:
        """Ask a pruned trial to stop, once its run trains: a run clears earlier requests when it starts."""
        if self.folder.is_asked_to_stop:
            return
        with suppress(UnreadableError):  # a damaged summary is reported when the trial ends
            if read_summary(self.folder).get("state") == "running":
                self.folder.ask_to_stop(self.prune_reason)

    def made_no_progress_for(self, timeout: float) -> bool:
        """Whether it has written no file for `timeout` seconds; a timeout of 0 never ends."""
        return 0 < timeout < time.monotonic() - self.last_progress

    @property
    def is_tested(self) -> bool:
        """Whether it has tested its best checkpoint. It then draws figures and closes its W&B run."""
        return modification_time(self.folder.predictions) not in (None, self.earlier_predictions)

    @property
    def was_killed_for_memory(self) -> bool:
        """Whether SIGKILL ended it, and the kernel has killed a process for lack of memory since it started."""
        if self.process.exitcode not in KILLED or self.earlier_memory_kills is None:
            return False
        return (memory_kills() or 0) > self.earlier_memory_kills

    @property
    def is_alive(self) -> bool:
        """Whether its process is running. multiprocessing reports it as ended as soon as the fork server has ended."""
        if self.process.is_alive():
            return True
        with suppress(ProcessLookupError, PermissionError):
            return self.process.exitcode == FORK_SERVER_ENDED and os.getpgid(self.process.pid or 0) == self.process.pid
        return False

    def terminate(self) -> None:
        """Send SIGTERM, once. The runner kills the trial if it has not ended GRACE_SECONDS later."""
        if self.kill_at is None and self.process.pid is not None:
            self.kill_at = time.monotonic() + GRACE_SECONDS
            with suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGTERM)

    def lower_priority(self) -> None:
        """Leave the cores to the next trial, which trains beside the figures of this one."""
        priority = min(19, os.getpriority(os.PRIO_PROCESS, 0) + FINISHING_NICENESS)
        with suppress(OSError):  # it may have ended
            os.setpriority(os.PRIO_PGRP, self.process.pid or 0, priority)

    def kill(self) -> None:
        """Send SIGKILL to the whole process group, ranks included."""
        if self.process.pid is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)

    def was_preempted(self) -> bool:
        """Whether a signal from outside, or the end of the fork server, made it save its state and end."""
        ended_by_signal = self.process.exitcode in (*(128 + signum for signum in STOP_SIGNALS), FORK_SERVER_ENDED)
        return ended_by_signal and read_summary(self.folder).get("state") == "preempted"


def start_trial(
    context: Any, claimed: ClaimedTrial, config: RunConfig, slot: Slot, environment: Mapping[str, str]
) -> RunningTrial:
    """Start a trial in a new process of a multiprocessing context. Raises EOFError or OSError if that fails."""
    folder = RunFolder.of(config, claimed.run_id)
    log = Path(config.runs_dir) / "logs" / f"{claimed.number}.log"
    log.parent.mkdir(exist_ok=True)
    process = context.Process(
        target=run_trial,
        args=(arguments(config), environment, slot.cores, slot.processes, bool(slot.gpus), str(log)),
        name=f"trial-{claimed.number}",
    )
    trial = RunningTrial(
        claimed,
        config,
        slot,
        process,
        folder,
        log,
        MetricsReader(folder.metrics),
        earlier_predictions=modification_time(folder.predictions),
        earlier_memory_kills=memory_kills(),
    )
    process.start()
    return trial


def trial_environment(sweep: Sweep, sweep_id: str, claimed: ClaimedTrial, slot: Slot) -> dict[str, str]:
    """The runner's environment, changed for one trial: its id, its sweep, its GPUs."""
    inherited = {name: value for name, value in os.environ.items() if name not in NOT_FOR_TRIALS}
    defaults = {"WANDB_MODE": "offline", "WANDB_PROJECT": sweep.project or PROJECT}
    if sweep.entity:
        defaults["WANDB_ENTITY"] = sweep.entity
    own = {"WANDB_SWEEP_ID": sweep_id, "WANDB_RUN_ID": claimed.run_id, "WANDB_RUN_GROUP": sweep.name}
    own[OWN_SWEEP] = sweep.name
    return defaults | inherited | slot.environment() | own
