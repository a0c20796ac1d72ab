"""A Slurm cluster of two nodes on this machine: own daemons, ports, key and folder; gone when the context ends."""

from __future__ import annotations

import contextlib
import functools
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.launch.launch import die_with_parent
from tests.helpers.ports import free_ports
from tests.helpers.waiting import wait_for

NODES = ("n1", "n2")
DAEMONS: list[subprocess.Popen[bytes]] = []
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol", "scancel", "srun")

# Jobs are scheduled at once. KillWait: seconds from SIGTERM to SIGKILL after scancel and at the time limit.
SETTINGS = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmctldPidFile={folder}/slurmctld.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmdSpoolDir={folder}/spool/%n
SlurmdLogFile={folder}/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,bf_interval=2,sched_interval=2
JobRequeue=1
KillWait=10
ReturnToService=2
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
JobCompType=jobcomp/none
"""
NODE = "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=2 CoresPerSocket=2 RealMemory=4000\n"
PARTITION = "PartitionName=main Nodes=n[1-2] Default=YES MaxTime=60 State=UP\n"


def why_not() -> str:
    """Why no cluster can be started here; empty if one can."""
    if missing := [name for name in PROGRAMS if _program(name) is None]:
        return f"Slurm is not installed ({', '.join(missing)} not found)"
    return "" if os.getuid() == 0 else "only root can start Slurm's daemons for a test"


@dataclass(frozen=True)
class Cluster:
    folder: Path
    environment: dict[str, str]  # in which Slurm's programs find the cluster

    def run(self, *command: str) -> str:
        """Output of a program of Slurm. Raises CalledProcessError."""
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, check=True).stdout.strip()

    def states(self, *jobs: str) -> dict[str, str]:
        """State by task, such as {"7_0": "RUNNING"}; ended tasks are listed until Slurm forgets them."""
        jobs_option = f"--jobs={','.join(jobs)}"
        lines = self.run("squeue", "--array", "--noheader", "--states=all", jobs_option, "--format=%i %T")
        return dict(line.split() for line in lines.splitlines())

    def ended(self, job: str, seconds: float) -> bool:
        """Whether all tasks of a job end in time."""
        running = {"PENDING", "RUNNING", "COMPLETING", "CONFIGURING", "SUSPENDED"}
        return wait_for(lambda: not running & set(self.states(job).values()), seconds, every=0.3)

    def clear(self) -> None:
        """End all jobs, so that the next test has the cluster to itself."""
        self.run("scancel", "--user=root")
        assert wait_for(lambda: not self.run("squeue", "--noheader"), 120, every=0.2), self.run("squeue")

    def exit_code(self, job: str) -> str:
        """Exit code and signal of a task: "0:0"."""
        words = self.run("scontrol", "show", "job", job).split()
        return next(word for word in words if word.startswith("ExitCode=")).removeprefix("ExitCode=")


@contextlib.contextmanager
def cluster() -> Iterator[Cluster]:
    """Start a cluster; at the end stop it and whatever runs on it."""
    # Not in pytest's folder: munge needs folders that every user may enter.
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder:
        yield from _cluster(Path(folder))


def _cluster(folder: Path) -> Iterator[Cluster]:
    host = socket.gethostname()
    folder.chmod(0o755)
    for name in ("munge", "state", *(f"spool/{node}" for node in NODES)):
        (folder / name).mkdir(parents=True, mode=0o755)
    controller_port, *ports = free_ports(1 + len(NODES))
    settings = folder / "slurm.conf"
    nodes = (NODE.format(name=name, host=host, port=port) for name, port in zip(NODES, ports, strict=True))
    text = SETTINGS.format(host=host, controller_port=controller_port, folder=folder)
    settings.write_text(text + "".join(nodes) + PARTITION)
    environment = {**os.environ, "SLURM_CONF": str(settings), "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
    started = Cluster(folder, environment)
    try:
        _start_munge(folder)
        assert wait_for((folder / "munge" / "socket").exists, 120), (folder / "munged.out").read_text()
        _start(environment, folder, "slurmctld", "-D", "-c", "-f", str(settings))
        for name in NODES:
            _start(environment, folder, "slurmd", "-D", "-N", name, "-f", str(settings))
        idle = "\n".join(["idle"] * len(NODES))
        assert wait_for(lambda: _node_states(started) == idle, 120, every=0.1), _node_states(started)
        yield started
    finally:
        with contextlib.suppress(OSError, subprocess.SubprocessError, AssertionError):
            started.clear()
        _stop_daemons()


def _node_states(started: Cluster) -> str:
    with contextlib.suppress(subprocess.SubprocessError):
        return started.run("sinfo", "--noheader", "--Node", "--format=%T")
    return "no controller"


def _start_munge(folder: Path) -> None:
    """Munge signs the messages between Slurm's daemons. Only this cluster has the key."""
    own = folder / "munge"
    key = own / "key"
    key.touch(mode=0o600)
    key.write_bytes(secrets.token_bytes(1024))
    files = {"key-file": key, "socket": own / "socket", "pid-file": folder / "munged.pid"}
    files |= {"log-file": own / "log", "seed-file": own / "seed"}
    _start(dict(os.environ), folder, "munged", *(f"--{name}={path}" for name, path in files.items()), "--foreground")


def _start(environment: dict[str, str], folder: Path, program: str, *arguments: str) -> None:
    """Start a daemon in the foreground, so that it ends with this process, however that ends."""
    with (folder / f"{program}.out").open("ab") as output:
        daemon = subprocess.Popen(
            [_program(program) or program, *arguments],
            env=environment,
            cwd=folder,
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=functools.partial(die_with_parent, parent=os.getpid()),
        )
    DAEMONS.append(daemon)


def _stop_daemons() -> None:
    """Stop the daemons, the last one first: SIGTERM, then SIGKILL."""
    while DAEMONS:
        daemon = DAEMONS.pop()
        daemon.terminate()
        try:
            daemon.wait(10)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait(5)


def _program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
