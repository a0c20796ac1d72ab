"""Who works on a trial: a process of some machine, as it signs in the trial_queue, and whether it is still there."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping
from typing import Any

from optuna.trial import FrozenTrial

from harness.launch import proc

# Seconds without a heartbeat after which a worker on another machine loses its trial.
HEARTBEAT_SECONDS = 30.0
LEASE_TIMEOUT = 300.0
# Seconds a claimed trial may stay without its worker's name; after that its worker is dead.
CLAIM_TIMEOUT = 5.0


def me() -> dict[str, Any]:
    """The signature of this process."""
    pid = os.getpid()
    return {"host": platform.node(), "pid": pid, "born": _born(pid), "seen": time.time()}


def is_abandoned(trial: FrozenTrial) -> bool:
    """Whether nobody works on a running trial any more."""
    if "owner" not in trial.user_attrs:
        # Its taker is about to sign, or was killed before it could.
        return trial.datetime_start is None or time.time() - trial.datetime_start.timestamp() > CLAIM_TIMEOUT
    owner = trial.user_attrs["owner"]
    if owner is None:
        return True  # given back
    if owner["host"] == platform.node():
        return _born(owner["pid"]) != owner["born"]
    return time.time() - owner["seen"] > LEASE_TIMEOUT


def is_mine(owner: Mapping[str, Any] | None) -> bool:
    """Whether a signature is that of this process, whenever it was made."""
    mine = me()
    return owner is not None and all(owner[key] == mine[key] for key in ("host", "pid", "born"))


def _born(pid: int) -> str | None:
    """When a process began, which tells it from a later one of the same number; None when it is gone."""
    found = proc.fields(pid)
    return found[19] if found else None  # starttime, field 22
