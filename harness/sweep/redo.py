"""Trials of a begun sweep that run again or are left out: failed ones, infeasible ones, and those a user names."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from harness.errors import HarnessError
from harness.runs.folder import RunFolder
from harness.sweep.search.ledger import newest_numbers
from harness.sweep.search.trial_queue import TrialQueue
from harness.sweep.search.trial_record import TrialRecord
from harness.sweep.spec.sweep_file import Sweep
from harness.sweep.trial_table import describe

# States of trials that can run again.
REPEATABLE = ("failed", "infeasible", "stopped", "skipped")
SKIPPABLE = ("waiting", "interrupted", "failed", "infeasible")

# A device counts as larger if it has this many times the memory: two programs measure one device slightly differently.
LARGER = 1.1

# Failed trials named at the end of a sweep; `harness sweep status` lists all.
LISTED = 10


def retry(trial_queue: TrialQueue, folder: Path, numbers: Collection[int], *, failed: bool) -> list[TrialRecord]:
    """Queue trials again, with all their attempts; returns them. Raises HarnessError with all unsuitable numbers."""
    chosen = named(trial_queue, numbers, REPEATABLE, "cannot run again")
    chosen += [
        record for record in trial_queue.records() if failed and record.state == "failed" and record not in chosen
    ]
    for record in chosen:
        _forget_ending(folder, record)
        trial_queue.requeue(record, attempts=0)
    return chosen


def skip(trial_queue: TrialQueue, numbers: Collection[int]) -> list[TrialRecord]:
    """Leave trials out; returns them. Raises HarnessError with every number that cannot be left out."""
    chosen = named(trial_queue, numbers, SKIPPABLE, "cannot be skipped")
    for record in chosen:
        trial_queue.skip(record)
    return chosen


def requeue_at_start(trial_queue: TrialQueue, folder: Path, retries: int, memory: int | None) -> None:
    """Queue failed trials again that have attempts left, and those that a device with less memory could not run."""
    for record in trial_queue.records():
        if not record.in_file:
            continue
        if record.state == "failed" and record.attempts <= retries:
            trial_queue.requeue(record, attempts=record.attempts)
        elif record.state == "infeasible" and record.memory and memory and memory > LARGER * record.memory:
            _forget_ending(folder, record)
            trial_queue.requeue(record, attempts=0)


def named(trial_queue: TrialQueue, numbers: Collection[int], states: Sequence[str], refusal: str) -> list[TrialRecord]:
    """The newest records of these trials. Raises HarnessError if a number is unknown or its state is another.

    A trial that is queued again gets another number; the earlier ones stand for it as well.
    """
    records = {record.number: record for record in trial_queue.records()}
    newest = newest_numbers(trial_queue.study)
    chosen, problems = {}, []
    for number in numbers:
        record = records.get(newest.get(number, number))
        if record is None:
            problems.append(f"There is no trial {number}. `harness sweep status` lists the numbers of the trials.")
        elif record.state not in states:
            problems.append(
                f"Trial {number} {refusal}: it is {record.state}. "
                f"Possible for trials that are {', '.join(states[:-1])} or {states[-1]}."
            )
        else:
            chosen[record.number] = record
    if problems:
        raise HarnessError(problems)
    return list(chosen.values())


def failed_lines(records: Sequence[TrialRecord], sweep: Sweep) -> Iterator[str]:
    """Which trials failed, why, and how to run them again; nothing if none failed."""
    failed = [record for record in records if record.state == "failed"]
    if not failed:
        return
    yield f"{len(failed)} of {len(records)} trials failed:"
    for record in failed[:LISTED]:
        yield f"  trial {record.number}{describe(record.settings, sweep)}: {record.reason or 'unknown reason'}"
    if len(failed) > LISTED:
        yield f"  and {len(failed) - LISTED} more; `harness sweep status` lists them."
    yield f"To run them again: harness sweep retry {sweep.path} --failed, then repeat this command."
    yield f"To leave trials out: harness sweep skip {sweep.path} TRIAL..."


def _forget_ending(folder: Path, record: TrialRecord) -> None:
    """Clear the ending of a run without a result: it resumes, or starts over if it was pruned and has no state.

    Its folder may be on another machine.
    """
    for path in folder.glob(f"*-{record.run_id}"):
        run = RunFolder(path)
        with run.locked(), contextlib.suppress(FileNotFoundError):
            if run.read("summary.json").get("state") in ("infeasible", "stopped"):
                run.update("summary.json", {"state": "preempted"})
