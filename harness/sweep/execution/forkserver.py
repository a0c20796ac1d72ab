"""Prepares the process that trials are forked from: signals first, then everything that trials import.

multiprocessing imports this module in its fork server.
"""

import contextlib
import os
import signal

from harness.sweep.execution import trial_process

# A terminal, `timeout` or a batch system signals the whole process group of a sweep. This process must outlast the
# trials: they end when it does, and the runner could no longer read their exit codes.
if os.getpid() != os.getpgid(0):
    os.setsid()
for _signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    if signal.getsignal(_signum) is not signal.SIG_IGN:
        signal.signal(_signum, lambda *_: None)
        trial_process.fork_server_signals.append(_signum)
trial_process.fork_server_pid = os.getpid()

# If an import fails here, it fails again in each trial, whose log then shows it.
with contextlib.suppress(Exception):
    from harness.sweep.execution import preload  # noqa: F401
