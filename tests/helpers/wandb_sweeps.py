"""Sweeps at the stand-in server: W&B's controller, as far as `wandb sweep` and `wandb agent` can tell.

A grid is worked through in W&B's order, one run at a time per agent. A run that marked itself as preempting and then
failed is given out once more, as `resume`; one whose stop button was pressed, or that hyperband gives up, is stopped.
An agent is asked to exit when every run has ended.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from typing import TYPE_CHECKING, Any

import yaml

from tests.helpers.wandb_objects import ENTITY, NOW, Run, name_in, opaque_id, project_node

if TYPE_CHECKING:
    from tests.helpers.wandb_server import Operation, WandbServer


@dataclasses.dataclass
class Trial:
    """One point of a sweep, as it was given out."""

    run_id: str
    point: dict[str, Any]
    agent: str | None  # that has it now; None when its agent has seen it end
    starts: int = 1


@dataclasses.dataclass
class Sweep:
    id: str
    entity: str
    project: str
    config: dict[str, Any]
    points: list[dict[str, Any]]
    trials: dict[str, Trial] = dataclasses.field(default_factory=dict)  # by run id, in order
    agents: list[str] = dataclasses.field(default_factory=list)


def upsert(server: WandbServer, variables: dict[str, Any]) -> dict[str, Any]:
    if variables.get("id") or variables.get("controller") or variables.get("scheduler"):
        raise ValueError("only new sweeps, run by the server itself")
    config = yaml.safe_load(variables["config"])
    sweep = Sweep(
        id=f"sweep{len(server.sweeps) + 1:03}",
        entity=variables.get("entityName") or ENTITY,
        project=variables.get("projectName") or "uncategorized",
        config=config,
        points=grid(config)[: config.get("run_cap")],
    )
    server.sweeps[sweep.id] = sweep
    node = {"id": opaque_id("Sweep", sweep.id), "name": sweep.id, "project": project_node(sweep.entity, sweep.project)}
    return {"upsertSweep": {"sweep": node, "configValidationWarnings": []}}


def with_runs(server: WandbServer, variables: dict[str, Any]) -> dict[str, Any]:
    sweep = server.sweeps.get(variables["sweep"])
    if sweep is None or variables.get("specs") != "{}":
        return {"project": None}
    nodes = [_run_node(server, server.runs[name]) for name in sweep.trials if name in server.runs]
    page = {
        "id": opaque_id("Sweep", sweep.id),
        "name": sweep.id,
        "method": sweep.config["method"],
        "state": "RUNNING",
        "description": sweep.config.get("description"),
        "config": yaml.safe_dump(sweep.config),
        "createdAt": NOW,
        "heartbeatAt": NOW,
        "updatedAt": NOW,
        "earlyStopJobRunning": False,
        "bestLoss": None,
        "controller": None,
        "scheduler": None,
        "runs": {"edges": [{"node": node} for node in nodes]},
    }
    return {"project": {"sweep": page}}


def create_agent(server: WandbServer, variables: dict[str, Any]) -> dict[str, Any]:
    sweep = server.sweeps[variables["sweep"]]
    agent = opaque_id("Agent", f"{sweep.id}/{len(sweep.agents)}")
    sweep.agents.append(agent)
    return {"createAgent": {"agent": {"id": agent}}}


def heartbeat(server: WandbServer, variables: dict[str, Any]) -> dict[str, Any]:
    agent = variables["id"]
    sweep = server.sweeps[name_in(agent).split("/")[0]]
    running = {name for name, alive in json.loads(variables["runState"]).items() if alive}
    for trial in sweep.trials.values():
        if trial.agent == agent and trial.run_id not in running:
            trial.agent = None
    server.stop_asked |= given_up(server, sweep)
    if running:
        commands = [{"type": "stop", "run_id": name} for name in sorted(running & server.stop_asked)]
    else:
        commands = _next(server, sweep, agent)
    return {"agentHeartbeat": {"agent": {"id": agent}, "commands": json.dumps(commands)}}


def grid(config: dict[str, Any]) -> list[dict[str, Any]]:
    """Every combination; names in alphabetical order, the last of them changes fastest."""
    if config["method"] != "grid":
        raise ValueError(f"method {config['method']}: only a grid is worked through here")
    choices = {name: _choices(name, config["parameters"][name]) for name in sorted(config["parameters"])}
    return [dict(zip(choices, values, strict=True)) for values in itertools.product(*choices.values())]


def _choices(name: str, parameter: dict[str, Any]) -> list[Any]:
    if "values" in parameter:
        return parameter["values"]
    if "value" in parameter:
        return [parameter["value"]]
    raise ValueError(f"parameter {name} of a grid: {parameter}")


def given_up(server: WandbServer, sweep: Sweep) -> set[str]:
    """Running runs that hyperband stops: at the last band they reached, others were better than they have ever been.

    Bands count logged values of the metric. At each, one run of `eta` may continue.
    """
    rule = sweep.config.get("early_terminate")
    if rule is None:
        return set()
    metric, eta = sweep.config["metric"], rule.get("eta", 3)
    sign = -1 if metric["goal"] == "maximize" else 1
    curves = {
        name: [sign * row[metric["name"]] for row in server.runs[name].history if metric["name"] in row]
        for name in sweep.trials
        if name in server.runs
    }
    curves = {name: [value for value in curve if math.isfinite(value)] for name, curve in curves.items()}
    longest = max((len(curve) for curve in curves.values()), default=0)
    if "max_iter" in rule:
        bands = sorted(int(rule["max_iter"] / eta**power) for power in range(1, rule["s"] + 1))
    else:
        bands = [int(rule["min_iter"] * eta**power) for power in range(longest + 1)]
    found = set()
    for name, curve in curves.items():
        reached = [band for band in bands if 1 <= band <= len(curve)]
        if reached and server.runs[name].state == "running":
            at_band = sorted(other[reached[-1] - 1] for other in curves.values() if len(other) >= reached[-1])
            threshold = at_band[int(len(at_band) / eta)]
            if (curve[reached[-1] - 1] if rule.get("strict") else min(curve)) > threshold:
                found.add(name)
    return found


def _next(server: WandbServer, sweep: Sweep, agent: str) -> list[dict[str, Any]]:
    """What an agent that runs nothing is to do."""
    for trial in sweep.trials.values():
        run = server.runs.get(trial.run_id)
        if run is not None and _is_wanted_again(server, run):
            run.preempting, run.exit_code = False, None
            trial.agent, trial.starts = agent, trial.starts + 1
            return [_command("resume", sweep, trial)]
    if len(sweep.trials) < len(sweep.points):
        number = len(sweep.trials)
        trial = Trial(f"{sweep.id}-{number + 1:03}", sweep.points[number], agent)
        sweep.trials[trial.run_id] = trial
        return [_command("run", sweep, trial)]
    return [{"type": "exit"}] if all(_is_over(server, trial) for trial in sweep.trials.values()) else []


def _command(kind: str, sweep: Sweep, trial: Trial) -> dict[str, Any]:
    values = {name: {"value": value} for name, value in trial.point.items()}
    return {"type": kind, "run_id": trial.run_id, "args": values, "program": sweep.config.get("program")}


def _is_wanted_again(server: WandbServer, run: Run) -> bool:
    return run.state == "preempted" and run.name not in server.stop_asked


def _is_over(server: WandbServer, trial: Trial) -> bool:
    """It said how it ended, or its agent saw it end without a word."""
    run = server.runs.get(trial.run_id)
    if run is not None and run.exit_code is not None:
        return not _is_wanted_again(server, run)
    return trial.agent is None


def _run_node(server: WandbServer, run: Run) -> dict[str, Any]:
    return {
        "name": run.name,
        "state": run.state,
        "config": run.fields.get("config") or "{}",
        "exitcode": run.exit_code,
        "heartbeatAt": NOW,
        "shouldStop": run.name in server.stop_asked,
        "failed": run.state == "failed",
        "stopped": run.name in server.stop_asked,
        "running": run.state == "running",
        "summaryMetrics": json.dumps(run.summary),
        "sampledHistory": [],
    }


OPERATIONS: dict[str, Operation] = {
    "UpsertSweep": upsert,
    "SweepWithRuns": with_runs,
    "CreateAgent": create_agent,
    "Heartbeat": heartbeat,
}
