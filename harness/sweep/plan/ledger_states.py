"""Which trials of a sweep file the trial queue of its sweep already has, and in what state."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.config import RunConfig
from harness.errors import HarnessError
from harness.sweep.search.growth import file_keys, known_trials
from harness.sweep.search.identity import read_contents
from harness.sweep.search.ledger import REMOVED
from harness.sweep.search.ledger_errors import check_sweep_folder, ledger_errors_in_words
from harness.sweep.search.settings import Search
from harness.sweep.search.study import NotBegunError
from harness.sweep.search.trial_queue import TrialQueue
from harness.sweep.spec.sweep_file import Sweep

NEW = "new"


def ledger_states(
    sweep: Sweep,
    search: Search,
    points: Sequence[Mapping[str, Any]],
    configs: Iterable[RunConfig],
    folder: Path,
    storage: str | None,
) -> tuple[str, ...]:
    """The state of each trial of the file, in its order, or NEW; empty if the sweep has not begun.

    Writes nothing. Raises HarnessError for a trial queue that cannot be read or is lost, and for one that
    `harness sweep run` refuses.
    """
    check_sweep_folder(sweep, folder, storage)
    try:
        with ledger_errors_in_words(sweep.path):
            trial_queue = TrialQueue.load(sweep, folder, storage)
    except NotBegunError:
        return ()
    try:
        contents = read_contents(configs)
    except HarnessError:  # of images or weights that are away: the plan has a note of them
        return ()
    # The records first: a trial that a runner queues in between waits.
    states = {record.number: record.state for record in trial_queue.records()}
    trials, _ = known_trials(trial_queue.study, sweep, folder, contents)
    keys = file_keys(sweep, search, points, contents)
    by_key = [states.get(trials[key].number, "waiting") if key in trials else NEW for key in keys]
    return tuple(NEW if state == REMOVED else state for state in by_key)  # `run` queues a removed trial again


def states_line(states: Sequence[str]) -> str:
    """Counts by state: "queue  3 of 4 trials are in the trial queue: 2 finished, 1 failed"."""
    counts = Counter(state for state in states if state != NEW)
    known = ", ".join(f"{count} {state}" for state, count in counts.items())
    return f"queue  {counts.total()} of {len(states)} trials are in the trial queue{known and f': {known}'}"
