"""The stand-in server: W&B's own conformance check passes against it, and its controller does what W&B's does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helpers.wandb_objects import Run
from tests.helpers.wandb_server import API_KEY, Sweep, WandbServer

# `wandb verify` with agents that ask for work more often than every 5 s.
VERIFY = """
import sys
from wandb.agents import pyagent
pyagent.Agent.HEARTBEAT_SLEEP_SECONDS = 0.1
from wandb.cli.cli import cli
cli(["verify", "--host", sys.argv[1]])
"""

FUNCTIONAL = (
    "Checking if logged in",
    "Checking signed URL upload",
    "Checking ability to send large payloads through proxy",
    "Checking wandb package version is up to date",
    "Checking logged metrics, saving and downloading a file",
    "Checking artifact save and download workflows",
    "Checking sweep creation and agent execution",
)


@pytest.fixture
def server() -> Iterator[WandbServer]:
    with WandbServer() as server:
        yield server


@pytest.mark.slow
def test_wandbs_own_check_of_a_server_passes(server: WandbServer, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    environment |= {"WANDB_API_KEY": API_KEY, "WANDB_ERROR_REPORTING": "0", "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", VERIFY, server.url], env=environment, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert server.refused == []
    results = [line.split("...", 1)[0] for line in done.stdout.splitlines() if line.endswith("✅")]
    assert results == list(FUNCTIONAL)
    # Warnings that a server without encryption deserves, and no other complaint.
    refused = [line.split("...", 1)[0] for line in done.stdout.splitlines() if line.endswith("❌")]
    assert refused == [
        "Checking requests to base url",
        "Checking requests made over signed URLs",
        "Checking CORs configuration of the bucket",
    ]

    [sweep] = server.sweeps.values()
    scores = {(run.config["x"], run.config["y"]): run.summary["score"] for run in server.runs.values() if run.sweep}
    assert [(trial.point["x"], trial.point["y"]) for trial in sweep.trials.values()] == list(scores)
    assert list(scores) == [(x, y) for x in (0.01, 0.05, 0.1) for y in (1, 2, 3)]
    assert all(score == pytest.approx(x**3 + y) for (x, y), score in scores.items())


def create(server: WandbServer, **config: Any) -> Sweep:
    content = {"method": "grid", "program": "train.py", "parameters": {"b": {"values": [1, 2]}, "a": {"value": 3}}}
    variables = {"config": yaml.safe_dump(content | config), "entityName": "team", "projectName": "zoo"}
    ask(server, "UpsertSweep", **variables)
    return list(server.sweeps.values())[-1]


def ask(server: WandbServer, operation: str, **variables: Any) -> dict[str, Any]:
    answer = server.graphql(operation, variables)
    assert answer is not None
    return answer


def new_agent(server: WandbServer, sweep: Sweep) -> str:
    return ask(server, "CreateAgent", sweep=sweep.id, host="here")["createAgent"]["agent"]["id"]


def heartbeat(server: WandbServer, agent: str, *running: str) -> list[tuple[str, str | None]]:
    answer = ask(server, "Heartbeat", id=agent, metrics="{}", runState=json.dumps(dict.fromkeys(running, True)))
    commands = json.loads(answer["agentHeartbeat"]["commands"])
    return [(command["type"], command.get("run_id")) for command in commands]


def log(server: WandbServer, run_id: str, sweep: Sweep, *values: float, **ending: Any) -> Run:
    """A run's first words, and rows of its metric."""
    ask(server, "UpsertBucket", name=run_id, entity="team", project="zoo", sweep=sweep.id)
    lines = [json.dumps({"_step": step, "loss": value}) for step, value in enumerate(values)]
    server.file_stream(run_id, {"files": {"wandb-history.jsonl": {"offset": 0, "content": lines}}, **ending})
    return server.runs[run_id]


def test_a_grid_is_given_out_in_wandbs_order_once(server: WandbServer) -> None:
    parameters = {"lr": {"values": [1, 2]}, "batch": {"values": [16, 64]}, "augment": {"value": "none"}}
    sweep = create(server, parameters=parameters)
    assert [tuple(point.values()) for point in sweep.points] == [
        ("none", 16, 1),
        ("none", 16, 2),
        ("none", 64, 1),
        ("none", 64, 2),
    ]
    first, second = new_agent(server, sweep), new_agent(server, sweep)
    [(kind, one)] = heartbeat(server, first)
    [(_, two)] = heartbeat(server, second)
    assert (kind, one != two) == ("run", True)
    assert heartbeat(server, first, str(one)) == []  # one at a time
    for run_id in (one, two):
        log(server, str(run_id), sweep, complete=True, exitcode=0)
    [(_, three)] = heartbeat(server, first)
    [(_, four)] = heartbeat(server, second)
    assert list(sweep.trials) == [one, two, three, four]
    log(server, str(three), sweep, complete=True, exitcode=1)
    assert heartbeat(server, first) == []  # the other run may yet be preempted
    assert heartbeat(server, second) == [("exit", None)]  # the second agent saw its run end without a word
    assert heartbeat(server, first) == [("exit", None)]


@pytest.mark.parametrize(
    ("ending", "again"),
    [
        ({"preempting": True, "complete": True, "exitcode": 143}, True),
        ({"preempting": True, "complete": True, "exitcode": 0}, False),
        ({"complete": True, "exitcode": 143}, False),
    ],
)
def test_a_preempted_run_is_given_out_again(server: WandbServer, ending: dict[str, Any], again: bool) -> None:
    sweep = create(server, parameters={"a": {"value": 1}})
    agent = new_agent(server, sweep)
    [(_, run_id)] = heartbeat(server, agent)
    log(server, str(run_id), sweep, 1.0, **ending)
    assert heartbeat(server, new_agent(server, sweep)) == ([("resume", run_id)] if again else [("exit", None)])


def test_a_run_whose_button_was_pressed_is_stopped_and_not_given_out_again(server: WandbServer) -> None:
    sweep = create(server)
    agent = new_agent(server, sweep)
    [(_, run_id)] = heartbeat(server, agent)
    assert run_id is not None
    log(server, run_id, sweep, 1.0)
    server.stop_asked.add(run_id)
    assert heartbeat(server, agent, run_id) == [("stop", run_id)]
    assert server.file_stream(run_id, {}) == {"stopped": True}
    stopped = ask(server, "RunStoppedStatus", projectName="zoo", entityName="team", runId=run_id)
    assert stopped == {"project": {"run": {"stopped": True}}}
    log(server, run_id, sweep, 1.0, preempting=True, complete=True, exitcode=143)
    [(kind, other)] = heartbeat(server, agent)
    assert (kind, other == run_id) == ("run", False)


@pytest.mark.parametrize(
    ("rule", "curves", "stopped"),
    [
        ({"min_iter": 2, "eta": 3}, [[5, 1], [5, 4], [5, 2]], [1]),
        ({"min_iter": 3, "eta": 3}, [[5, 1], [5, 4], [5, 2]], []),  # none has got that far
        ({"min_iter": 1, "eta": 3}, [[2, 1, 3], [1, 4, 4], [5, 6, 5]], [2]),  # the best so far counts
        ({"min_iter": 1, "eta": 3, "strict": True}, [[2, 1, 3], [1, 5, 4], [5, 2, 2]], [1]),  # what it has at the band
        ({"max_iter": 9, "s": 2, "eta": 3}, [[2, 1], [1, 4], [5, 3]], [2]),  # bands 1 and 3
        ({"min_iter": 1, "eta": 5}, [[2], [1], [5]], [0, 2]),
    ],
)
def test_hyperband_stops_what_was_never_among_the_best(
    server: WandbServer, rule: dict[str, Any], curves: list[list[float]], stopped: list[int]
) -> None:
    early = {"type": "hyperband", **rule}
    metric = {"name": "loss", "goal": "minimize"}
    sweep = create(server, parameters={"a": {"values": [1, 2, 3]}}, metric=metric, early_terminate=early)
    agents = [new_agent(server, sweep) for _ in curves]
    given = [heartbeat(server, agent)[0][1] for agent in agents]
    for run_id, curve in zip(given, curves, strict=True):
        log(server, str(run_id), sweep, *curve)
    answers = [heartbeat(server, agent, str(run_id)) for agent, run_id in zip(agents, given, strict=True)]
    assert [index for index, answer in enumerate(answers) if answer] == stopped
    assert [answer for answer in answers if answer] == [[("stop", given[index])] for index in stopped]


@pytest.mark.parametrize(
    "change",
    [{"method": "random"}, {"parameters": {"a": {"min": 0, "max": 1}}}],
    ids=["another method", "a range"],
)
def test_what_the_controller_cannot_do_is_refused(server: WandbServer, change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="grid"):
        create(server, **change)


def test_requests_that_the_server_does_not_know_are_refused(server: WandbServer) -> None:
    requests = {
        "/graphql": {"query": "query NewsOfTomorrow { news }", "variables": {}},
        "/graphql?": {},
        "/somewhere": {},
    }
    for path, body in requests.items():
        request = urllib.request.Request(server.url + path, json.dumps(body).encode())
        with pytest.raises(urllib.error.HTTPError, match="400"):
            urllib.request.urlopen(request)
    with pytest.raises(urllib.error.HTTPError, match="400"):
        urllib.request.urlopen(server.url + "/download/0/nothing")
    assert len(server.refused) == 4
    assert "NewsOfTomorrow" in server.refused[0]
