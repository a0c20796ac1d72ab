"""The real `wandb sweep` and `wandb agent`, started against the stand-in server, and what is left of them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from tests import ROOT
from tests.helpers.programs import write_accelerate
from tests.helpers.wandb_server import API_KEY, Sweep, WandbServer

RUN = ROOT / "harness" / "run.py"

# The settings of tests.test_train.settings: 21 images of 32 pixels in batches of 5.
TINY = (
    *("--recipe=study", "--model=vit_demo", "--weights=none", "--image-size=32", "--crop-pct=1", "--batch-size=5"),
    *("--threads=1", "--explain=none"),
)

# An agent asks its server every 5 s, and takes three failures in its first minute for a program that is broken.
# On a slow machine a minute may be too short for three; tests cannot wait for the rest.
IMPATIENT = """
from wandb import wandb_agent
wandb_agent.Agent.POLL_INTERVAL = 0.3
wandb_agent.Agent.FLAPPING_MAX_SECONDS = 3600
from wandb.cli.cli import cli
cli(prog_name="wandb")
"""


GUIDE = ROOT / "docs" / "guides" / "several-gpus-and-slurm.md"


def guide_script(agent: str) -> str:
    """The batch script of the guide that starts an agent, with the path of a sweep in place of ENTITY/PROJECT/ID."""
    [script] = [block for block in re.findall(r"```bash\n(.*?)```", GUIDE.read_text(), re.S) if "wandb agent" in block]
    return script.replace("ENTITY/PROJECT/ID", agent)


class Agents:
    """Agents that share a folder and a sweep; to be closed with `end`, which kills those that still run."""

    def __init__(self, server: WandbServer, folder: Path, **environment: str) -> None:
        self.server, self.folder = server, folder
        self.mark = f"TEST_MARK_{os.getpid()}_{time.monotonic_ns()}"
        programs = (write_accelerate(folder / "bin"), Path(sys.executable).parent, os.environ["PATH"])
        kept = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
        self.environment = {
            **kept,
            "PATH": os.pathsep.join(map(str, programs)),
            "WANDB_BASE_URL": server.url,
            "WANDB_API_KEY": API_KEY,
            "WANDB_ERROR_REPORTING": "0",
            # Seconds between two of the client's messages, which hyperband reads; 15 otherwise.
            "WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL": "1",
            self.mark: "1",
            **environment,
        }
        self.sweep: Sweep
        self._started: list[subprocess.Popen[bytes]] = []

    def create(self, launcher: Sequence[str], *words: str, parameters: dict[str, Any], **keys: Any) -> Sweep:
        """What `wandb sweep FILE` makes of a grid whose command is the launcher, these words and the values."""
        content = {
            "program": str(RUN),
            "method": "grid",
            "metric": {"name": "best/val_f1", "goal": "maximize"},
            "parameters": parameters,
            "command": [*launcher, "${program}", *TINY, *words, "${args}"],
        }
        (self.folder / "sweep.yaml").write_text(yaml.safe_dump(content | keys))
        command = [sys.executable, "-m", "wandb", "sweep", "--project=zoo", "sweep.yaml"]
        subprocess.run(command, env=self.environment, cwd=self.folder, check=True, capture_output=True, timeout=200)
        self.sweep = list(self.server.sweeps.values())[-1]
        return self.sweep

    def start(self, program: Sequence[str] = (sys.executable, "-c", IMPATIENT)) -> subprocess.Popen[bytes]:
        """An agent as a terminal would start it: in a separate session, and ended by Ctrl-C."""
        with (self.folder / f"agent-{len(self._started)}.log").open("w") as log:
            agent = subprocess.Popen(
                [*program, "agent", f"{self.sweep.entity}/{self.sweep.project}/{self.sweep.id}"],
                env=self.environment,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
            )
        self._started.append(agent)
        return agent

    def logs(self) -> str:
        return "\n".join(path.read_text() for path in sorted(self.folder.glob("agent-*.log")))

    def alive(self, run_id: str | None = None) -> list[tuple[int, str]]:
        """Processes of all agents, or those of one run: launchers, trainers and what wandb starts for them."""
        found = []
        agents = {agent.pid for agent in self._started}
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                environment = (entry / "environ").read_bytes()
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
            except OSError:
                continue
            of_run = f"WANDB_RUN_ID={run_id}\0".encode() in environment
            # An agent's own service inherits the id of the last run that the agent started.
            of_run &= not ("wandb-core" in command and int(parent) in agents)
            if state not in "ZX" and self.mark.encode() in environment and (run_id is None or of_run):
                found.append((int(entry.name), command[:120]))
        return found

    def end(self) -> None:
        for pid, _ in self.alive():
            os.kill(pid, signal.SIGKILL)
        for agent in self._started:
            agent.wait()
