"""A process that an agent started, through a launcher, is told when the agent ends. Both are pretended here."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.launch.agent_watch import AGENT_VARIABLE, end_with_agent
from tests import ROOT

pytestmark = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs Linux and its pidfd")

# What a W&B agent does, as far as its run can tell: it sets the variable and starts a command in a group of its own.
AGENT = """
import os, subprocess, sys, time
os.environ["WANDB_SWEEP_PARAM_PATH"] = "/somewhere/config-1.yaml"
subprocess.Popen(sys.argv[2:], process_group=0)
time.sleep(float(sys.argv[1]))
"""

# A shell that waits for its child, as launchers do.
LAUNCHER = ["sh", "-c", '"$@"; echo launcher >>ended', "sh"]

RUN = """
import os, signal, sys, time
from pathlib import Path
from harness.launch.agent_watch import end_with_agent

def told(signum, frame):
    with open("ended", "a") as file:
        file.write(f"run {signum}\\n")
    os._exit(0)

signal.signal(signal.SIGTERM, told)
while sys.argv[1] == "late" and not Path("gone").exists():
    time.sleep(0.02)
end_with_agent()
child = os.fork()
if child == 0:
    # Forked later, as the workers of a data loader are: nobody tells it anything.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(1))
    time.sleep(300)
Path("watching.tmp").write_text(str(child))
Path("watching.tmp").rename("watching")
time.sleep(300)
"""

Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts an agent that lives for `seconds`; its run looks for it at once, or when the file `gone` is there."""
    mark = f"TEST_MARK_{os.getpid()}_{time.monotonic_ns()}"
    agents: list[subprocess.Popen[bytes]] = []

    def start(seconds: float = 300, when: str = "at once") -> subprocess.Popen[bytes]:
        command = [*LAUNCHER, sys.executable, "-c", RUN, when]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), mark: "1"}
        agent = subprocess.Popen(
            [sys.executable, "-c", AGENT, str(seconds), *command],
            env=environment,
            cwd=tmp_path,
            start_new_session=True,
        )
        agents.append(agent)
        return agent

    yield start
    for entry in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark.encode() in entry.read_bytes():
                os.kill(int(entry.parent.name), signal.SIGKILL)
        except OSError:
            continue
    for agent in agents:
        agent.wait()


def text_of(path: Path, expected: str = "", seconds: float = 60) -> str:
    """The text of a file once it is there and holds what is expected."""
    deadline = time.monotonic() + seconds
    while not path.exists() or expected not in path.read_text():
        assert time.monotonic() < deadline, f"{path.name}: {path.read_text() if path.exists() else 'not there'}"
        time.sleep(0.02)
    return path.read_text()


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
def test_a_run_is_told_when_its_agent_ends(start: Start, tmp_path: Path, signum: int) -> None:
    agent = start()
    child = int(text_of(tmp_path / "watching"))
    assert not (tmp_path / "ended").exists()
    agent.send_signal(signum)
    assert text_of(tmp_path / "ended", "launcher") == "run 15\nlauncher\n"
    assert Path(f"/proc/{child}").exists(), "what the run had forked was told too"


@pytest.mark.skipif(os.getsid(1) == os.getsid(0), reason="init and this session cannot be told apart")
def test_a_run_whose_agent_is_gone_before_it_looks(start: Start, tmp_path: Path) -> None:
    agent = start(seconds=0, when="late")
    assert agent.wait(60) == 0
    (tmp_path / "gone").touch()
    assert text_of(tmp_path / "ended", "launcher") == "run 15\nlauncher\n"
    assert not (tmp_path / "watching").exists()


def test_without_an_agent_nothing_is_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    def unexpected(pid: int) -> int:
        raise AssertionError(f"watches {pid}")

    monkeypatch.delenv(AGENT_VARIABLE, raising=False)
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep")  # a sweep without W&B's agent
    monkeypatch.setattr(os, "pidfd_open", unexpected)
    end_with_agent()


def test_the_agent_is_the_first_ancestor_without_the_runs_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """This very process has it by now, but was not started with it: an agent would look the same."""
    watched: list[int] = []
    monkeypatch.setenv(AGENT_VARIABLE, "/somewhere/config-1.yaml")

    def watch(pid: int) -> int:
        watched.append(pid)
        raise PermissionError

    monkeypatch.setattr(os, "pidfd_open", watch)
    end_with_agent()
    assert watched == [os.getppid()]
