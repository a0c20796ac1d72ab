"""Sweeps with the real `wandb sweep` and `wandb agent`, against a local server: to their end, or stopped."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.runs.folder import STATE
from harness.training.checkpoint import load_tensors
from tests.conftest import write_folder
from tests.helpers.waiting import wait_for
from tests.helpers.wandb_agents import ROOT, Agents, guide_script
from tests.helpers.wandb_server import WandbServer

pytestmark = pytest.mark.slow

ONE_PROCESS = ("accelerate", "launch", "--num_processes=1")
TWO_PROCESSES = ("${env}", "${interpreter}", "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")

# Seconds after which no process of a run may be left.
END_TIMEOUT = 10


@pytest.fixture
def server() -> Iterator[WandbServer]:
    with WandbServer() as server:
        yield server
    assert server.refused == []


def folder_of(agents: Agents, run_id: str) -> Path:
    [folder] = agents.folder.glob(f"runs/*-{run_id}")
    return folder


def summary_of(agents: Agents, run_id: str) -> dict[str, Any]:
    return json.loads((folder_of(agents, run_id) / "summary.json").read_text())


def rows_of(agents: Agents, run_id: str) -> list[dict[str, Any]]:
    """The rows that the run has logged so far."""
    files = list(agents.folder.glob(f"runs/*-{run_id}/metrics.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def steps(rows: list[dict[str, Any]]) -> list[int]:
    return [row["step"] for row in rows if "train/loss" in row]


def test_two_agents_run_a_grid_to_its_end(data_folder: Path, tmp_path: Path, server: WandbServer) -> None:
    """Through `accelerate launch`, at the same time, with HARNESS_SWEEP_ARGS overriding the file."""
    agents = Agents(server, tmp_path, HARNESS_SWEEP_ARGS=f"--data '{data_folder}' --epochs 1")
    launcher = ("accelerate", "launch", "--config_file", str(ROOT / "accelerate_config.yaml"))
    parameters = {"lr": {"values": [1e-3, 1e-2]}, "epochs": {"value": 3}, "augment": {"values": ["standard", "none"]}}
    sweep = agents.create(launcher, "--data=elsewhere", parameters=parameters, run_cap=3)
    try:
        # One of them is the installed program, in the batch script of the guide.
        script = tmp_path / "agents.sh"
        script.write_text(guide_script(f"{sweep.entity}/{sweep.project}/{sweep.id}"))
        started = [agents.start(["bash", str(script)]), agents.start()]
        assert [agent.wait(600) for agent in started] == [0, 0], agents.logs()
        assert wait_for(lambda: not agents.alive(), END_TIMEOUT), agents.alive()
    finally:
        agents.end()

    # Every point once, in W&B's order, by both agents.
    assert [(trial.point["augment"], trial.point["lr"]) for trial in sweep.trials.values()] == [
        ("standard", 1e-3),
        ("standard", 1e-2),
        ("none", 1e-3),
    ]
    assert list(server.runs) == list(sweep.trials)
    assert {trial.starts for trial in sweep.trials.values()} == {1}
    assert len(sweep.agents) == 2
    assert all("Agent received command: run" in path.read_text() for path in tmp_path.glob("agent-*.log"))

    for run_id, trial in sweep.trials.items():
        run, summary = server.runs[run_id], summary_of(agents, run_id)
        lr, augment = trial.point["lr"], trial.point["augment"]
        assert (run.sweep, run.entity, run.project, run.exit_code) == (sweep.id, "team", "zoo", 0)
        assert run.fields["displayName"] == f"augment={augment}_epochs=1_lr={lr:g}_s0"
        assert folder_of(agents, run_id).name == f"{run.fields['displayName']}-{run_id}"
        # W&B locks values of the sweep, so an overriding value has a separate key.
        assert {key: run.config[key] for key in ("lr", "augment", "epochs", "override/epochs", "data")} == {
            **trial.point,
            "override/epochs": 1,
            "data": str(data_folder),
        }
        # The metric is where W&B looks for it: in the summary, and in the history for early termination.
        [best] = [row for row in run.history if "best/val_f1" in row]
        assert best["best/val_f1"] == run.summary["best/val_f1"] == summary["best/val_f1"]
        assert (run.summary["state"], summary["state"]) == ("finished", "finished")
        assert "test/f1" in run.summary
        [model] = [artifact for artifact in server.artifacts if artifact.type == "model" and artifact.creator == run_id]
        assert model.aliases == {"best", "latest"}
        assert list(model.files) == ["best.safetensors"]
        assert {"figures/loss_curve", "figures/confusion_matrix", "test/predictions"} <= {
            key for row in run.history for key in row
        }
        assert any(name.startswith("media/images/figures/confusion_matrix") for name in run.files)
    output = agents.logs()
    assert output.count("--epochs is 1 by HARNESS_SWEEP_ARGS, in place of the sweep's 3") == 3
    # One of the first two runs decoded the images, for all runs.
    assert output.count("decoding images, once: done") == 1


@pytest.mark.parametrize(
    ("launcher", "by_hyperband", "agent_ends"),
    # What W&B's server decides, and how an agent ends by SIGTERM, does not depend on the launcher.
    [(ONE_PROCESS, True, ("SIGTERM", "Ctrl-C", "SIGKILL")), (TWO_PROCESSES, False, ("Ctrl-C", "SIGKILL"))],
    ids=["1 process", "2 processes"],
)
def test_a_run_is_stopped_by_the_server_or_with_its_agent(
    data_folder: Path,
    tmp_path: Path,
    server: WandbServer,
    launcher: tuple[str, ...],
    by_hyperband: bool,
    agent_ends: tuple[str, ...],
) -> None:
    """Two or three runs that would train forever, one after the other: how they end, and that no process is left."""
    agents = Agents(server, tmp_path, ACCELERATE_USE_CPU="true")
    sweep = agents.create(
        launcher,
        f"--data={data_folder}",
        "--epochs=100000",
        "--log-every=5",
        "--optimizer=sgd",
        parameters={"lr": {"values": [1e-3, *([1e-45] if by_hyperband else []), 1e-4]}},  # 1e-45 trains nothing
        metric={"name": "best/val_loss", "goal": "minimize"},
        **({"early_terminate": {"type": "hyperband", "max_iter": 9, "s": 1, "eta": 3}} if by_hyperband else {}),
    )
    *stopped, preempted = (f"{sweep.id}-{number:03}" for number in range(1, 3 + by_hyperband))
    button, hyperband = stopped[0], stopped[-1]

    def wait_until_it_trains(run_id: str) -> None:
        """Wait until the run has trained a few more epochs."""
        before = len(rows_of(agents, run_id))
        assert wait_for(lambda: len(rows_of(agents, run_id)) >= before + 8, 120), agents.logs()

    def wait_until_it_ends(run_id: str | None = None) -> None:
        assert wait_for(lambda: not agents.alive(run_id), END_TIMEOUT), agents.alive(run_id)

    def preempted_step() -> int:
        """The step at which the preempted run was saved."""
        run = server.runs[preempted]
        assert (run.state, run.exit_code, summary_of(agents, preempted)["state"]) == ("preempted", 143, "preempted")
        return saved_step(folder_of(agents, preempted))

    try:
        agent = agents.start()
        wait_until_it_trains(button)
        server.stop_asked.add(button)
        wait_until_it_ends(button)
        if by_hyperband:
            # The server prunes the run when the client has sent the values of the metric.
            assert wait_for(lambda: hyperband in server.stop_asked, 120), agents.logs()
            wait_until_it_ends(hyperband)
        for run_id in stopped:
            run, summary = server.runs[run_id], summary_of(agents, run_id)
            assert (run.state, run.preempting, run.summary["state"]) == ("finished", False, "stopped")
            assert (summary["state"], summary["reason"]) == ("stopped", "stopped in W&B, by hand or by its sweep")
            assert saved_step(folder_of(agents, run_id)) == rows_of(agents, run_id)[-1]["step"]
        assert server.operations.count("RunStoppedStatus") == len(stopped)

        saved: list[int] = []
        for end in agent_ends:
            agent = agents.start() if saved else agent
            wait_until_it_trains(preempted)
            match end:
                case "SIGTERM":
                    agent.terminate()
                case "Ctrl-C":
                    agent.send_signal(signal.SIGINT)  # the first one makes the agent wait for its run,
                    wait_until_it_trains(preempted)
                    agent.send_signal(signal.SIGINT)  # the second one ends the run
                case "SIGKILL":
                    agent.kill()
            wait_until_it_ends()
            assert agent.wait() == {"SIGTERM": -signal.SIGTERM, "Ctrl-C": 0, "SIGKILL": -signal.SIGKILL}[end]
            saved.append(preempted_step())
    finally:
        agents.end()

    starts = {run_id: trial.starts for run_id, trial in sweep.trials.items()}
    assert starts == {**dict.fromkeys(stopped, 1), preempted: len(agent_ends)}
    # The last run was resumed: no step is repeated or lost, on disk or in W&B.
    assert list(server.runs) == [*stopped, preempted]
    done = steps(rows_of(agents, preempted))
    assert done == sorted(set(done) | set(saved))
    assert done[-1] == saved[-1]
    assert set(range(5, done[-1], 5)) <= set(done)
    assert steps(server.runs[preempted].history) == done


def saved_step(folder: Path) -> int:
    _, metadata = load_tensors(folder / "checkpoints" / STATE)
    return metadata["progress"]["step"]


def test_infeasible_trials_do_not_end_an_agent_and_failures_do(
    data_folder: Path, tmp_path: Path, server: WandbServer
) -> None:
    broken = write_folder(tmp_path / "broken")
    (broken / "train" / "class 0" / "cut.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    agents = Agents(server, tmp_path)
    command = ("${env}", "${interpreter}")
    sweep = agents.create(
        command, f"--data={data_folder}", "--optimizer=sgd", "--epochs=2", parameters={"lr": {"value": 1}}
    )
    sweep.points = [
        *({"lr": 1e6}, {"lr": 1e-3, "data": str(broken)}),
        *({"lr": -1}, {"lr": 1e-3, "data": str(tmp_path / "nowhere")}, {"lr": 1e-3, "weights": "nothing"}),
        {"lr": 1e-3, "seed": 2},  # the agent has stopped by then
    ]
    try:
        agent = agents.start()
        assert agent.wait(250) == 0, agents.logs()
        assert not agents.alive()
    finally:
        agents.end()

    assert len(sweep.trials) == 5
    assert "Detected 3 failed runs" in agents.logs()
    infeasible = list(sweep.trials)[:2]
    assert list(server.runs) == infeasible  # the other trials failed before they opened a W&B run
    for run_id, reason in zip(infeasible, ("loss became", "cut.jpg"), strict=True):
        run, summary = server.runs[run_id], summary_of(agents, run_id)
        assert (run.state, run.summary["state"], summary["state"]) == ("finished", "infeasible", "infeasible")
        assert reason in summary["reason"]
        assert run.summary["reason"] == summary["reason"]
        assert f"Error: {summary['reason'].splitlines()[0]}" in agents.logs()
    assert "Traceback" not in agents.logs()
