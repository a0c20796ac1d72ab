"""`--repeat-best K --repeats N`: more seeds of the best settings of a sweep that has run."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from harness.config import RunConfig
from harness.errors import ConfigError
from harness.sweep.search.trial_record import TrialRecord
from harness.sweep.spec.repeats import SEED, check_seed_is_free
from harness.sweep.spec.sweep_file import Sweep
from reports.runs import Run
from reports.stats.setting import settings_of


@dataclasses.dataclass(frozen=True)
class RepeatBest:
    """The best `settings` of a sweep get the seeds 0 to `seeds` - 1."""

    settings: int
    seeds: int


def check_repeat_best(sweep: Sweep, repeat: RepeatBest) -> None:
    """Raises ConfigError for a sweep that fixes or varies the seed."""
    check_seed_is_free(sweep, f"--repeat-best {repeat.settings} --repeats {repeat.seeds}")
    if repeat.seeds < 2:
        raise ConfigError(
            "--repeat-best needs --repeats of at least 2: the number of seeds of each of the best settings."
        )


def points_to_repeat(
    sweep: Sweep, records: Sequence[TrialRecord], runs: Sequence[Run], repeat: RepeatBest
) -> list[dict[str, Any]]:
    """The points of more seeds of the best settings, by the mean of the metric.

    The first seed chooses these settings, so that the same command chooses the same ones again.
    """
    metric, goal = sweep.metric.name, sweep.metric.goal
    chosen = settings_of([run for run in runs if run.config.get(SEED) == RunConfig.seed], metric, goal)
    every = settings_of(runs, metric, goal)
    points = []
    for first in [setting for setting in chosen if setting.runs][: repeat.settings]:
        whole = next(setting for setting in every if first.best in setting.all_runs)
        begun = {run.config.get(SEED) for run in whole.all_runs}
        name = first.best.path.name
        record = next((record for record in records if name.endswith(f"-{record.run_id}")), None)
        if record is not None and record.settings is not None:
            points += [{**record.settings, SEED: seed} for seed in range(repeat.seeds) if seed not in begun]
    return points
