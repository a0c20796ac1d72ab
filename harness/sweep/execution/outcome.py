"""How a trial ended, read from its run folder and its log."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.runs.folder import RunFolder
from harness.runs.rules import finite_number
from harness.sweep.execution.memory import KILLED
from harness.sweep.execution.surroundings import INPUTS_FAILED, MACHINE_FAILED, problem_around
from harness.sweep.spec.sweep_file import Sweep

if TYPE_CHECKING:
    from harness.sweep.execution.running_trial import RunningTrial

# Settings that name files of a trial.
INPUT_SETTINGS = ("data", "weights", "class_weights")

# The reason of a pruned trial begins with this; one that was stopped by hand has another reason.
EARLY_TERMINATION = "early termination"

# What to do about a damaged run folder of a trial.
RETRY = "Move the run folder away and repeat `harness sweep run`: it starts this trial again."


@dataclass(frozen=True)
class Outcome:
    """How a trial ended, as the trial queue stores it."""

    state: str  # finished, stopped, infeasible
    message: str  # for the terminal
    value: float | None = None  # of the sweep's metric, if finished
    reason: str | None = None
    memory: int | None = None  # bytes that were too few, if it is infeasible for that reason

    @property
    def is_pruned(self) -> bool:
        return self.state == "stopped" and str(self.reason).startswith(EARLY_TERMINATION)


def read_outcome(folder: RunFolder, metric: str) -> Outcome | None:
    """The outcome in the run's summary; None if the run has not ended or has failed. Raises UnreadableError."""
    summary = read_summary(folder)
    state, reason = summary.get("state"), summary.get("reason")
    if state in ("stopped", "infeasible"):
        memory = finite_number(summary.get("memory/total_bytes")) if state == "infeasible" else None
        return Outcome(state, f"{state}: {reason}", reason=reason, memory=None if memory is None else int(memory))
    if state != "finished":
        return None
    value = final_value(folder, metric)
    if value is None:
        reason = f"its {metric} is not a number"
        return Outcome("infeasible", f"finished, but {reason}", reason=reason)
    test_f1 = finite_number(summary.get("test/f1"))
    test_text = "" if test_f1 is None else f", test F1 {test_f1:.4f}"
    return Outcome("finished", f"finished: {metric} {value:.4f}{test_text}", value)


def read_summary(folder: RunFolder) -> dict[str, Any]:
    """summary.json of a trial; empty if it is missing. Raises UnreadableError."""
    return folder.read("summary.json", RETRY)


def final_value(folder: RunFolder, metric: str) -> float | None:
    """The metric of a finished run: from its summary, else from the last row that has it. Raises UnreadableError."""
    summary = read_summary(folder)
    if metric in summary:
        return finite_number(summary[metric])
    return next((row[metric] for row in reversed(folder.read_metrics(RETRY)) if metric in row), None)


def outside_cause(trial: RunningTrial, sweep: Sweep) -> str | None:
    """Why a trial failed, with a remedy, if the cause lies outside its settings; else None. Raises UnreadableError."""
    if problem := problem_around(trial.config, trial.folder.path.parent, trial.slot):
        return problem
    if trial.was_killed_for_memory:
        return (
            "The kernel killed the trial because the machine's memory ran out. Close other programs or give fewer "
            f"--workers; if the trial alone is too large, leave it out: harness sweep skip FILE {trial.claimed.number}"
        )
    code = trial.process.exitcode or 0
    # Without the images or the weights of this one setting, other trials may still run.
    are_shared = not any(parameter.varies and parameter.name in INPUT_SETTINGS for parameter in sweep.parameters)
    if code == MACHINE_FAILED or (code == INPUTS_FAILED and are_shared):
        return _last_line(trial.log) or failure_reason(code, read_summary(trial.folder), trial.log)
    return None


def failure_reason(exit_code: int, summary: Mapping[str, Any], log: Path) -> str:
    """One sentence: the run's own reason, else how its process ended and the last line of its log."""
    if summary.get("state") == "failed" and summary.get("reason"):
        return str(summary["reason"]).splitlines()[0]
    if exit_code in KILLED:
        return "killed (SIGKILL), by the kernel if memory ran out"
    ending = f"killed by {signal.Signals(-exit_code).name}" if exit_code < 0 else f"exit code {exit_code}"
    line = _last_line(log)
    return f"{ending}: {line}" if line else ending


def _last_line(log: Path) -> str:
    """The last error message in a log, else its last line; empty if there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 4000))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("Error: ")]
    return (errors or lines or [""])[-1].removeprefix("Error: ")[:300]
