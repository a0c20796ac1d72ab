"""Whole jobs of one command or several: what they cost on both clocks and in memory."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Cost:
    """Seconds on the wall clock and of all threads on the CPU clock; the largest resident size of any process."""

    seconds: float
    cpu_seconds: float
    mebibytes: float


def run_job(name: str, commands: Sequence[Sequence[str]], folder: Path, environment: Mapping[str, str]) -> Cost | None:
    """Run commands one after another; what the last one prints goes to output.txt and errors.txt in `folder`.

    None if one failed, which is printed.
    """
    began, cpu_seconds, kibibytes = time.perf_counter(), 0.0, 0
    for command in commands:
        with (folder / "output.txt").open("w") as output, (folder / "errors.txt").open("w") as errors:
            process = subprocess.Popen(command, stdout=output, stderr=errors, env=os.environ | environment)
            # Of this child and the processes that it waited for; getrusage would mix all children so far.
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        cpu_seconds += usage.ru_utime + usage.ru_stime
        kibibytes = max(kibibytes, usage.ru_maxrss)
        if process.returncode:
            tail = (folder / "errors.txt").read_text().strip().splitlines()[-3:]
            print(f"{name} failed (exit code {process.returncode}), see {folder}:", *tail, sep="\n  ", flush=True)
            return None
    return Cost(time.perf_counter() - began, cpu_seconds, kibibytes / 1024)
