"""Checks of the machine or container: cores, memory, ports, disk, locks, open files."""

from __future__ import annotations

import fcntl
import os
import resource
import shutil
import socket
import tempfile
from pathlib import Path

from harness.doctor.check import GB, Check, succeeds_within
from harness.errors import ConfigError
from harness.files import expanded
from harness.launch.control_groups import available_memory, total_memory
from harness.launch.cores import cpu_quota, omp_threads, usable_cores
from harness.launch.gpus import count_gpus


def cpu() -> Check:
    quota, limit = cpu_quota(), omp_threads()
    detail = f"{usable_cores()} cores"
    if quota is not None:
        detail += f" (the quota of this container is {quota:.1f})"
    if limit is not None:
        detail += f", OMP_NUM_THREADS is {limit}"
    load, machine = os.getloadavg()[0], os.cpu_count() or 1
    if load > machine:
        detail += f"; other programs use them (load {load:.1f} on {machine} cores)"
        remedy = "Until they end, runs take longer, and `harness sweep plan` may estimate too long a time."
        return Check("CPU", "warn", detail, remedy)
    return Check("CPU", "ok", detail)


def memory(root: Path = Path("/")) -> Check:
    total, free = total_memory(root), available_memory(root)
    if total is None or free is None:
        return Check("memory", "warn", "unknown", "/proc/meminfo cannot be read: is /proc mounted?")
    detail = f"{free / GB:.1f} GB free of {total / GB:.1f} GB"
    if free < 4 * GB:
        return Check("memory", "warn", detail, "A ViT-B/16 needs about 4 GB. End other programs, or set --micro-batch.")
    return Check("memory", "ok", detail)


def shared_memory() -> Check:
    size = shutil.disk_usage("/dev/shm").total
    detail = f"{size / GB:.2f} GB in /dev/shm"
    if size < 0.5 * GB and count_gpus(os.environ) > 1:
        return Check("shared memory", "warn", detail, "NCCL needs it between GPUs: docker run --shm-size=1g.")
    return Check("shared memory", "ok", detail)


def ports() -> Check:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        socket.create_connection(("127.0.0.1", port), timeout=2).close()
    name = socket.gethostname()
    if not succeeds_within(3, lambda: bool(socket.gethostbyname(name))):
        remedy = "Processes of one run connect by this name. Add it to /etc/hosts, or set GLOO_SOCKET_IFNAME=lo."
        return Check("ports", "warn", f"the host name {name} has no address", remedy)
    return Check("ports", "ok", f"127.0.0.1:{port} accepts connections")


def disk(name: str, folder: Path, option: str) -> Check:
    try:
        folder = expanded(folder)
    except ConfigError as error:
        return Check(name, "fail", str(error), f"Choose another folder with {option}.")
    existing = _existing(folder)
    try:
        with tempfile.NamedTemporaryFile(dir=existing):
            pass
    except OSError as error:
        return Check(name, "fail", f"{folder}: {error.strerror}", f"Choose a writable folder with {option}.")
    free = shutil.disk_usage(existing).free
    detail = f"{free / GB:.1f} GB free in {folder}"
    if free < 5 * GB:
        remedy = f"A ViT-B/16 run needs about 1.5 GB. Free space, or choose another disk with {option}."
        return Check(name, "warn", detail, remedy)
    return Check(name, "ok", detail)


def locks(cache: Path) -> Check:
    """Check that file locks work: two runs that build the same cache need them."""
    with tempfile.NamedTemporaryFile(dir=_existing(cache)) as first, Path(first.name).open("r+") as second:
        remedy = "Choose a folder on a local disk with --cache-dir or $HARNESS_CACHE_DIR."
        try:
            fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            return Check("file locks", "fail", f"{cache}: {error.strerror}", remedy)
        try:
            fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return Check("file locks", "ok", "they work in the cache folder")
    detail = f"they do not work in {cache}: runs that start together would overwrite each other's cache"
    return Check("file locks", "fail", detail, remedy)


def _existing(folder: Path) -> Path:
    """The folder, or its nearest parent that exists."""
    return next(path for path in (folder, *folder.parents) if path.exists())


def open_files() -> Check:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    detail = "no limit" if soft == resource.RLIM_INFINITY else f"limit: {soft}"
    if soft != resource.RLIM_INFINITY and soft < 1024:
        return Check("open files", "warn", detail, "Raise the limit in the shell that starts runs: ulimit -n 4096.")
    return Check("open files", "ok", detail)
