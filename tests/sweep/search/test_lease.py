"""Leases: which runner works on a trial, judged without the clocks, host names and process ids of other machines."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from harness.sweep.search import lease as lease_module
from harness.sweep.search.lease import CLAIM_TIMEOUT, HEARTBEAT_SECONDS, LEASE_TIMEOUT, LeaseWatch, machine, new_lease
from tests.helpers.sweeping import fork


class Clock:
    """A monotonic clock that a test sets."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def trial_of(lease: Any = "none") -> FrozenTrial:
    trial = optuna.trial.create_trial(state=TrialState.RUNNING)
    if lease != "none":
        trial.user_attrs["owner"] = lease
    return trial


def elsewhere(beat: int, **changes: Any) -> dict[str, Any]:
    """A lease of a runner on another machine that has this one's host name, and our process id there."""
    return new_lease("another", beat) | {"machine": "another boot/1"} | changes


def seconds_until_abandoned(watch: LeaseWatch, clock: Clock, trial: FrozenTrial, *, step: float = 2.0) -> float:
    start = clock.seconds
    while not watch.is_abandoned(trial):
        clock.seconds += step
    return clock.seconds - start


def test_the_lease_of_another_machine_expires_without_a_heartbeat() -> None:
    watch = LeaseWatch("here", clock := Clock())
    assert LEASE_TIMEOUT < seconds_until_abandoned(watch, clock, trial_of(elsewhere(0))) <= LEASE_TIMEOUT + 2
    # The same silent runner, seen for the first time: an observer that starts later begins to count then.
    assert not LeaseWatch("late", clock).is_abandoned(trial_of(elsewhere(0)))


def test_a_heartbeat_renews_a_lease() -> None:
    watch = LeaseWatch("here", clock := Clock())
    for beat in range(40):
        trial = trial_of(elsewhere(beat))
        assert not watch.is_abandoned(trial)
        clock.seconds += HEARTBEAT_SECONDS
    assert seconds_until_abandoned(watch, clock, trial) > LEASE_TIMEOUT - HEARTBEAT_SECONDS


def test_a_clock_that_is_ten_minutes_ahead_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time()
    leased, unsigned = trial_of(elsewhere(0)), trial_of()
    monkeypatch.setattr(lease_module.time, "time", lambda: now + 600)
    watch = LeaseWatch("here", Clock())
    assert not watch.is_abandoned(leased) and not watch.is_abandoned(unsigned)
    assert not watch.is_abandoned(trial_of(elsewhere(1, seen=now - 10_000)))


def test_a_trial_without_a_lease_is_abandoned_after_a_few_seconds() -> None:
    watch = LeaseWatch("here", clock := Clock())
    assert CLAIM_TIMEOUT < seconds_until_abandoned(watch, clock, trial_of(), step=0.5) <= CLAIM_TIMEOUT + 1


def test_a_runner_in_another_pid_namespace_with_the_same_host_name_is_not_looked_up() -> None:
    """Its process id belongs to this process here, or to none."""
    watch = LeaseWatch("here", Clock())
    for pid in (os.getpid(), 2**22 + 1):
        lease = elsewhere(0, pid=pid)
        assert lease["host"] == platform.node()
        assert not watch.is_abandoned(trial_of(lease)) and not watch.is_certain(trial_of(lease))


def test_a_dead_runner_of_this_machine_is_found_at_once(tmp_path: Path) -> None:
    receiver, sender = fork.Pipe(duplex=False)
    child = fork.Process(target=lambda: (sender.send(new_lease("child", 0)), time.sleep(60)))
    child.start()
    lease, watch = receiver.recv(), LeaseWatch("here", Clock())
    assert watch.is_certain(trial_of(lease)) and not watch.is_abandoned(trial_of(lease))
    child.kill()
    child.join()
    assert watch.is_abandoned(trial_of(lease)) and not watch.is_certain(trial_of(lease))
    # Another process with the id of this runner.
    reused = new_lease("child", 0) | {"born": "1"}
    assert watch.is_abandoned(trial_of(reused))


def test_a_released_trial_is_abandoned_and_our_own_is_not() -> None:
    watch = LeaseWatch("here", Clock())
    assert watch.is_abandoned(trial_of(None)) and not watch.is_certain(trial_of(None))
    ours = trial_of(new_lease("here", 0) | {"pid": 1, "machine": None})
    assert watch.is_certain(ours) and not watch.is_abandoned(ours)


def test_another_runner_is_certain_once_its_heartbeat_has_changed() -> None:
    watch = LeaseWatch("here", clock := Clock())
    assert not watch.is_certain(trial_of(elsewhere(0)))
    clock.seconds += HEARTBEAT_SECONDS
    assert watch.is_certain(trial_of(elsewhere(1)))
    # A runner that took the trial over has not shown a heartbeat yet.
    assert not watch.is_certain(trial_of(elsewhere(0, runner="third")))


def test_a_ledger_that_was_away_for_an_hour_does_not_expire_a_lease() -> None:
    """Nobody could write a heartbeat; the first look after it must leave the time for one."""
    watch = LeaseWatch("here", clock := Clock())
    trial = trial_of(elsewhere(0))
    assert not watch.is_abandoned(trial)
    clock.seconds += 3600
    assert not watch.is_abandoned(trial)
    assert seconds_until_abandoned(watch, clock, trial) > LEASE_TIMEOUT - 2 * HEARTBEAT_SECONDS


def test_leases_of_earlier_versions_are_read() -> None:
    """They held host, process id, start time and the time of the last heartbeat."""
    ours = new_lease("", 0)
    old = {key: ours[key] for key in ("host", "pid", "born", "seen")}
    watch = LeaseWatch("here", clock := Clock())
    assert watch.is_certain(trial_of(old)) and not watch.is_abandoned(trial_of(old))
    assert watch.is_abandoned(trial_of(old | {"born": "1"}))  # of this host, and dead
    for beat in range(20):
        trial = trial_of(old | {"host": "another", "born": "1", "seen": 1e9 + beat})
        assert not watch.is_abandoned(trial)
        clock.seconds += HEARTBEAT_SECONDS
    assert LEASE_TIMEOUT - HEARTBEAT_SECONDS < seconds_until_abandoned(watch, clock, trial) <= LEASE_TIMEOUT


def test_the_machine_is_this_boot_and_this_pid_namespace() -> None:
    boot, _, namespace = str(machine()).partition("/")
    assert boot == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert f"pid:[{namespace}]" == str(Path("/proc/self/ns/pid").readlink())
