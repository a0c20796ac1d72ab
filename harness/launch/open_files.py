"""The limit of open files, which gloo and NCCL meet with an abort instead of an error. Importing this is cheap."""

from __future__ import annotations

import resource

from harness.errors import HarnessError


def check_open_files(processes: int) -> None:
    """HarnessError if each of several training processes may open fewer files than they need.

    Measured: 24 with 2 processes on a CPU, sockets to each other process included.
    """
    needed = 32 + 8 * processes
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if processes > 1 and 0 <= limit < needed:  # RLIM_INFINITY is below 0
        raise HarnessError(
            f"The limit of open files (ulimit -n) is {limit}, but {processes} training processes need {needed} each. "
            f"Raise the limit, or use --num-processes 1."
        )
