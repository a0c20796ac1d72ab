"""Which trials of a sweep file the trial queue of its sweep already has, and in what state."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.config import RunConfig
from harness.errors import HarnessError
from harness.sweep.search.growth import file_keys
from harness.sweep.search.identity import read_contents
from harness.sweep.search.ledger import newest_trials
from harness.sweep.search.ledger_errors import ledger_errors_in_words, ledger_file
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

    Raises HarnessError for a trial queue that cannot be read.
    """
    file = ledger_file(folder, storage)
    if file is not None and not file.exists():  # opening it would create it
        return ()
    try:
        with ledger_errors_in_words(sweep.path):
            trial_queue = TrialQueue.load(sweep, folder, storage)
    except NotBegunError:
        return ()
    try:
        contents = read_contents(configs)
    except HarnessError:  # of images or weights that are away: the plan has a note of them
        return ()
    trials = newest_trials(trial_queue.study)
    states = {record.number: record.state for record in trial_queue.records()}
    keys = file_keys(sweep, search, points, contents)
    return tuple(states[trials[key].number] if key in trials else NEW for key in keys)


def states_line(states: Sequence[str]) -> str:
    """Counts by state: "queue  3 of 4 trials are in the trial queue: 2 finished, 1 failed"."""
    counts = Counter(state for state in states if state != NEW)
    known = ", ".join(f"{count} {state}" for state, count in counts.items())
    return f"queue  {counts.total()} of {len(states)} trials are in the trial queue{known and f': {known}'}"
