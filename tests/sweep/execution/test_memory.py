"""Trials that the kernel kills for lack of memory: its counters, real or invented."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.runs.logger import RunLogger
from harness.sweep.execution import running_trial
from harness.sweep.execution.memory import memory_kills, peak_memory
from harness.sweep.execution.trial_process import _run_ranks
from tests import ROOT
from tests.helpers.sweeping import fork, records, sweep_here, write_sweep
from tests.helpers.text_files import write
from tests.helpers.waiting import wait_for

# Kills a child for lack of memory, in a control group with a limit of 80 MB, and counts before and after.
EATER = """\
import os, pathlib, sys
from harness.sweep.execution.memory import memory_kills
pathlib.Path(sys.argv[1], "cgroup.procs").write_text(str(os.getpid()))
before = memory_kills()
if not (child := os.fork()):
    pages = [b"x" * 2**20 for _ in range(200)]
    os._exit(0)
print(before, os.WTERMSIG(os.waitpid(child, 0)[1]), memory_kills())
"""


def test_the_counters_of_control_groups_and_of_the_machine(tmp_path: Path) -> None:
    machine = {"proc/vmstat": "nr_free_pages 7\noom_kill 41\n"}
    assert memory_kills(tmp_path) is None
    assert memory_kills(write(tmp_path / "bare", machine)) == 41
    second = {
        "proc/self/cgroup": "0::/job/task\n",
        "sys/fs/cgroup/job/task/memory.events": "low 0\noom 3\noom_kill 2\noom_group_kill 9\n",
    }
    assert memory_kills(write(tmp_path / "second", machine | second)) == 2
    first = {
        "proc/self/cgroup": "5:cpu:/a\n4:memory:/job\n0::/\n",
        "sys/fs/cgroup/memory/job/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 5\n",
    }
    assert memory_kills(write(tmp_path / "first", machine | first)) == 5
    # A container that sees its own group only, at the place of the machine's.
    own = {"proc/self/cgroup": "0::/docker/7f\n", "sys/fs/cgroup/memory.events": "oom_kill 3\n"}
    assert memory_kills(write(tmp_path / "own", machine | own)) == 3
    # A control group without a counter, such as that of a whole machine.
    assert memory_kills(write(tmp_path / "root", machine | {"proc/self/cgroup": "0::/\n"})) == 41


def test_the_memory_that_a_real_control_group_leaves(small_group: Path) -> None:
    code = (
        "import os, pathlib, sys; pathlib.Path(sys.argv[1], 'cgroup.procs').write_text(str(os.getpid()))\n"
        "from harness.launch.control_groups import available_memory; print(available_memory())"
    )
    assert 20_000_000 < int(printed_in(small_group, code)) < 80_000_000


def printed_in(group: Path, code: str) -> str:
    """What a Python program prints that joins a control group, whose folder is its argument."""
    ended = subprocess.run(
        [sys.executable, "-c", code, str(group)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return ended.stdout


@pytest.fixture
def small_group() -> Iterator[Path]:
    """A control group with little memory; skips where none can be made."""
    version1 = Path("/sys/fs/cgroup/memory")
    group = (version1 if version1.is_dir() else Path("/sys/fs/cgroup")) / f"test-{os.getpid()}"
    try:
        group.mkdir()
        limit = next(group / name for name in ("memory.limit_in_bytes", "memory.max") if (group / name).exists())
        limit.write_text("80000000")
        for name in ("memory.memsw.limit_in_bytes", "memory.swap.max"):  # or the process would be swapped out
            if (group / name).exists():
                (group / name).write_text("0" if name == "memory.swap.max" else "80000000")
    except (OSError, StopIteration) as error:
        with contextlib.suppress(OSError):
            group.rmdir()
        pytest.skip(f"no control group with a memory limit can be made here: {error}")
    yield group
    assert wait_for(lambda: _is_removed(group), 10)


def _is_removed(group: Path) -> bool:
    """Remove a control group, which the kernel refuses while it still frees the last process."""
    with contextlib.suppress(OSError):
        group.rmdir()
    return not group.exists()


def test_the_kernel_counts_a_process_that_it_kills_for_lack_of_memory(small_group: Path) -> None:
    assert printed_in(small_group, EATER).split() == ["0", str(int(signal.SIGKILL)), "1"]


def test_a_rank_that_sigkill_ended_gives_the_code_of_the_trial() -> None:
    """Also if a lower rank then fails because the other one is away."""

    def work() -> int:
        if os.environ["RANK"] == "1":
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.2)
        return 1

    trial = fork.Process(target=lambda: os._exit(_run_ranks(2, work)))
    trial.start()
    trial.join(60)
    assert trial.exitcode == 128 + signal.SIGKILL


def test_the_memory_of_a_session() -> None:
    """Of a process and its child that fill 50 MB each."""
    code = "import os, time; os.fork(); filled = b'x' * 50_000_000; print(flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], start_new_session=True, stdout=subprocess.PIPE) as program:
        try:
            assert program.stdout is not None
            assert [program.stdout.readline(), program.stdout.readline()] == [b"\n"] * 2
            assert 100_000_000 < peak_memory(program.pid) < 200_000_000
        finally:
            os.killpg(program.pid, signal.SIGKILL)
    assert peak_memory(program.pid) == 0


def test_a_trial_that_was_killed_for_memory_pauses_the_sweep_and_is_not_charged(
    data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    file, runs = write_sweep(tmp_path / "tiny.yaml", data_folder, "--epochs=1"), tmp_path / "runs"
    counter = tmp_path / "kills"
    counter.write_text("3")

    def killed(*_: object) -> None:
        counter.write_text("4")
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(running_trial, "memory_kills", lambda: int(counter.read_text()))
    with monkeypatch.context() as patch:
        patch.setattr(RunLogger, "inputs", killed)
        with pytest.raises(HarnessError, match="is paused: The kernel killed the trial because the machine's memory"):
            sweep_here(file, runs)
        first = records(file, runs)[0]
        assert (first.state, first.attempts) == ("interrupted", 0)
        # Without a new kill by the kernel, somebody else sent the signal: the trial is charged.
        patch.setattr(RunLogger, "inputs", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        assert sweep_here(file, runs, retries=0) == 1
    assert records(file, runs)[0].reason == "killed (SIGKILL), by the kernel if memory ran out"
    assert "skip FILE 0" in capfd.readouterr().out
