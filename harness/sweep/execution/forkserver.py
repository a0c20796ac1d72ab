"""Prepares the fork server, the process that trials are forked from: its signals, then the imports of trials.

multiprocessing imports this module in its fork server.
"""

import contextlib
import os
import signal

from harness.launch.launch import die_with_parent
from harness.launch.stop_signals import STOP_SIGNALS
from harness.sweep.execution import trial_process

# A terminal, `timeout` or a batch system signals the whole process group of a sweep. The fork server must outlive the
# trials: they end when it ends, and the runner reads their exit codes through it.
if os.getpid() != os.getpgid(0):
    os.setsid()
for _signum in STOP_SIGNALS:
    if signal.getsignal(_signum) is not signal.SIG_IGN:
        signal.signal(_signum, lambda *_: None)
        trial_process.fork_server_signals.append(_signum)
trial_process.fork_server_pid = os.getpid()
# It must also end when its runner is killed. multiprocessing would end it when the last process closes the write end of
# a pipe, but passes that end on to each trial.
die_with_parent(signal.SIGKILL)

# An import that fails here fails again in each trial, and the log of the trial shows it.
with contextlib.suppress(Exception):
    from harness.sweep.execution import preload  # noqa: F401
