"""Stops a run when the W&B agent that started it ends, however the agent ends.

An agent starts its command in a separate process group and sends no signal when it is killed. The launchers between
the agent and a run stay alive, so a run that watched its parent alone would keep training. Importing this is cheap.
"""

from __future__ import annotations

import os
import select
import signal
import threading
from pathlib import Path

from harness.launch import proc

# An agent sets it for each run, to a file of that run; no other starter of runs does.
AGENT_VARIABLE = "WANDB_SWEEP_PARAM_PATH"


def end_with_agent() -> None:
    """Have this process sent SIGTERM when the W&B agent that it descends from ends. Linux only; else does nothing."""
    if AGENT_VARIABLE not in os.environ or not hasattr(os, "pidfd_open"):
        return
    child = _eldest()
    agent = _parent(child)
    if agent == 0:
        return  # outside of this container
    try:
        ended = os.pidfd_open(agent)
    except ProcessLookupError:
        ended = None
    except OSError:
        return  # a kernel before Linux 5.3, or a sandbox
    if ended is None or _parent(child) != agent or _is_foster_parent(agent, child):
        os.kill(os.getpid(), signal.SIGTERM)
        return
    threading.Thread(target=_signal_after, args=(ended,), name="agent-watch", daemon=True).start()


def _eldest() -> int:
    """The process that the agent started: the furthest ancestor whose environment began with this run's variable."""
    mark = f"{AGENT_VARIABLE}={os.environ[AGENT_VARIABLE]}".encode()
    pid = os.getpid()
    while (parent := _parent(pid)) and mark in _environment(parent):
        pid = parent
    return pid


def _parent(pid: int) -> int:
    """Its process id; 0 for one that cannot be seen from here, or when `pid` has ended."""
    found = proc.fields(pid)
    return int(found[1]) if found else 0


def _environment(pid: int) -> list[bytes]:
    """What the process was started with; nothing where that may not be read."""
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []


def _is_foster_parent(parent: int, child: int) -> bool:
    """Whether init has taken the child over. An agent that is init itself, as in a container, shares its session."""
    try:
        return parent == 1 and os.getsid(parent) != os.getsid(child)
    except OSError:
        return False


def _signal_after(process: int) -> None:
    poll = select.poll()
    poll.register(process, select.POLLIN)  # readable once the process has ended (pidfd_open(2))
    poll.poll()
    os.kill(os.getpid(), signal.SIGTERM)
