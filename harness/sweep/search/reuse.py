"""Takes over the results of other sweeps and single runs that compute the same as trials of this sweep."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState

from harness.config import RunConfig
from harness.errors import ConfigError, HarnessError
from harness.sweep.search.definition import common
from harness.sweep.search.identity import Contents, identity, identity_of, run_settings
from harness.sweep.search.ledger import newest_trials
from harness.sweep.search.samplers import NATIVE, choose, ended_trial, stored_distributions
from harness.sweep.spec.sweep_file import Sweep
from reports.runs import Run, read_runs


@dataclasses.dataclass(frozen=True)
class Reused:
    """Results that were taken over from run folders."""

    taken: int
    known: int  # runs of points that have a result
    others: int  # runs that are not trials of this sweep
    different: tuple[str, ...]  # settings in which those differ from all trials of this sweep

    def text(self) -> str:
        parts = [f"{self.taken} result{'s' * (self.taken != 1)} taken over"]
        if self.known:
            parts.append(f"{self.known} of points that have a result")
        if self.others:
            why = f" (they differ in {', '.join(self.different[:6])})" if self.different else ""
            parts.append(f"{self.others} of other settings or data{why}")
        return f"Reused runs: {'; '.join(parts)}."


def reuse(study: optuna.Study, sweep: Sweep, folder: Path, contents: Contents, sources: Sequence[Path]) -> Reused:
    """Record the finished runs in these folders as finished trials, in place of trials that wait.

    Nothing is copied: the trial names the run folder. A Bayesian search gets them in addition to its own trials, as
    far as its distributions hold their settings. Raises HarnessError for a folder without runs.
    """
    fixed = study.user_attrs["definition"]["fixed"]
    taken = known = others = 0
    different: dict[str, None] = {}
    for run in _finished_runs(sweep, folder, sources):
        computed = run_settings(run) or {}
        key = identity_of(computed)
        trials = newest_trials(study)
        if key in trials and trials[key].state != TrialState.WAITING:
            known += 1
        elif key in trials and _complete(study, sweep, trials[key], run):
            taken += 1
        elif sweep.method == "bayes" and (settings := _point_of(sweep, run, key, contents)):
            _add(study, sweep, settings, key, run)
            taken += 1
        else:
            others += 1
            names = common([computed])
            different |= dict.fromkeys(name for name in fixed if name in names and names[name] != fixed[name])
    return Reused(taken, known, others, tuple(different))


def _finished_runs(sweep: Sweep, folder: Path, sources: Sequence[Path]) -> list[Run]:
    runs: dict[Path, Run] = {}
    for source in sources:
        found = read_runs(source)
        if not found:
            raise HarnessError(f"--reuse {source}: this folder holds no runs. Give a folder of runs, or a run folder.")
        runs |= {run.path.resolve(): run for run in found}
    own = folder.resolve()
    return [
        run
        for path, run in runs.items()
        if own not in path.parents and run.finished and run.metric(sweep.metric.name) is not None
    ]


def _complete(study: optuna.Study, sweep: Sweep, trial: optuna.trial.FrozenTrial, run: Run) -> bool:
    """End a trial that waits with the result of a run; returns False if a worker has claimed it in the meantime."""
    if not study._storage.set_trial_state_values(trial._trial_id, TrialState.RUNNING):
        return False
    claimed = optuna.Trial(study, trial._trial_id)
    choose(claimed, sweep, trial.user_attrs["settings"])
    for name, value in _attributes(run).items():
        claimed.set_user_attr(name, value)
    study.tell(claimed, run.metric(sweep.metric.name))
    return True


def _add(study: optuna.Study, sweep: Sweep, settings: Mapping[str, Any], key: str, run: Run) -> None:
    """Add a finished trial to a Bayesian search."""
    place = 1 + max((trial.user_attrs["point"] for trial in newest_trials(study).values()), default=-1)
    attributes = {"point": place, "key": key, "settings": settings, "attempts": 0, "added": True, **_attributes(run)}
    study.add_trial(ended_trial(sweep, settings, value=run.metric(sweep.metric.name), user_attrs=attributes))


def _attributes(run: Run) -> dict[str, Any]:
    run_id = run.manifest.get("wandb_run_id") or run.name
    return {"run_id": run_id, "run_folder": str(run.path.resolve()), "ending": {"state": "finished", "reason": None}}


def _point_of(sweep: Sweep, run: Run, key: str, contents: Contents) -> dict[str, Any] | None:
    """The point of the sweep that a run is at; None if the sweep cannot choose it."""
    try:
        config = RunConfig.from_dict(run.config)
        settings = {parameter.name: getattr(config, parameter.name) for parameter in sweep.parameters}
        if identity(sweep.config(settings), contents) != key:
            return None
    except (ConfigError, TypeError):
        return None
    held = stored_distributions(sweep, settings)
    for parameter in sweep.parameters:
        if parameter.varies and parameter.name not in held and parameter.distribution in NATIVE:
            return None
    return settings
