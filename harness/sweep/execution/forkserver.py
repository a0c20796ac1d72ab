"""Loaded by the process that trials are forked from: it outlasts signals meant for the sweep, and imports for all."""

import contextlib
import os
import signal

# A terminal, `timeout` or a batch system signals the whole process group of a sweep. This process must not be the first
# to go: its end tells the trials to end, and the runner could not see any more how they do.
if os.getpid() != os.getpgid(0):
    os.setsid()
TAKEN = [one for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if signal.getsignal(one) is not signal.SIG_IGN]
for _signum in TAKEN:
    signal.signal(_signum, lambda *_: None)

# The parent of every trial.
PID = os.getpid()

# What cannot be imported here will be missed in each trial, whose log then says so.
with contextlib.suppress(Exception):
    from harness.sweep.execution import preload  # noqa: F401
