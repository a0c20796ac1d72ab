"""The lease of a trial: which runner works on it, and whether that runner is still alive.

A runner has a random identity. A host name and a process id are no identity: two containers may share both.
"""

from __future__ import annotations

import dataclasses
import os
import platform
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial

from harness.launch import proc

HEARTBEAT_SECONDS = 30.0  # between two heartbeats
LEASE_TIMEOUT = 300.0  # seconds without a heartbeat after which another runner may claim the trial
# Seconds that a claimed trial may be without a lease; then the runner that claimed it is dead.
CLAIM_TIMEOUT = 5.0


def new_lease(runner: str, beat: int) -> dict[str, Any]:
    """A lease of this process. `beat` grows with each heartbeat; host and time are for people."""
    pid = os.getpid()
    process = {"pid": pid, "born": _start_time(pid), "machine": machine()}
    return {"runner": runner, "beat": beat, "host": platform.node(), "seen": time.time(), **process}


def machine() -> str | None:
    """Where a process id means what it means here: this boot of the kernel and this PID namespace; None if unknown."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return None


@dataclasses.dataclass
class _Observed:
    """The newest heartbeat of a lease that was seen, and the time since."""

    heartbeat: tuple[Any, Any]
    at: float  # when it was looked at last
    silent: float = 0.0  # seconds without a new heartbeat
    changed: bool = False  # whether a heartbeat came while this process watched


class LeaseWatch:
    """How one process judges the leases of all others.

    It compares no clocks of two machines: a lease expires if its heartbeat does not change for LEASE_TIMEOUT on this
    process's own clock. For a runner that this process can look up, the answer comes at once.
    """

    def __init__(self, runner: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.runner, self._clock = runner, clock
        self._observed: dict[int, _Observed] = {}  # by trial number

    def is_ours(self, lease: Mapping[str, Any] | None) -> bool:
        return lease is not None and lease.get("runner") == self.runner

    def is_abandoned(self, trial: FrozenTrial) -> bool:
        """Whether no runner is left for a running trial."""
        if "owner" not in trial.user_attrs:
            # The runner that claimed it is about to write its lease, or was killed before it could.
            return self._observe(trial.number, (None, None)).silent > CLAIM_TIMEOUT
        lease = trial.user_attrs["owner"]
        if lease is None:
            return True  # released
        if self.is_ours(lease):
            return False
        if (alive := _lives_here(lease)) is not None:
            return not alive
        return self._observe(trial.number, _heartbeat(lease)).silent > LEASE_TIMEOUT

    def is_certain(self, trial: FrozenTrial) -> bool:
        """Whether a runner is known to work on a running trial, so that its next heartbeat need not be awaited."""
        lease = trial.user_attrs.get("owner")
        if lease is None:
            return False
        if self.is_ours(lease) or _lives_here(lease):
            return True
        observed = self._observe(trial.number, _heartbeat(lease))
        return observed.changed and observed.silent < LEASE_TIMEOUT

    def _observe(self, number: int, heartbeat: tuple[Any, Any]) -> _Observed:
        now = self._clock()
        before = self._observed.get(number)
        if before is None or before.heartbeat[0] != heartbeat[0]:
            self._observed[number] = _Observed(heartbeat, now)
        elif before.heartbeat != heartbeat:
            self._observed[number] = _Observed(heartbeat, now, changed=True)
        else:
            # A long time between two looks counts as one heartbeat: the ledger may have been away, for both machines.
            before.silent += min(now - before.at, HEARTBEAT_SECONDS)
            before.at = now
        return self._observed[number]


def _heartbeat(lease: Mapping[str, Any]) -> tuple[Any, Any]:
    """What changes with a heartbeat. Leases of earlier versions have no counter, but the time of their heartbeat."""
    if "runner" in lease:
        return lease["runner"], lease["beat"]
    return (lease.get("host"), lease.get("pid"), lease.get("born")), lease.get("seen")


def _lives_here(lease: Mapping[str, Any]) -> bool | None:
    """Whether the runner is alive; None if it cannot be looked up from here."""
    if "runner" not in lease:  # of an earlier version, which told machines apart by their host names
        return _start_time(lease["pid"]) == lease["born"] if lease["host"] == platform.node() else None
    if lease["machine"] is None or lease["machine"] != machine():
        return None
    return _start_time(lease["pid"]) == lease["born"]


def _start_time(pid: int) -> str | None:
    """When a process started, in clock ticks since boot; None if it has ended. Process ids are used again."""
    fields = proc.fields(pid)
    return fields[19] if fields and fields[0] not in "ZX" else None  # starttime, field 22 (proc_pid_stat(5))
