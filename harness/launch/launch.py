"""Start one run on the GPUs of this machine, pass signals on to it, and leave no process behind.

Importing this module is cheap: a launcher has no use for torch.
"""

from __future__ import annotations

import ctypes
import functools
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType

from harness.errors import ConfigError
from harness.launch import proc
from harness.launch.cores import usable_cores
from harness.launch.gpus import count_gpus, told_to_use_cpu
from harness.launch.open_files import check_open_files
from harness.launch.stop_signals import handling_stop_signals
from harness.launch.temporary import temporary_folder

RUN = Path(__file__).parents[1] / "run.py"
# -P: the names of files beside the script must not hide installed packages.
ELASTIC = (sys.executable, "-P", str(Path(__file__).with_name("elastic.py")))

# Seconds to save and to finish the W&B run. Torch elastic kills its workers 30 s after it receives a signal.
GRACE_SECONDS = 30.0
# A second signal asks to end at once: that leaves this many seconds. Signals that close together count as one.
SECOND_SIGNAL_SECONDS = 5.0
SAME_SIGNAL_SECONDS = 0.5

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
RANK_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def launch(
    arguments: Sequence[str],
    *,
    num_processes: int | None = None,
    env: Mapping[str, str] | None = None,
    script: Path = RUN,
    grace: float = GRACE_SECONDS,
) -> int:
    """Run `script` with these arguments, one process per GPU unless told otherwise; its exit code.

    SIGINT, SIGTERM and SIGHUP reach every trainer once, as SIGTERM; trainers that have not ended `grace` seconds
    later are killed. Then the code is 128 + the signal that came in. Several processes that fail end with 1, whatever
    their own codes: torch elastic does not pass them on.
    """
    environment = dict(os.environ if env is None else env)
    gpus = 0 if told_to_use_cpu(environment) else count_gpus(environment)
    processes = max(gpus, 1) if num_processes is None else num_processes
    if processes < 1:
        raise ConfigError(f"--num-processes {processes} is not possible: give 1 or more.")
    if 0 < gpus < processes:
        raise ConfigError(
            f"--num-processes {processes} is more than the {gpus} GPU(s) that can be used here. Give {gpus} or less,"
            " or set ACCELERATE_USE_CPU=true to run on the CPU."
        )
    check_open_files(processes)
    for name in RANK_VARIABLES:
        environment.pop(name, None)  # ranks of a launcher further out are not those of this run
    if processes > 1:
        environment.setdefault("OMP_NUM_THREADS", str(max(1, usable_cores() // processes)))
    if gpus == 0 and processes > 1:
        environment["ACCELERATE_USE_CPU"] = "true"
    with temporary_folder() as folder:
        environment["TMPDIR"] = str(folder)
        launcher = _launcher(processes, gpus, environment, folder)
        return _supervise([*launcher, str(script), *arguments], environment, grace)


def _launcher(processes: int, gpus: int, environment: Mapping[str, str], folder: Path) -> list[str]:
    """The command that the script and its arguments are appended to."""
    if processes == 1:
        # `accelerate launch` of one process starts Python and waits. It would lose the exit code, and a signal to it
        # would leave the child running.
        return [sys.executable]
    if gpus == 0:
        # For the CPU, `accelerate launch --num_processes N` starts one process only, unless there is MPI.
        elastic = ["--nproc-per-node", str(processes), "--master-addr", "127.0.0.1", "--master-port", str(free_port())]
        return [*ELASTIC, "torch.distributed.run", *elastic]
    # A configuration of our own, so that none a user once made for other programs decides about GPUs or DeepSpeed.
    neutral = folder / "accelerate.yaml"
    neutral.write_text("compute_environment: LOCAL_MACHINE\ndistributed_type: MULTI_GPU\n")
    # Accelerate sets ACCELERATE_MIXED_PRECISION to this for the ranks: what the user had set, or "no", no choice made.
    mixed_precision = environment.get("ACCELERATE_MIXED_PRECISION", "no")
    options = {
        "config_file": neutral,
        "num_processes": processes,
        "num_machines": 1,
        "machine_rank": 0,
        "mixed_precision": mixed_precision,
        "dynamo_backend": "no",
        "main_process_port": free_port(),
    }
    flags = [text for name, value in options.items() for text in (f"--{name}", str(value))]
    return [*ELASTIC, "accelerate.commands.launch", "--multi_gpu", *flags]


def _supervise(command: Sequence[str], environment: Mapping[str, str], grace: float) -> int:
    """Run a command in a new session until all of its processes have ended.

    Signals go to the direct child alone: the trainer, or torch elastic, which passes them to each worker once.
    """
    mark = f"HARNESS_LAUNCH_{secrets.token_hex(8)}"
    child = subprocess.Popen(
        command,
        env={**environment, mark: "1"},
        start_new_session=True,
        preexec_fn=functools.partial(die_with_parent, parent=os.getpid()),
    )
    deadlines: list[threading.Timer] = []
    received: list[tuple[int, float]] = []  # signals and when they came

    def kill_in(seconds: float) -> None:
        deadlines.append(threading.Timer(seconds, _signal_all, args=(child.pid, mark, signal.SIGKILL)))
        deadlines[-1].daemon = True
        deadlines[-1].start()

    def stop(signum: int, frame: FrameType | None) -> None:
        received.append((signum, time.monotonic()))
        name = signal.Signals(signum).name
        if len(received) == 1:
            sys.stderr.write(f"{name}: the run saves its state and stops, within {grace:.0f} s.\n")
            with suppress(ProcessLookupError):
                child.terminate()
            kill_in(grace)
        # A terminal and a wrapper may both pass on the same Ctrl-C.
        elif len(deadlines) == 1 and received[-1][1] - received[0][1] > SAME_SIGNAL_SECONDS:
            sys.stderr.write(f"{name} again: the run is killed in {SECOND_SIGNAL_SECONDS:.0f} s.\n")
            kill_in(SECOND_SIGNAL_SECONDS)

    with handling_stop_signals(stop):
        try:
            child.wait()
        finally:
            _end_all(child.pid, mark, SECOND_SIGNAL_SECONDS if len(deadlines) > 1 else grace)
            for deadline in deadlines:
                deadline.cancel()
    if received and child.returncode != 0:
        return 128 + received[0][0]
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


def _end_all(session: int, mark: str, grace: float) -> None:
    """End what a command left running: told to first, killed after `grace` seconds."""
    for signum in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + grace
        _signal_all(session, mark, signum)
        while _remaining(session, mark) and time.monotonic() < deadline:
            time.sleep(0.05)


def _signal_all(session: int, mark: str, signum: int) -> None:
    for pid in _remaining(session, mark):
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signum)


def _remaining(session: int, mark: str) -> list[int]:
    """Processes still running that belong to the session or carry the mark in their environment.

    The mark finds what has left the session, as the workers of torch elastic do, and what has lost its parent.
    """
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, IndexError):  # it may end at any moment
            belongs = int(proc.fields(entry.name)[3]) == session
            belongs = belongs or f"{mark}=1".encode() in (entry / "environ").read_bytes().split(b"\0")
            if belongs and proc.is_running(entry.name):
                found.append(int(entry.name))
    return found


def die_with_parent(signum: int = signal.SIGTERM, parent: int | None = None) -> None:
    """Have the kernel send this process `signum` when its parent ends, however that ends. Linux only.

    A parent that is gone before the kernel knows is noticed if its process id is given.
    """
    if not sys.platform.startswith("linux"):
        return
    parent = os.getppid() if parent is None else parent
    _libc().prctl(_PR_SET_PDEATHSIG, signum, 0, 0, 0)
    if os.getppid() != parent:
        os.kill(os.getpid(), signum)


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)


def free_port() -> int:
    """A TCP port nobody listens on, on any interface. It is not reserved: use it at once."""
    with socket.socket() as listener:
        listener.bind(("", 0))
        return listener.getsockname()[1]
