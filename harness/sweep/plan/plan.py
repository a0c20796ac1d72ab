"""`harness sweep plan`: check a sweep file, list its trials, estimate their time and disk. Starts nothing."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table

from harness.config import RunConfig
from harness.sweep.execution.progress import as_text, short, varying
from harness.sweep.plan.estimate import Cost, UnknownCost, about_bytes, about_time, estimate
from harness.sweep.search.grid import checked_configs, equal_points, probe_points
from harness.sweep.search.settings import Search
from harness.sweep.search.study import number_of_trials, points_of
from harness.sweep.spec.command import launcher_words
from harness.sweep.spec.distributions import EXPONENTS, Parameter
from harness.sweep.spec.sweep_file import Sweep

# Rows of the list of trials; what is beyond is counted.
MOST_ROWS = 200


@dataclass(frozen=True)
class Plan:
    """A sweep that can be started: its trials, what they may cost, and what is worth knowing before."""

    sweep: Sweep
    trials: int
    points: tuple[dict[str, Any], ...]  # settings of the trials; none of a Bayesian search
    names: tuple[str, ...]  # of their runs
    cost: Cost | None
    keep: int | None  # checkpoints that stay on the disk; None keeps all
    notes: tuple[str, ...]


def plan(
    sweep: Sweep,
    *,
    runs_dir: str | Path,
    count: int | None = None,
    seed: int = 0,
    probe: bool = True,
    workers: int = 1,
    keep: int | None = None,
) -> Plan:
    """What `harness sweep run` would do; ConfigError with all that would keep it from doing it.

    `runs_dir` is where earlier runs are looked for; `probe` allows a few steps of training to measure the speed.
    """
    search = Search(count, seed)
    trials, points = number_of_trials(sweep, search), points_of(sweep, search)
    likely = points or probe_points(sweep)
    configs = checked_configs(sweep, likely)
    notes, cost = _notes(sweep, configs, points), None
    try:
        cost = estimate(configs, trials, runs_dir=runs_dir, probe=probe, workers=workers)
        notes += _shortage(cost.disk(trials, keep)[1], Path(runs_dir))
    except UnknownCost as why:
        notes.append(str(why))
    names = tuple(config.run_name for config in configs) if points else ()
    return Plan(sweep, trials, tuple(points), names, cost, keep, tuple(notes))


def render(plan: Plan) -> str:
    """A plan as text for a terminal."""
    sweep = plan.sweep
    goal = "maximised" if sweep.metric.goal == "maximize" else "minimised"
    trials = f"{plan.trials} trial{'s' * (plan.trials != 1)}"
    lines = [
        f"{sweep.path}: no problems. {trials}, method {sweep.method}, {sweep.metric.name} {goal}.",
        as_text(_trials(plan) if plan.points else _distributions(sweep)),
    ]
    if plan.cost:
        lines += _cost_lines(plan, plan.cost)
    return "\n".join([*lines, *(f"note   {note}" for note in plan.notes)])


def _notes(sweep: Sweep, configs: Sequence[RunConfig], points: Sequence[Mapping[str, Any]]) -> list[str]:
    """What is allowed, and may still not be what was meant."""
    notes = []
    for parameter in sweep.parameters:
        if parameter.distribution in EXPONENTS:
            least, most = parameter.at(1e-9), parameter.at(1 - 1e-9)
            notes.append(
                f"{parameter.name}: min and max of {parameter.distribution} are exponents of e, so values lie between "
                f"{least:.3g} and {most:.3g}. {parameter.distribution}_values takes values."
            )
    if sweep.method == "random" and (same := equal_points(sweep, points)):
        repeated = sum(len(numbers) - 1 for numbers in same)
        notes.append(f"{repeated} of the random trials repeat the settings of another, as they do with W&B.")
    longest = max(config.epochs for config in configs)
    if sweep.early_terminate and sweep.early_terminate.bands[0] >= longest:
        notes.append(
            f"early_terminate compares runs at epoch {sweep.early_terminate.bands[0]} first, and no run is longer than "
            f"{longest}: it stops none."
        )
    if any(word.startswith("--mixed_precision") for word in launcher_words(sweep.command)):
        notes.append(
            "--mixed_precision before ${program} holds under W&B's agents only; `- --precision=...` after ${program} "
            "holds here, too."
        )
    return notes


def _shortage(needed: int, runs_dir: Path) -> list[str]:
    existing = next(path for path in (runs_dir.resolve(), *runs_dir.resolve().parents) if path.exists())
    free = shutil.disk_usage(existing).free
    return [] if needed < free else [f"{existing} has {about_bytes(free)} free, which is too little: give --keep K."]


def _cost_lines(plan: Plan, cost: Cost) -> list[str]:
    less = ", less what early termination saves" if plan.sweep.early_terminate else ""
    with_workers = f"with {cost.workers} worker{'s' * (cost.workers != 1)}"
    lines = [
        f"time   about {about_time(cost.seconds)} {with_workers}{less}; about {about_time(cost.trial_seconds)} a trial"
    ]
    if cost.workers > 1 and cost.device == "cpu":
        lines.append("       on a CPU, workers share its cores: more of them save no time")
    lines += [f"       by {source}" for source in cost.sources]
    if cost.checkpoint is None:
        return [*lines, "disk   not known: none of these runs has its checkpoint any more"]
    end, most = (about_bytes(count) for count in cost.disk(plan.trials, plan.keep))
    kept = f"the {plan.keep} best stay" if plan.keep else "all stay; --keep K leaves the K best"
    checkpoints = f"checkpoints of {about_bytes(cost.checkpoint)}, of which {kept}"
    return [*lines, f"disk   about {end} at the end, {most} at most: {checkpoints}"]


def _trials(plan: Plan) -> Table:
    """Every trial with the settings that tell it from the others, in W&B's order."""
    names = varying(plan.sweep)
    table = Table(box=box.SIMPLE_HEAD)
    for heading in ("trial", *names, "run"):
        table.add_column(heading, justify="right" if heading == "trial" else "left", overflow="fold")
    for number, (point, name) in enumerate(list(zip(plan.points, plan.names, strict=True))[:MOST_ROWS]):
        table.add_row(str(number), *(escape(short(point[key])) for key in names), name)
    if (more := len(plan.points) - MOST_ROWS) > 0:
        table.add_row(f"+ {more}")
    return table


def _distributions(sweep: Sweep) -> Table:
    """What a Bayesian search chooses from."""
    table = Table(box=box.SIMPLE_HEAD)
    for heading in ("setting", "distribution", "values"):
        table.add_column(heading, overflow="fold")
    for parameter in sweep.parameters:
        table.add_row(parameter.name, parameter.distribution, _values(parameter))
    return table


def _values(parameter: Parameter) -> str:
    if parameter.values:
        return ", ".join(escape(short(value)) for value in parameter.values)
    if "uniform" in parameter.distribution and parameter.distribution not in EXPONENTS:
        return f"{short(parameter.low)} to {short(parameter.high)}"
    return f"{parameter.at(0.025):.3g} to {parameter.at(0.975):.3g} in 95 % of draws"
