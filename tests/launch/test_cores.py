"""Cores by affinity and quota, threads by OMP_NUM_THREADS."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.config import RunConfig
from harness.doctor.machine import cpu
from harness.launch import cores
from harness.launch.cores import cpu_quota, default_threads, limit_spinning, usable_cores

GROUPS, OWN = "sys/fs/cgroup", "proc/self/cgroup"
V1, V2 = "4:memory:/\n3:cpu,cpuacct:/a/b\n0::/\n", "0::/a/b\n"


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Control groups of a process that may run on 16 cores; without a limit."""
    monkeypatch.setattr(cores, "ROOT", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))
    monkeypatch.delenv("OMP_NUM_THREADS")
    write(tmp_path / OWN, V2)
    return tmp_path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize(
    ("own", "files", "quota", "expected"),
    [
        (V2, {}, None, 16),
        (V2, {"a/b/cpu.max": "max 100000\n"}, None, 16),
        (V2, {"a/b/cpu.max": "250000 100000\n"}, 2.5, 2),
        (V2, {"a/b/cpu.max": "800000 100000", "a/cpu.max": "400000 100000"}, 4, 4),  # of a group further out
        (V2, {"cpu.max": "50000 100000"}, 0.5, 1),  # a container that is its own root
        (V2, {"a/b/cpu.max": "6400000 100000"}, 64, 16),
        (V2, {"a/b/cpu.max": "0 0"}, None, 16),
        (V2, {"a/b/cpu.max": "text"}, None, 16),
        (V1, {"cpu/a/b/cpu.cfs_quota_us": "300000\n", "cpu/a/b/cpu.cfs_period_us": "100000\n"}, 3, 3),
        (V1, {"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 3, 3),
        (V1, {"cpu/a/b/cpu.cfs_quota_us": "-1\n", "cpu/a/b/cpu.cfs_period_us": "100000\n"}, None, 16),
    ],
)
def test_the_quota_of_a_container_limits_the_cores(
    groups: Path, own: str, files: dict[str, str], quota: float | None, expected: int
) -> None:
    write(groups / OWN, own)
    for name, text in files.items():
        write(groups / GROUPS / name, text)
    assert cpu_quota() == quota
    assert usable_cores() == expected


def test_without_control_groups(groups: Path) -> None:
    (groups / OWN).unlink()
    assert usable_cores() == 16


@pytest.mark.parametrize(
    ("text", "processes", "expected"),
    [
        *[("", 1, 16), ("", 3, 5), ("", 40, 1)],
        *[("3", 1, 3), ("3", 4, 3), ("3", 8, 2), ("4,2", 1, 4), ("99", 1, 16)],
        *[("0", 1, 16), ("-1", 1, 16), ("many", 1, 16)],
    ],
)
def test_threads_of_each_process(
    groups: Path, monkeypatch: pytest.MonkeyPatch, text: str, processes: int, expected: int
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", text)
    assert default_threads(processes) == expected


def test_a_run_obeys_the_limit_and_the_option_wins(groups: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from harness.training.distributed import Processes

    threads: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    for words in ({}, {"threads": 7}):
        monkeypatch.setenv("OMP_NUM_THREADS", "2")
        Processes(RunConfig(data="data", **words)).close()
    assert threads == [2, 7]


@pytest.mark.parametrize(
    ("own", "expected"),
    [({}, "1000"), ({"GOMP_SPINCOUNT": "5"}, "5"), ({"OMP_WAIT_POLICY": "active"}, None)],
)
def test_threads_spin_briefly_unless_the_user_decides(own: dict[str, str], expected: str | None) -> None:
    environment = dict(own)
    limit_spinning(environment)
    assert environment.get("GOMP_SPINCOUNT") == expected


@pytest.mark.parametrize("words", ["main(['train', '--data', 'missing'])", "run(['--data', 'missing'])"])
def test_every_command_limits_spinning_before_torch_is_imported(words: str) -> None:
    program = f"""
import os, sys

class Torch:
    def find_spec(self, name, path=None, target=None):
        if name in ("torch", "numpy"):
            print("spins", os.environ.get("GOMP_SPINCOUNT"), flush=True)
            os._exit(0)

sys.meta_path.insert(0, Torch())
from harness.cli.main import main, run
{words}
"""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == "spins 1000\n", done.stderr


def test_doctor_shows_the_limits(groups: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (4.0, 0.0, 0.0))
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    assert cpu().detail == "16 cores"
    write(groups / GROUPS / "a" / "cpu.max", "250000 100000")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert cpu().detail == "2 cores (the quota of this container is 2.5), OMP_NUM_THREADS is 1"


def test_doctor_names_other_programs_on_the_cores(groups: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (40.0, 0.0, 0.0))
    monkeypatch.setattr(os, "cpu_count", lambda: 32)
    check = cpu()
    assert (check.state, check.detail) == ("warn", "16 cores; other programs use them (load 40.0 on 32 cores)")
    assert check.remedy == "Until they end, runs take longer, and `harness sweep plan` may estimate too long a time."
    monkeypatch.setattr(os, "getloadavg", lambda: (4.0, 40.0, 40.0))
    assert cpu().state == "ok"
