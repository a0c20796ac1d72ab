"""What a sweep has brought so far: its trials, their runs on all machines, and the leaderboard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import printable
from harness.sweep.search.trial_queue import TrialQueue
from harness.sweep.search.trial_record import TrialRecord
from harness.sweep.spec.sweep_file import Sweep
from harness.sweep.whereabouts import ledger_runs
from reports.runs import Run
from reports.stats.leaderboard import Leaderboard, leaderboard
from reports.stats.leaderboard_table import render

# States of trials that have not ended.
UNFINISHED = ("running", "interrupted", "waiting")


@dataclass(frozen=True)
class Results:
    records: Sequence[TrialRecord]
    runs: Sequence[Run]  # also those that are known from the trial queue only
    elsewhere: Mapping[str, str]  # places of those, which this machine cannot read, by name
    board: Leaderboard

    def text(self) -> str:
        """The leaderboard; below it, how many trials have not ended on any machine, and the runs that lie elsewhere."""
        lines = []
        states = [record.state for record in self.records if record.state in UNFINISHED]
        if states:
            counts = ", ".join(f"{states.count(state)} {state}" for state in UNFINISHED if state in states)
            lines.append(f"Not final: {len(states)} of {len(self.records)} trials have not ended ({counts}).")
        if self.elsewhere:
            lines.append("Runs that lie elsewhere:")
            lines += [f"  {printable(name)}: {path}" for name, path in self.elsewhere.items()]
        return render(self.board) + "\n" + "".join(f"{line}\n" for line in lines)


def results_of(trial_queue: TrialQueue, sweep: Sweep, folder: Path) -> Results:
    """The results in the trial queue and the folder of a sweep."""
    records = trial_queue.records()  # before the run folders: what ends in between makes the leaderboard not final
    runs, elsewhere = ledger_runs(trial_queue, sweep, folder)
    return Results(records, runs, elsewhere, leaderboard(runs, metric=sweep.metric.name, goal=sweep.metric.goal))
