"""What a sweep has brought so far: its trials, their runs on all machines, and the leaderboard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import printable
from harness.sweep.search.trial_queue import TrialQueue
from harness.sweep.search.trial_record import TrialRecord
from harness.sweep.spec.repeats import SEED
from harness.sweep.whereabouts import SCORES, whereabouts_of
from reports.runs import Run, read_run, read_runs
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


def results_of(trial_queue: TrialQueue, folder: Path) -> Results:
    """The results in the trial queue and the folder of a sweep, also those taken over.

    A run that lies elsewhere has the settings and the scores of the trial queue, without predictions.
    """
    sweep = trial_queue.sweep
    records = trial_queue.records()  # before the run folders: what ends in between makes the leaderboard not final
    trials = {trial.number: trial for trial in trial_queue.study.get_trials(deepcopy=False)}
    runs = [*read_runs(folder), *(read_run(record.run_folder) for record in records if record.run_folder)]
    names = {run.name for run in runs}
    # Not a run of a point that was added by hand with settings that the trials of the file do not have.
    of_file = {parameter.name for parameter in sweep.parameters} | {SEED}
    others = tuple(f"-{record.run_id}" for record in records if not (record.settings or {}).keys() <= of_file)
    template = next((dict(run.config) for run in runs if not run.name.endswith(others)), {})
    elsewhere: dict[str, str] = {}
    for record in records:
        note = whereabouts_of(trials[record.number])
        if note is None or record.state != "finished" or Path(note.path).name in names:
            continue
        settings = record.settings or {}
        config = {**template, **settings} if template else sweep.config(settings).to_dict()
        summary = {
            **trials[record.number].user_attrs.get(SCORES, {}),
            "state": "finished",
            sweep.metric.name: record.value,
        }
        runs.append(Run(Path(note.path), config, summary, {}))
        elsewhere[Path(note.path).name] = printable(f"{note.host}:{note.path}")
    return Results(records, runs, elsewhere, leaderboard(runs, metric=sweep.metric.name, goal=sweep.metric.goal))
