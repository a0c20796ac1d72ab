"""`harness sweep plan`: check a sweep file, list its trials, estimate their time and disk. Starts nothing."""

from __future__ import annotations

import math
import os
import shutil
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from harness.config import RunConfig
from harness.data.folder import find
from harness.errors import ConfigError
from harness.launch import count_gpus, told_to_use_cpu
from harness.sweep import estimate
from harness.sweep.command import launcher_words
from harness.sweep.estimate import Pace, Pictures, about_bytes, about_time
from harness.sweep.parameters import EXPONENTS
from harness.sweep.points import check_points, equal_points, probe_points
from harness.sweep.spec import Sweep
from harness.sweep.study import Search, number_of_trials, points_of
from reports.runs import read_runs

# Rows of the list of trials; what is beyond is counted.
MOST_ROWS = 200

# Text that is not for a terminal is not folded.
WIDE = 200


@dataclass(frozen=True)
class Cost:
    """What a sweep is estimated to take."""

    seconds: float  # with the workers there are
    trial_seconds: float  # of one trial, on average
    workers: int
    device: str  # "cpu" or "cuda"
    checkpoint: int | None  # bytes that the best weights of one trial take
    state: int  # bytes that an unfinished trial takes besides
    sources: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """A sweep that can be started: its trials, what they may cost, and what is worth knowing before."""

    sweep: Sweep
    count: int  # trials
    points: tuple[dict[str, Any], ...]  # their settings; none of a Bayesian search
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
    """What `harness sweep run` would do; ConfigError with all that would keep it from it.

    The pace is that of runs under `runs_dir`; where there are none of the kind, and with `probe`, it is measured.
    """
    search = Search(count, seed)
    total, points = number_of_trials(sweep, search), points_of(sweep, search)
    likely = points or probe_points(sweep)
    if problems := check_points(sweep, likely):
        raise ConfigError(f"{sweep.path}: {problem}" for problem in problems)
    configs = [sweep.config(point) for point in likely]
    _check_weights(configs)
    notes = _notes(sweep, configs, points)
    pictures = _pictures(configs, notes)
    cost = None
    if pictures:
        paces = _paces(configs, pictures, runs_dir, probe, notes)
        if len(paces) == len(configs):
            cost = _cost(configs, pictures, paces, total, workers)
            notes += _space(cost, runs_dir, total, keep)
    names = tuple(config.run_name for config in configs) if points else ()
    return Plan(sweep, total, tuple(points), names, cost, keep, tuple(notes))


def render(plan: Plan) -> str:
    """A plan as text for a terminal."""
    sweep = plan.sweep
    goal = "maximised" if sweep.metric.goal == "maximize" else "minimised"
    trials = f"{plan.count} trial" + "s" * (plan.count != 1)
    blocks = [
        f"{sweep.path}: no problems. {trials}, method {sweep.method}, {sweep.metric.name} {goal}.",
        _as_text(_trials(plan) if plan.points else _distributions(sweep)),
        *_cost_lines(plan),
        *(f"note   {note}" for note in plan.notes),
    ]
    return "\n".join(blocks)


def _check_weights(configs: Sequence[RunConfig]) -> None:
    """A weights file that is not there would end every trial that wants it."""
    problems = []
    for config in {config.weights: config for config in configs}.values():
        try:
            config.resolved()
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)


def _notes(sweep: Sweep, configs: Sequence[RunConfig], points: Sequence[Mapping[str, Any]]) -> list[str]:
    """What is allowed, and may still not be what was meant."""
    notes = []
    for parameter in sweep.parameters:
        if parameter.distribution in EXPONENTS:
            low, high = sorted((parameter.at(1e-9), parameter.at(1 - 1e-9)))
            notes.append(
                f"{parameter.name}: min and max of {parameter.distribution} are exponents of e, so values lie between "
                f"{low:.3g} and {high:.3g}. To give these instead, write {parameter.distribution}_values."
            )
    if sweep.method == "random" and (same := equal_points(sweep, points)):
        count = sum(len(numbers) - 1 for numbers in same)
        notes.append(f"{count} of the random trials repeat settings of another; W&B would do them, too.")
    epochs = max(config.epochs for config in configs)
    if sweep.early_terminate and sweep.early_terminate.bands[0] >= epochs:
        notes.append(
            f"early_terminate compares runs at epoch {sweep.early_terminate.bands[0]} first, and none trains for longer "
            f"than {epochs}: it stops nothing."
        )
    if any(word.startswith("--mixed_precision") for word in launcher_words(sweep.command)):
        notes.append(
            "--mixed_precision before ${program} is for W&B's agents alone. `- --precision=...` after ${program} holds "
            "for `harness sweep run`, too."
        )
    return notes


def _pictures(configs: Sequence[RunConfig], notes: list[str]) -> list[Pictures]:
    """How many pictures each run has; empty, with a note, where a folder is not there yet."""
    found: dict[tuple[str, int, float], Pictures] = {}
    for config in configs:
        key = (config.data, config.split_seed, config.split_fraction)
        if key in found:
            continue
        if not Path(config.data).expanduser().exists():
            notes.append(
                f"{config.data} is not there, so nothing is known of time and disk. (--data FOLDER after `--`)"
            )
            return []
        folder = find(config.data, seed=config.split_seed, split_fraction=config.split_fraction)
        found[key] = Pictures(*(len(split.files) for split in folder.splits), classes=len(folder.classes))
    return [found[config.data, config.split_seed, config.split_fraction] for config in configs]


def _paces(
    configs: Sequence[RunConfig], pictures: Sequence[Pictures], runs_dir: str | Path, probe: bool, notes: list[str]
) -> list[Pace]:
    """The pace of each run; shorter, with a note, where it is not known."""
    runs, device = read_runs(runs_dir), _device()
    known: dict[Any, Pace] = {}
    for config, counts in zip(configs, pictures, strict=True):
        key = _pace_key(config)
        if key in known:
            continue
        pace = estimate.pace_of_runs(runs, config, device, str(runs_dir))
        if pace is None and probe:
            from harness.sweep.probe import measure

            pace = measure(config, counts.classes)
        if pace is None:
            notes.append(f"No finished run of {config.model} in {runs_dir}, and no probe: time and disk are not known.")
            return []
        known[key] = pace
    return [known[_pace_key(config)] for config in configs]


def _pace_key(config: RunConfig) -> Any:
    """Runs with equal keys share one measurement: of one kind, with batch sizes of one power of two."""
    return estimate.kind(config.to_dict()), round(math.log2(config.batch_size))


def _cost(
    configs: Sequence[RunConfig], pictures: Sequence[Pictures], paces: Sequence[Pace], total: int, workers: int
) -> Cost:
    device = _device()
    seconds = [
        estimate.trial_seconds(config, counts, pace)
        for config, counts, pace in zip(configs, pictures, paces, strict=True)
    ]
    average = statistics.fmean(seconds)
    if len(seconds) != total:  # points that a search may choose, in place of those that it will
        seconds = [average] * total
    sizes = [pace.checkpoint for pace in paces if pace.checkpoint]
    largest = max(sizes, default=None)
    return Cost(
        seconds=estimate.sweep_seconds(seconds, workers, device),
        trial_seconds=average,
        workers=workers,
        device=device,
        checkpoint=largest,
        state=max(estimate.state_bytes(config, largest or 0) for config in configs),
        sources=tuple(dict.fromkeys(pace.source for pace in paces)),
    )


def _device() -> str:
    return "cuda" if count_gpus(os.environ) and not told_to_use_cpu(os.environ) else "cpu"


def _disk(cost: Cost, total: int, keep: int | None) -> tuple[int, int]:
    """Bytes at the end, and at most while trials run."""
    checkpoint = cost.checkpoint or 0
    running = min(cost.workers, total)
    kept = min(keep or total, total)
    return kept * checkpoint, min(kept + running, total) * checkpoint + running * cost.state


def _space(cost: Cost, runs_dir: str | Path, total: int, keep: int | None) -> list[str]:
    existing = next(path for path in (Path(runs_dir).resolve(), *Path(runs_dir).resolve().parents) if path.exists())
    free, needed = shutil.disk_usage(existing).free, _disk(cost, total, keep)[1]
    if needed < free:
        return []
    return [f"{existing} has {about_bytes(free).removeprefix('about ')} free, which is too little. Give --keep K."]


def _cost_lines(plan: Plan) -> list[str]:
    cost = plan.cost
    if cost is None:
        return []
    with_workers = f"with {cost.workers} worker" + "s" * (cost.workers != 1)
    less = ", less what early termination saves" if plan.sweep.early_terminate else ""
    lines = [f"time   {about_time(cost.seconds)} {with_workers}{less}; {about_time(cost.trial_seconds)} a trial"]
    if cost.workers > 1 and cost.device == "cpu":
        lines.append("       (on a CPU, workers share its cores: more of them save no time)")
    lines += [f"       from {source}" for source in cost.sources]
    if cost.checkpoint is None:
        return [*lines, "disk   not known: none of these runs has its checkpoint any more"]
    end, most = _disk(cost, plan.count, plan.keep)
    each = about_bytes(cost.checkpoint).removeprefix("about ")
    kept = f"the {plan.keep} best checkpoints" if plan.keep else "all checkpoints; --keep K leaves the K best"
    return [*lines, f"disk   {about_bytes(end)} at the end, {about_bytes(most)} at most: {each} a trial, {kept}"]


def _trials(plan: Plan) -> Table:
    varying = [parameter.name for parameter in plan.sweep.parameters if parameter.varies]
    table = Table(box=box.SIMPLE_HEAD)
    for heading in ("trial", *varying, "run"):
        table.add_column(heading, justify="right" if heading == "trial" else "left", overflow="fold")
    rows = zip(plan.points, plan.names, strict=True)
    for number, (point, name) in zip(range(MOST_ROWS), rows, strict=False):
        table.add_row(str(number), *(_short(point[key]) for key in varying), name)
    if (more := len(plan.points) - MOST_ROWS) > 0:
        table.add_row(f"+ {more}")
    return table


def _distributions(sweep: Sweep) -> Table:
    """What a Bayesian search chooses from."""
    table = Table(box=box.SIMPLE_HEAD)
    for heading in ("setting", "distribution", "values"):
        table.add_column(heading, overflow="fold")
    for parameter in sweep.parameters:
        if parameter.values:
            values = ", ".join(map(_short, parameter.values))
        else:
            values = f"{parameter.at(1e-6):.3g} to {parameter.at(1 - 1e-6):.3g}"
        table.add_row(parameter.name, parameter.distribution, values)
    return table


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _as_text(table: Table) -> str:
    console = Console()
    if not console.is_terminal:
        console.width = WIDE
    with console.capture() as captured:
        console.print(table)
    return captured.get().rstrip()
