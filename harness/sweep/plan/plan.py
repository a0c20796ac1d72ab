"""`harness sweep plan`: check a sweep file, list its trials, estimate their time and disk. Starts no trial."""

from __future__ import annotations

import functools
import math
import shutil
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from harness.config import RunConfig
from harness.run_name import naming_by
from harness.settings.option import value_type
from harness.sweep.plan.estimate import Cost, UnknownCost, about_bytes, about_time, estimate
from harness.sweep.plan.ledger_states import ledger_states, states_line
from harness.sweep.search.grid import CheckedPoints, number_of_trials, points_of, probe_points, valid_points
from harness.sweep.search.settings import Search
from harness.sweep.search.trial_record import ENDED
from harness.sweep.session import sweep_folder
from harness.sweep.spec.command import launcher_words
from harness.sweep.spec.distributions import EXPONENTS, Parameter
from harness.sweep.spec.sweep_file import Sweep
from harness.sweep.trial_table import as_text, short, varying
from reports.columns import Column
from reports.stats.leaderboard_table import settings_columns

# Rows of the list of trials; further trials are counted.
MAX_ROWS = 200

# In place of the name of a run whose settings are invalid.
INFEASIBLE = "infeasible"

_FIELDS = {field.name: field for field in fields(RunConfig)}


@dataclass(frozen=True)
class Plan:
    """A valid sweep: its trials, their estimated cost, and notes for the user."""

    sweep: Sweep
    trials: int
    points: tuple[dict[str, Any], ...]  # settings of the trials; empty for a Bayesian search
    names: tuple[str, ...]  # of their runs
    cost: Cost | None
    keep: int | None  # checkpoints to keep; None keeps all
    notes: tuple[str, ...]
    states: tuple[str, ...]  # of the trials in the trial queue; empty before the sweep has begun
    left: int  # feasible trials that have not ended


def plan(
    sweep: Sweep,
    search: Search,
    *,
    runs_dir: str | Path,
    probe: bool = True,
    workers: int = 1,
    keep: int | None = None,
    storage: str | None = None,
) -> Plan:
    """The trials that `harness sweep run` would run. Raises ConfigError with all problems.

    `runs_dir` holds earlier runs; without one like these, `probe` allows a few training steps to measure the speed,
    which is announced on stderr. `storage` is that of the trial queue, if the sweep has begun.
    """
    trials, points = number_of_trials(sweep, search), points_of(sweep, search)
    checked = valid_points(sweep, points or probe_points(sweep))
    valid, notes, cost = checked.configs, _notes(sweep, checked), None
    states = ledger_states(sweep, search, points, valid.values(), sweep_folder(sweep, runs_dir), storage)
    ended = {place for place, state in enumerate(states) if state in ENDED}
    configs = [config for place, config in valid.items() if not points or place not in ended]
    left = len(configs) if points else trials - len(ended)
    if left:
        try:
            say = functools.partial(print, file=sys.stderr)
            cost = estimate(configs, left, runs_dir=runs_dir, probe=probe, workers=workers, say=say)
            notes += _disk_notes(cost.disk(left, keep)[1], Path(runs_dir))
        except UnknownCost as error:
            notes.append(str(error))
    else:
        notes.append("All trials have ended: nothing is left to run.")
    with naming_by([parameter.name for parameter in sweep.parameters]):
        names = tuple(valid[place].run_name if place in valid else INFEASIBLE for place in range(len(points)))
    return Plan(sweep, trials, tuple(points), names, cost, keep, tuple(notes), states, left)


def render(plan: Plan) -> str:
    """A plan as text for a terminal."""
    sweep = plan.sweep
    goal = "maximised" if sweep.metric.goal == "maximize" else "minimised"
    trials = f"{plan.trials} trial{'s' * (plan.trials != 1)}"
    infeasible = plan.names.count(INFEASIBLE)
    problems = f"{infeasible} of {trials} are infeasible" if infeasible else "no problems"
    lines = [
        f"{sweep.path}: {problems}. {trials}, method {sweep.method}, {sweep.metric.name} {goal}.",
        as_text(_trial_columns(plan) if plan.points else _parameter_columns(sweep)),
    ]
    if (further := len(plan.points) - MAX_ROWS) > 0:
        lines.append(f"+ {further}")
    if plan.states:
        lines.append(states_line(plan.states))
    if plan.cost:
        lines += _cost_lines(plan, plan.cost)
    return "\n".join([*lines, *(f"note   {note}" for note in plan.notes)])


def _notes(sweep: Sweep, checked: CheckedPoints) -> list[str]:
    """Hints about valid settings that may be a mistake."""
    notes = [f"infeasible: {problem}" for problem in checked.infeasible]
    for parameter in sweep.parameters:
        if parameter.distribution == "int_uniform" and value_type(_FIELDS[parameter.name])[0] is float:
            notes.append(
                f"{parameter.name}: min {parameter.low} and max {parameter.high} are whole numbers, so that W&B draws "
                f"whole numbers only (int_uniform). For fractions, write {float(parameter.low)} and "
                f"{float(parameter.high)}."
            )
        if parameter.distribution in EXPONENTS:
            smallest, largest = parameter.at(1e-9), parameter.at(1 - 1e-9)
            notes.append(
                f"{parameter.name}: min and max of {parameter.distribution} are exponents of e: its values are between "
                f"{smallest:.3g} and {largest:.3g}. To give values, use {parameter.distribution}_values."
            )
    if sweep.method == "random" and checked.equal:
        repeated = sum(len(numbers) - 1 for numbers in checked.equal)
        notes.append(f"{repeated} of the random trials repeat the settings of another trial, as with W&B.")
    longest = max(config.epochs for config in checked.configs.values())
    if sweep.early_terminate and sweep.early_terminate.bands[0] >= longest:
        notes.append(
            f"early_terminate has no effect: it first compares runs at epoch {sweep.early_terminate.bands[0]}, and no "
            f"run is longer than {longest} epochs."
        )
    if any(word.startswith("--mixed_precision") for word in launcher_words(sweep.command)):
        notes.append(
            "--mixed_precision before ${program} has an effect only with W&B's agents. Use `- --precision=...` after "
            "${program}."
        )
    return notes


def _disk_notes(needed: int, runs_dir: Path) -> list[str]:
    existing = next(path for path in (runs_dir.resolve(), *runs_dir.resolve().parents) if path.exists())
    free = shutil.disk_usage(existing).free
    return [] if needed < free else [f"{existing} has only {about_bytes(free)} free. Keep fewer checkpoints: --keep K."]


def _cost_lines(plan: Plan, cost: Cost) -> list[str]:
    saving = ", minus the savings of early termination" if plan.sweep.early_terminate else ""
    trials = f" for the {plan.left} that are left" if plan.states else ""
    with_workers = f"with {cost.workers} worker{'s' * (cost.workers != 1)}"
    lines = [
        f"time   about {about_time(cost.seconds)} {with_workers}{trials}{saving}; "
        f"about {about_time(cost.trial_seconds)} per trial"
    ]
    if workers := _workers_line(plan, cost):
        lines.append(f"       {workers}")
    lines += [f"       measured in {source}" for source in cost.sources]
    if cost.checkpoint is None:
        return [*lines, "disk   unknown: the checkpoints of these runs were deleted"]
    end, maximum = (about_bytes(count) for count in cost.disk(plan.trials, plan.keep))
    retention = f"the best {plan.keep} are kept" if plan.keep else "all are kept; --keep K keeps the best K"
    checkpoints = f"checkpoints of {about_bytes(cost.checkpoint)}, {retention}"
    return [*lines, f"disk   about {end} at the end, {maximum} at most: {checkpoints}"]


def _workers_line(plan: Plan, cost: Cost) -> str:
    """How many workers save time on a CPU; empty if --workers is that number, and on GPUs."""
    if cost.cores is None:
        return ""
    trial = f"a trial computes on {cost.threads} of the {cost.cores} cores"
    if cost.workers > (most := math.ceil(cost.cores / cost.threads)):
        return f"{trial}: more workers than {most} save no time"
    useful = min(cost.cores // cost.threads, plan.left)
    # Of a Bayesian search, trials that train beside each other do not learn from each other.
    if cost.workers < useful and plan.sweep.method != "bayes":
        return f"{trial}: --workers {useful} trains {useful} trials at a time"
    return ""


def _trial_columns(plan: Plan) -> list[Column]:
    """Every trial with the settings that distinguish it from the others, in W&B's order."""
    shown = range(min(len(plan.points), MAX_ROWS))
    settings = settings_columns(varying(plan.sweep), [plan.points[number] for number in shown])
    states = [Column("state", plan.states[:MAX_ROWS], is_text=True)] if plan.states else []
    return [
        Column("trial", tuple(map(str, shown))),
        *settings,
        *states,
        Column("run", plan.names[:MAX_ROWS], is_text=True),
    ]


def _parameter_columns(sweep: Sweep) -> list[Column]:
    """The parameters of a Bayesian search."""
    cells = {
        "setting": [entry.name for entry in sweep.parameters],
        "distribution": [entry.distribution for entry in sweep.parameters],
        "values": [_values(entry) for entry in sweep.parameters],
    }
    return [Column(name, tuple(column), is_text=True) for name, column in cells.items()]


def _values(parameter: Parameter) -> str:
    if parameter.values:
        return ", ".join(map(short, parameter.values))
    if "uniform" in parameter.distribution and parameter.distribution not in EXPONENTS:
        return f"{short(parameter.low)} to {short(parameter.high)}"
    return f"{parameter.at(0.025):.3g} to {parameter.at(0.975):.3g} in 95 % of draws"
