"""Small sweeps for tests: their files, and starting them in processes that can be watched and killed."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness import train as train_module
from harness.errors import errors_in_words
from harness.sweep.execution import preload
from harness.sweep.execution.resources import share_machine
from harness.sweep.execution.runner_options import RunnerOptions
from harness.sweep.repeat_best import RepeatBest
from harness.sweep.search.settings import Search
from harness.sweep.search.trial_queue import TrialQueue
from harness.sweep.search.trial_record import TrialRecord
from harness.sweep.session import run_sweep, sweep_folder
from harness.sweep.spec.sweep_file import read_sweep

# A child forked from here has everything imported, and so have the trials it forks.
assert preload
fork = multiprocessing.get_context("fork")
FORKED = "fork"

_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h

TINY = (
    "--recipe=study",
    *("--model=vit_demo", "--weights=none", "--image-size=32", "--crop-pct=1", "--batch-size=5", "--threads=1"),
    "--explain=none",
)
GRID = {"lr": {"values": [1e-3, 1e-2]}, "augment": {"values": ["none", "standard"]}}


def write_sweep(path: Path, data_folder: Path, *words: str, parameters: Any = None, **keys: Any) -> Path:
    """A sweep file for runs of 21 images of 32 pixels; five optimiser steps an epoch."""
    content = {
        "program": "harness/run.py",
        "method": "grid",
        "metric": {"name": "best/val_f1", "goal": "maximize"},
        "parameters": parameters or GRID,
        "command": ["${env}", "${interpreter}", "${program}", f"--data={data_folder}", *TINY, *words, "${args}"],
    }
    path.write_text(yaml.safe_dump(content | keys, sort_keys=False))
    return path


def let_fail(monkeypatch: pytest.MonkeyPatch, lr: float) -> None:
    """Trials at this learning rate fail in their first step, by no fault of their settings."""
    training_step = train_module.training_step

    def broken(state: Any, batch: Any, step_lr: float, *rest: Any) -> Any:
        if step_lr == lr:
            raise RuntimeError("a bug in the program")
        return training_step(state, batch, step_lr, *rest)

    monkeypatch.setattr(train_module, "training_step", broken)


def sweep_here(
    file: Path,
    runs: Path,
    *,
    workers: int = 1,
    processes: int = 1,
    words: tuple[str, ...] = (),
    search: Search | None = None,
    storage: str | None = None,
    repeat: RepeatBest | None = None,
    accept: bool = False,
    reuse: tuple[Path, ...] = (),
    **rules: Any,
) -> int:
    """Does what `harness sweep run` does, with trials forked from this process."""
    sweep = read_sweep(file, words)
    slots = share_machine(workers, None, processes, {**os.environ, "CUDA_VISIBLE_DEVICES": ""})
    return run_sweep(
        sweep,
        search or Search(),
        sweep_folder(sweep, runs),
        slots,
        RunnerOptions(**{"start_method": FORKED, **rules}),
        storage,
        repeat,
        accept=accept,
        reuse=reuse,
    )


def start_sweep(file: Path, runs: Path, *, before: Callable[[], None] = lambda: None, **options: Any) -> Any:
    """The same in a child, whose exit code is that of the command. `before` is called there first."""

    def command() -> None:
        os.setsid()
        before()
        # The tests' own streams write past descriptors 1 and 2, which trials redirect to their logs.
        sys.stdout, sys.stderr = (open(descriptor, "w", closefd=False) for descriptor in (1, 2))  # noqa: SIM115
        code = 1
        with suppress(SystemExit), errors_in_words():
            code = sweep_here(file, runs, **options)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)

    child = fork.Process(target=command)
    child.start()
    return child


def trial_queue(file: Path, runs: Path) -> TrialQueue:
    sweep = read_sweep(file)
    return TrialQueue.load(sweep, sweep_folder(sweep, runs), None)


def records(file: Path, runs: Path) -> list[TrialRecord]:
    return trial_queue(file, runs).records()


def descendants(pid: int) -> list[int]:
    """A process and all that came of it, oldest first; not those that have lost their parents."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
            if state not in "ZX":
                children.setdefault(int(parent), []).append(int(entry.name))
    found = [pid]
    for one in found:
        found += children.get(one, [])
    return found


@contextmanager
def orphans() -> Iterator[Callable[[], list[int]]]:
    """While the context lasts, the kernel gives this process all orphans of its descendants (prctl(2), "subreaper").

    The function returns the processes that are still there of all that came of this process meanwhile.
    """
    libc, earlier = ctypes.CDLL(None), set(descendants(os.getpid()))
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield lambda: [pid for pid in descendants(os.getpid()) if pid not in earlier]
    finally:
        libc.prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def kill_tree(pid: int) -> None:
    """kill -9 of a process and of all that came of it, none of which gets to see the others die."""
    stopped: set[int] = set()
    while new := set(descendants(pid)) - stopped:
        for one in new:
            with suppress(ProcessLookupError):
                os.kill(one, signal.SIGSTOP)
        stopped |= new
    for one in stopped:
        with suppress(ProcessLookupError):
            os.kill(one, signal.SIGKILL)
