"""The memory that control groups leave, from files like those of the kernel."""

from __future__ import annotations

from pathlib import Path

from harness.launch.control_groups import available_memory, total_memory
from tests.helpers.text_files import write

GB = 10**9


def test_the_memory_that_a_container_leaves_is_less_than_the_machines(tmp_path: Path) -> None:
    """Both versions; without a limit, with one, and with a smaller one of an outer group."""
    machine = {"proc/meminfo": "MemTotal: 90000000 kB\nMemAvailable:   50000000 kB\n"}
    assert available_memory(tmp_path) is None
    assert available_memory(write(tmp_path / "bare", machine)) == 50_000_000 * 1024
    job = "sys/fs/cgroup/slurm/job"
    unlimited = {
        **machine,
        "proc/self/cgroup": "0::/slurm/job\n",
        f"{job}/memory.max": "max\n",
        f"{job}/memory.current": f"{3 * GB}\n",
        f"{job}/memory.stat": f"anon 1\ninactive_file {GB}\n",
    }
    assert available_memory(write(tmp_path / "unlimited", unlimited)) == 50_000_000 * 1024
    # 8 GB less the 3 GB that are used, of which 1 GB are files that the kernel can drop.
    limited = unlimited | {f"{job}/memory.max": f"{8 * GB}\n"}
    assert available_memory(write(tmp_path / "limited", limited)) == 6 * GB
    outer = {"sys/fs/cgroup/slurm/memory.max": f"{9 * GB}", "sys/fs/cgroup/slurm/memory.current": f"{7 * GB}"}
    assert available_memory(write(tmp_path / "outer", limited | outer)) == 2 * GB
    totals = {"bare": 90_000_000 * 1024, "unlimited": 90_000_000 * 1024, "limited": 8 * GB, "outer": 8 * GB}
    assert {name: total_memory(tmp_path / name) for name in totals} == totals
    # More is used than a limit that was lowered allows.
    assert available_memory(write(tmp_path / "lowered", limited | {f"{job}/memory.max": f"{GB}"})) == 0

    first = "sys/fs/cgroup/memory"
    version1 = {
        **machine,
        "proc/self/cgroup": "5:cpu,cpuacct:/a\n4:memory:/docker/7f\n0::/\n",
        f"{first}/memory.limit_in_bytes": f"{4 * GB}\n",
        f"{first}/memory.usage_in_bytes": f"{3 * GB}\n",
        f"{first}/memory.stat": f"inactive_file 7\ntotal_inactive_file {GB}\n",
    }
    assert available_memory(write(tmp_path / "first", version1)) == 2 * GB
    no_limit = version1 | {f"{first}/memory.limit_in_bytes": f"{2**63 - 4096}\n"}
    assert available_memory(write(tmp_path / "no limit", no_limit)) == 50_000_000 * 1024
    assert [total_memory(tmp_path / name) for name in ("first", "no limit")] == [4 * GB, 90_000_000 * 1024]
