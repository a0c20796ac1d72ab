"""Work in a child forked from the process of the tests: it has everything imported, and their state stays as it is."""

from __future__ import annotations

import functools
import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import pytest

from harness.cli import main
from harness.launch.launch import launch
from harness.sweep.execution.runner_options import RunnerOptions

Answer = TypeVar("Answer")

fork = multiprocessing.get_context("fork")


def in_child(work: Callable[[], Answer], seconds: float = 60) -> Answer:
    """What `work` returns in a child, within so many seconds. wandb, for one, remembers who is logged in."""
    receiver, sender = multiprocessing.Pipe(duplex=False)

    def child() -> None:
        sender.send(work())
        sender.close()

    process = fork.Process(target=child)
    process.start()
    try:
        assert receiver.poll(seconds), "no answer"
        return receiver.recv()
    finally:
        process.join(10)
        process.kill()


def run_captured(name: str, work: Callable[[], object], seconds: float = 300) -> subprocess.CompletedProcess[str]:
    """How a child ends that does this work, and what it writes, as of a program. Raises TimeoutExpired(name)."""
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:

        def child() -> None:
            os.dup2(output.fileno(), 1)
            os.dup2(errors.fileno(), 2)
            sys.stdout, sys.stderr = (open(descriptor, "w", closefd=False) for descriptor in (1, 2))  # noqa: SIM115
            work()

        process = fork.Process(target=child)
        process.start()
        process.join(seconds)
        in_time = not process.is_alive()
        process.kill()  # pytest would wait for it at its end
        process.join()
        if not in_time:
            raise subprocess.TimeoutExpired(name, seconds)
        assert process.exitcode is not None
        for file in (output, errors):
            file.seek(0)
        return subprocess.CompletedProcess(name, process.exitcode, output.read(), errors.read())


def fork_runs(patch: pytest.MonkeyPatch) -> None:
    """Fork the runs of `harness train` and `harness sweep run`: a new process takes 5 s of processor time to import."""
    patch.setattr("harness.launch.launch.launch", launch_forked)
    options = functools.partial(RunnerOptions, start_method="fork")
    patch.setattr("harness.sweep.execution.runner_options.RunnerOptions", options)


def launch_forked(arguments: Sequence[str], *, num_processes: int | None, env: Mapping[str, str]) -> int | None:
    """In place of `launch`: one process of a run is forked. Returns the exit code."""
    if num_processes not in (None, 1):
        return launch(arguments, num_processes=num_processes, env=env)

    def child() -> None:
        os.environ.clear()
        os.environ.update(env)
        main.run.main(list(arguments), prog_name="harness")

    process = fork.Process(target=child)
    process.start()
    process.join()
    return process.exitcode
