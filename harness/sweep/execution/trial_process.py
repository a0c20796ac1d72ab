"""The process of one trial: a run of its own process group, forked from a warm parent, that outlives nobody."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

from harness.errors import errors_in_words
from harness.launch.launch import die_with_parent, free_port
from harness.options import parse

# Of the machine's processes the kernel ends the one with most memory, adjusted by this in thousandths of it
# (proc_pid_oom_score_adj(5)): rather a trial, which can be tried again, than the sweep.
OOM_SCORE_ADJUSTMENT = 500

# Once the main rank has ended, the others have nothing left to do; seconds they get for it, and again before a kill.
PATIENCE_WITH_RANKS = 10.0


def run_trial(
    words: Sequence[str], environment: Mapping[str, str], cores: Sequence[int], processes: int, on_gpus: bool, log: str
) -> None:
    """Do one run and exit with its code. To be called in a process forked for it."""
    os.setsid()
    _hear_signals_again()
    os.environ.clear()
    os.environ.update(environment)
    _write_to(log)
    with suppress(OSError):
        os.sched_setaffinity(0, cores)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(OOM_SCORE_ADJUSTMENT))
    if processes > 1 and not on_gpus:
        os.environ["ACCELERATE_USE_CPU"] = "true"
    sys.exit(_run(words) if processes == 1 else _run_ranks(processes, lambda: _run(words)))


def _hear_signals_again() -> None:
    """Undo what the process that trials are forked from has done about signals, and end when it does."""
    nursery = sys.modules.get("harness.sweep.execution.forkserver")
    for signum in nursery.TAKEN if nursery else ():
        signal.signal(signum, signal.default_int_handler if signum == signal.SIGINT else signal.SIG_DFL)
    die_with_parent(parent=nursery.PID if nursery else None)


def _run(words: Sequence[str]) -> int:
    from harness.train import exit_code_of  # imports torch, which the process that starts trials does without

    try:
        with errors_in_words():
            return exit_code_of(parse(words))
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1


def _run_ranks(world: int, work: Callable[[], int]) -> int:
    """Do `work` in `world` forked ranks; the exit code of the first that failed, or of the main rank."""
    port = free_port()
    ranks = {_fork_rank(rank, world, port, work): rank for rank in range(world)}
    running, codes = set(ranks), dict[int, int]()

    def pass_on(signum: int, frame: FrameType | None = None) -> None:
        for pid in running:
            with suppress(ProcessLookupError):
                os.kill(pid, signum)

    def stop(signum: int, frame: FrameType | None) -> None:
        signal.signal(signum, signal.SIG_IGN)  # once: each rank counts on one signal
        pass_on(signal.SIGTERM)

    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(signum, stop)
    deadlines: list[tuple[float, int]] = []
    while running:
        for pid in list(running):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                running.discard(pid)
                codes[ranks[pid]] = os.waitstatus_to_exitcode(status)
                if not deadlines and (ranks[pid] == 0 or codes[ranks[pid]] != 0):
                    now = time.monotonic()
                    # A failure elsewhere leaves the others in a collective that never ends; the main rank may still
                    # have to say goodbye to W&B.
                    deadlines = [
                        (now + PATIENCE_WITH_RANKS, signal.SIGTERM),
                        (now + 3 * PATIENCE_WITH_RANKS, signal.SIGKILL),
                    ]
        while deadlines and time.monotonic() > deadlines[0][0]:
            pass_on(deadlines.pop(0)[1])
        time.sleep(0.05)
    failed = [code for _, code in sorted(codes.items()) if code]
    return _exit_code(failed[0]) if failed else 0


def _fork_rank(rank: int, world: int, port: int, work: Callable[[], int]) -> int:
    leader = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        die_with_parent(parent=leader)
        os.environ |= _rank_variables(rank, world, port)
        code = work()
    finally:
        # Not sys.exit: what the leader has on its stack is not ours to unwind.
        with suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(_exit_code(code))


def _rank_variables(rank: int, world: int, port: int) -> dict[str, str]:
    """What torch elastic would set (pytorch.org/docs: torchrun, environment variables)."""
    numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world, "MASTER_PORT": port}
    return {name: str(number) for name, number in numbers.items()} | {"MASTER_ADDR": "127.0.0.1"}


def _exit_code(code: int) -> int:
    """The way a shell counts: 128 + the signal that ended a process."""
    return code if code >= 0 else 128 - code


def _write_to(log: str) -> None:
    """Everything the trial prints goes to its log file; it reads nothing."""
    sys.stdout.flush()
    sys.stderr.flush()
    target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, descriptor in ((nothing, 0), (target, 1), (target, 2)):
        os.dup2(source, descriptor)
    for stream in (sys.stdout, sys.stderr):
        _line_buffered(stream)


def _line_buffered(stream: Any) -> None:
    with suppress(AttributeError, ValueError):
        stream.reconfigure(line_buffering=True)
