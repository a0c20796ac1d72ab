"""A benchmark is kept for later plans: when it is used, what makes it another one, and files that cannot be used."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.config import RunConfig
from harness.data.cache import user_cache_directory
from harness.launch import cores, gpus
from harness.sweep.plan import benchmark, estimate, kept_throughput
from harness.sweep.plan.kept_throughput import benchmark_key, keep_throughput, read_throughput
from harness.sweep.plan.throughput import Throughput

CONFIG = RunConfig(data="images", model="vit_demo", weights="demo")
MEASURED = Throughput(50.0, 150.0, 1.0, 2_000_000, "a benchmark", threads=1)


def cost(config: RunConfig, folder: Path, lines: list[str] | None = None) -> estimate.Cost:
    notes: list[str] = [] if lines is None else lines
    return estimate.estimate([config], 1, runs_dir=folder, probe=True, workers=1, say=notes.append)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[Throughput]:
    """What the benchmark returns in this test, one after another."""
    results: list[Throughput] = []
    monkeypatch.setattr(benchmark, "measure", lambda config, classes: results.pop(0))
    monkeypatch.setattr(estimate, "count_gpus", lambda environment: 0)
    return results


def test_a_later_plan_uses_what_an_earlier_one_has_measured(
    measured: list[Throughput], tmp_path: Path, data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, notes = dataclasses.replace(CONFIG, data=str(data_folder)), list[str]()
    measured.append(MEASURED)
    first = cost(config, tmp_path, notes)
    assert len(notes) == 1
    [file] = (user_cache_directory() / "throughput").iterdir()
    now = kept_throughput.time.time()
    monkeypatch.setattr(kept_throughput.time, "time", lambda: now + 180)
    later = cost(dataclasses.replace(config, lr=0.5, augment="none", seed=3), tmp_path, notes)
    assert len(notes) == 1 and not measured
    [source] = later.sources
    assert source == f"a benchmark; measured on this machine 3 min ago (delete {file} to measure again)"
    assert dataclasses.replace(later, sources=first.sources) == first
    file.unlink()
    measured.append(dataclasses.replace(MEASURED, training=10.0))
    assert cost(config, tmp_path).trial_seconds > later.trial_seconds


def test_a_benchmark_beside_other_programs_is_not_kept(
    measured: list[Throughput], tmp_path: Path, data_folder: Path
) -> None:
    config = dataclasses.replace(CONFIG, data=str(data_folder))
    measured.append(dataclasses.replace(MEASURED, disturbed=True))
    cost(config, tmp_path)
    assert not user_cache_directory().exists()


def test_the_key_holds_all_that_changes_the_speed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = tmp_path / "weights.pth"
    weights.write_bytes(b"one")
    base = dataclasses.replace(CONFIG, model="vit_ti_16", weights=str(weights))
    keys = {benchmark_key(base, 3, "cpu")}
    changes: list[dict] = [
        {"model": "vit_s_16"},
        {"image_size": 64},
        {"freeze": "backbone"},
        {"grad_checkpointing": True},
        {"precision": "bf16"},
        {"lora_rank": 4},
        {"lora_rank": 4, "lora_targets": "all"},
        {"micro_batch": 2},
        {"batch_size": base.batch_size + 1},
        {"threads": 1 if cores.default_threads(1) > 1 else 2},
        {"optimizer": "sgd"},
        {"ema": not base.ema},
        {"clip_grad": 0.0 if base.clip_grad else 1.0},
        {"drop_path": 0.0 if base.drop_path else 0.1},
        {"compile": True},
        {"cuda_graph": True},
    ]
    keys |= {benchmark_key(dataclasses.replace(base, **change), 3, "cpu") for change in changes}
    keys.add(benchmark_key(base, 4, "cpu"))
    weights.write_bytes(b"others")
    keys.add(benchmark_key(base, 3, "cpu"))
    keys.add(benchmark_key(base, 3, "cuda"))
    keys.add(benchmark_key(dataclasses.replace(base, batch_size=7), 3, "cuda"))
    for module, name, value in (
        (kept_throughput, "cpu_name", lambda: "Z80"),
        (kept_throughput, "usable_cores", lambda: 999),
        (kept_throughput.platform, "node", lambda: "another"),
        (kept_throughput, "_version", lambda package: "9"),
        (kept_throughput.harness, "__version__", "99"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, value)
            keys.add(benchmark_key(base, 3, "cpu"))
    with monkeypatch.context() as patch:
        patch.setattr(kept_throughput, "gpu_names", lambda: ["H1"])
        keys.add(benchmark_key(base, 3, "cuda"))
    assert len(keys) == 1 + len(changes) + 4 + 5 + 1
    # The learning rate does not change it; on a CPU, the batch size only because the number of threads depends on it.
    same = dataclasses.replace(base, lr=0.9, seed=4, data="elsewhere")
    assert benchmark_key(same, 3, "cpu") == benchmark_key(base, 3, "cpu")
    ours, others = (dataclasses.replace(base, threads=1, batch_size=size) for size in (16, 7))
    assert benchmark_key(ours, 3, "cpu") == benchmark_key(others, 3, "cpu")


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        '{"key": 3}',
        "[" * 100_000,
        b"\xff\xfe",
        {"key": "of another model"},
        {"time": "noon"},
        {"time": 10**400},
        {"time": float("-inf")},
        {"time": -1e308},
        {"throughput": 3},
        {"throughput": {"training": 50.0}},
        *(
            {"throughput": dataclasses.asdict(MEASURED) | change}
            for change in (
                {"training": "50"},
                {"scoring": 0},
                {"checkpoint": 1.5},
                {"checkpoint": 0},
                {"source": 3},
                {"threads": 0},
            )
        ),
    ],
    ids=lambda content: repr(content)[:40],
)
def test_a_file_that_is_damaged_or_of_another_program_is_not_used(content: str | bytes | dict) -> None:
    keep_throughput("a key", MEASURED)
    [path] = (user_cache_directory() / "throughput").iterdir()
    if isinstance(content, dict):
        path.write_text(json.dumps(json.loads(path.read_text()) | content))
    else:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert read_throughput("a key") is None
    keep_throughput("a key", MEASURED)
    kept = read_throughput("a key")
    assert kept and kept.throughput == MEASURED and 0 <= kept.age < 60


def test_what_is_not_a_file_is_not_read(tmp_path: Path) -> None:
    """A named pipe would block."""
    keep_throughput("a key", MEASURED)
    [path] = (user_cache_directory() / "throughput").iterdir()
    path.rename(tmp_path / "moved")
    path.symlink_to(tmp_path / "moved")
    assert read_throughput("a key") is None
    path.unlink()
    os.mkfifo(path)
    assert read_throughput("a key") is None
    path.unlink()
    path.mkdir()
    keep_throughput("a key", MEASURED)
    assert read_throughput("a key") is None


def test_a_folder_that_cannot_be_written_to_stops_no_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    keep_throughput("a key", MEASURED)
    assert read_throughput("a key") is None


def test_control_characters_do_not_reach_the_terminal() -> None:
    keep_throughput("a key", dataclasses.replace(MEASURED, source="\x1b[31mred"))
    kept = read_throughput("a key")
    assert kept and "\x1b" not in kept.throughput.source


def test_names_of_gpus_come_from_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    class Driver:
        """As many functions of NVML as are called, for one GPU."""

        def nvmlInit_v2(self) -> int:
            return 0

        nvmlShutdown = nvmlInit_v2

        def nvmlDeviceGetHandleByIndex_v2(self, number: int, handle: object) -> int:
            return 0 if number == 0 else 2

        def nvmlDeviceGetName(self, handle: object, name: object, length: object) -> int:
            name.value = b"NVIDIA H1"  # type: ignore[attr-defined]
            return 0

    monkeypatch.setattr(gpus, "_installed_gpus", lambda: 2)
    monkeypatch.setattr(gpus.ctypes, "CDLL", lambda name: Driver())
    assert gpus.gpu_names() == ["NVIDIA H1"]


def test_a_plan_with_a_kept_benchmark_does_not_import_torch(tmp_path: Path, data_folder: Path) -> None:
    """It is repeated while somebody edits the file, and torch takes seconds of processor time to import."""
    sweep = tmp_path / "sweep.yaml"
    options = [f"--data={data_folder}", "--model=vit_demo", "--weights=demo"]
    command = "".join(f"- {word}\n" for word in ("python", "${program}", *options, "${args}"))
    head = "program: harness/run.py\nmethod: grid\nmetric: {name: best/val_f1, goal: maximize}\n"
    sweep.write_text(f"{head}parameters:\n  lr: {{values: [0.1, 0.01]}}\ncommand:\n{command}")
    code = (
        "import sys\n"
        "from harness.cli.main import main\n"
        "from harness.sweep.plan import estimate, kept_throughput\n"
        "from harness.sweep.plan.throughput import Throughput\n"
        "key_of = kept_throughput.benchmark_key\n"
        "def benchmark_key(*values):\n"
        "    key = key_of(*values)\n"
        "    kept_throughput.keep_throughput(key, Throughput(50.0, 150.0, 1.0, 2_000_000, 'a benchmark', threads=1))\n"
        "    return key\n"
        "estimate.benchmark_key = benchmark_key\n"
        f"try: main(['sweep', 'plan', {str(sweep)!r}, '--runs-dir', {str(tmp_path / 'runs')!r}])\n"
        "except SystemExit as end: assert not end.code\n"
        "print(sorted({'torch', 'torchvision', 'accelerate', 'wandb', 'cv2', 'matplotlib'} & set(sys.modules)))\n"
    )
    environment = os.environ | {"ACCELERATE_USE_CPU": "true"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert "measured on this machine" in done.stdout and "measuring" not in done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
