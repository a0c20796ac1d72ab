"""The process of one trial: a run in a new session. It is forked from the fork server and ends when that ends."""

from __future__ import annotations

import io
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType

from harness.errors import errors_in_words
from harness.launch.launch import die_with_parent, free_port
from harness.launch.stop_signals import STOP_SIGNALS
from harness.launch.temporary import temporary_folder
from harness.options import parse
from harness.sweep.execution.surroundings import MACHINE_FAILED, surroundings_as_exit_codes

# When memory runs out, the kernel kills the process with the highest score: its share of memory in thousandths, plus
# this number (proc_pid_oom_score_adj(5)). A trial can be retried, so it must be killed before the runner.
OOM_SCORE_ADJUSTMENT = 500

# Seconds from the end of the main rank, or the first failure, to SIGTERM for the other ranks. SIGKILL follows after
# three times as long.
RANK_EXIT_TIMEOUT = 10.0

# forkserver.py sets both in the process that trials are forked from. Tests fork trials from themselves.
fork_server_pid: int | None = None
fork_server_signals: list[signal.Signals] = []


def run_trial(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    cores: Sequence[int],
    processes: int,
    on_gpus: bool,
    log: str,
) -> None:
    """Do one run and exit with its code. Runs in the process that was forked for this trial."""
    os.setsid()
    _restore_signals()
    os.environ.clear()
    os.environ.update(environment)
    _redirect_output(log)
    with suppress(OSError):
        os.sched_setaffinity(0, cores)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(OOM_SCORE_ADJUSTMENT))
    if processes > 1 and not on_gpus:
        os.environ["ACCELERATE_USE_CPU"] = "true"
    sys.exit(_run(arguments) if processes == 1 else _run_ranks(processes, lambda: _run(arguments)))


def _restore_signals() -> None:
    """Undo the fork server's signal handlers, and end when the fork server does."""
    for signum in fork_server_signals:
        signal.signal(signum, signal.default_int_handler if signum == signal.SIGINT else signal.SIG_DFL)
    runner = multiprocessing.parent_process()
    die_with_parent(parent=fork_server_pid or (runner.pid if runner else None))


def _run(arguments: Sequence[str]) -> int:
    from harness.train import exit_code_of  # imports torch, which the runner must not

    try:
        with errors_in_words(), surroundings_as_exit_codes(), temporary_folder():
            return exit_code_of(parse(arguments))
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    except OSError:
        return MACHINE_FAILED  # the disk has no room for the error message


def _run_ranks(world: int, work: Callable[[], int]) -> int:
    """Call `work` in `world` forked ranks; returns the exit code of the lowest rank that failed, else 0.

    If SIGKILL from outside has ended a rank, the code is that one's: the other ranks failed because of it.

    launch.launch starts new interpreters under torch elastic instead. Forked ranks share the imports of the fork
    server and keep their exit codes (`infeasible` must not become 1).
    """
    port = free_port()
    ranks = {_fork_rank(rank, world, port, work): rank for rank in range(world)}
    running, codes = set(ranks), dict[int, int]()

    def signal_ranks(signum: int) -> None:
        for pid in running:
            with suppress(ProcessLookupError):
                os.kill(pid, signum)

    def stop(signum: int, frame: FrameType | None) -> None:
        signal.signal(signum, signal.SIG_IGN)  # a second signal must not reach the ranks
        signal_ranks(signal.SIGTERM)

    for signum in STOP_SIGNALS:
        signal.signal(signum, stop)
    deadlines: list[tuple[float, int]] = []
    sent, killed = set[int](), False
    while running:
        for pid in list(running):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if not ended:
                continue
            running.discard(pid)
            codes[ranks[pid]] = os.waitstatus_to_exitcode(status)
            killed = killed or (codes[ranks[pid]] == -signal.SIGKILL and signal.SIGKILL not in sent)
            if not deadlines and (ranks[pid] == 0 or codes[ranks[pid]] != 0):
                # After a failure the other ranks wait in a collective that never ends. The main rank may still have to
                # close its W&B run, so SIGKILL comes much later.
                now = time.monotonic()
                deadlines = [(now + RANK_EXIT_TIMEOUT, signal.SIGTERM), (now + 3 * RANK_EXIT_TIMEOUT, signal.SIGKILL)]
        while deadlines and time.monotonic() > deadlines[0][0]:
            sent.add(deadlines[0][1])
            signal_ranks(deadlines.pop(0)[1])
        time.sleep(0.05)
    if MACHINE_FAILED in codes.values():
        return MACHINE_FAILED  # the other ranks were ended after it
    if killed:
        return _exit_code(-signal.SIGKILL)
    failed = [code for _, code in sorted(codes.items()) if code]
    return _exit_code(failed[0]) if failed else 0


def _fork_rank(rank: int, world: int, port: int, work: Callable[[], int]) -> int:
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        die_with_parent(parent=parent)
        os.environ |= _rank_variables(rank, world, port)
        code = work()
    finally:
        # sys.exit would unwind the stack that was copied from the parent.
        with suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(_exit_code(code))


def _rank_variables(rank: int, world: int, port: int) -> dict[str, str]:
    """The variables that torch elastic sets (pytorch.org/docs: torchrun, environment variables)."""
    numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world, "MASTER_PORT": port}
    return {name: str(number) for name, number in numbers.items()} | {"MASTER_ADDR": "127.0.0.1"}


def _exit_code(code: int) -> int:
    """The exit code that a shell reports: for a process that a signal ended, 128 + the signal."""
    return code if code >= 0 else 128 - code


def _redirect_output(log: str) -> None:
    """Send stdout and stderr to the log file; stdin is empty."""
    sys.stdout.flush()
    sys.stderr.flush()
    target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    empty = os.open(os.devnull, os.O_RDONLY)
    for source, descriptor in ((empty, 0), (target, 1), (target, 2)):
        os.dup2(source, descriptor)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True)
