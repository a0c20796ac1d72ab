"""Processes in separate PID namespaces, as in containers that share the host's name."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from typing import Any

import pytest

from tests.helpers.sweeping import fork

# linux/sched.h and sys/mount.h
_CLONE_NEWNS, _CLONE_NEWPID = 0x00020000, 0x20000000
_MS_REC, _MS_PRIVATE = 16384, 1 << 18


def start_container(work: Callable[[], int]) -> Any:
    """A child in which `work` is process 1 of a new PID namespace with its /proc; its exit code is what `work` returns.

    The namespace and all its processes end with the child.
    """
    child = fork.Process(target=_contain, args=(work,))
    child.start()
    return child


def skip_without_containers() -> None:
    """Skip the test if this process may not create a PID namespace."""
    child = start_container(lambda: 0 if os.getpid() == 1 else 1)
    child.join(30)
    if child.exitcode != 0:
        pytest.skip("creating a PID namespace is not permitted here (unshare)")


def _contain(work: Callable[[], int]) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNS | _CLONE_NEWPID) != 0:
        os._exit(77)
    libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None)
    pid = os.fork()
    if pid == 0:
        libc.prctl(1, 9, 0, 0, 0)  # PR_SET_PDEATHSIG, SIGKILL: process 1 takes its namespace with it
        if libc.mount(b"proc", b"/proc", b"proc", 0, None) != 0:
            os._exit(77)
        os._exit(work())
    os._exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) % 256)
