"""The lease of a trial: which process of which machine works on it, and whether that process is still alive."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping
from typing import Any

from optuna.trial import FrozenTrial

from harness.launch import proc

HEARTBEAT_SECONDS = 30.0  # between two heartbeats
LEASE_TIMEOUT = 300.0  # seconds without a heartbeat after which another machine may claim the trial
# Seconds that a claimed trial may be without a lease; then the worker that claimed it is dead.
CLAIM_TIMEOUT = 5.0


def new_lease() -> dict[str, Any]:
    """A lease of this process, with the time of its heartbeat: now."""
    pid = os.getpid()
    return {"host": platform.node(), "pid": pid, "born": _start_time(pid), "seen": time.time()}


def is_abandoned(trial: FrozenTrial) -> bool:
    """Whether no worker is left for a running trial."""
    if "owner" not in trial.user_attrs:
        # The worker that claimed it is about to write its lease, or was killed before it could.
        return trial.datetime_start is None or time.time() - trial.datetime_start.timestamp() > CLAIM_TIMEOUT
    lease = trial.user_attrs["owner"]
    if lease is None:
        return True  # released
    if lease["host"] == platform.node():
        return _start_time(lease["pid"]) != lease["born"]
    return time.time() - lease["seen"] > LEASE_TIMEOUT


def is_ours(lease: Mapping[str, Any] | None) -> bool:
    """Whether this process holds the lease."""
    ours = new_lease()
    return lease is not None and all(lease[key] == ours[key] for key in ("host", "pid", "born"))


def _start_time(pid: int) -> str | None:
    """When a process started, in clock ticks since boot; None if it has ended. Process ids are used again."""
    fields = proc.fields(pid)
    return fields[19] if fields else None  # starttime, field 22 (proc_pid_stat(5))
