from __future__ import annotations

import errno
import fcntl
import importlib.util
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from harness.doctor import check, machine, settings, software
from harness.doctor.check import Check, render, to_json
from harness.doctor.examination import examine
from tests import ROOT
from tests.helpers.text_files import write

KEY = "0123456789" * 4
HEALTHY = {"errors": {}, "devices": [], "torch": "2.15.0+cu132", "cuda": "13.2"}
GPU = {"name": "NVIDIA H200", "bytes": 150e9, "free": 149e9, "bf16": True}


@pytest.fixture(autouse=True)
def clean_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A user without logins, configurations or GPUs."""
    for name in [name for name in os.environ if name.startswith("WANDB_")] + ["NETRC", "HF_HOME", "XDG_CACHE_HOME"]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(software, "count_gpus", lambda environment: 0)


@pytest.fixture
def server() -> Iterator[str]:
    """A web server that answers 404."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    serving = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=serving.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{serving.server_port}"
    serving.shutdown()
    serving.server_close()


def test_every_check_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(software, "probe_in_subprocess", lambda: HEALTHY)
    checks = examine(tmp_path / "runs", tmp_path / "cache")
    assert [result.name for result in checks] == [
        *("Python", "packages", "torch", "GPU", "CPU", "memory", "shared memory", "ports"),
        *("runs folder", "cache folder", "file locks", "open files", "W&B", "accelerate"),
    ]
    assert all(bool(result.remedy) == (result.state != "ok") for result in checks)
    assert not any("the check itself failed" in result.detail for result in checks)
    assert json.loads(to_json(checks))[3] == {
        "name": "GPU",
        "state": "ok",
        "detail": "none: runs use the CPU",
        "remedy": "",
    }
    assert list(tmp_path.iterdir()) == []


def test_a_broken_check_does_not_hide_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Check:
        raise RuntimeError("no such thing")

    monkeypatch.setattr(software, "probe_in_subprocess", lambda: HEALTHY)
    monkeypatch.setattr(machine, "memory", broken)
    found = {result.name: result for result in examine()}
    assert found["memory"].detail == "the check itself failed: RuntimeError: no such thing"
    assert found["open files"].state == "ok"


def test_text_is_aligned_and_wrapped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    checks = [Check("CPU", "ok", "8 cores"), Check("shared memory", "warn", "word " * 20, "Do this.")]
    assert render(checks).splitlines() == [
        "ok    CPU            8 cores",
        "warn  shared memory  " + " ".join(["word"] * 12),
        "                     " + " ".join(["word"] * 8),
        "                     -> Do this.",
        "",
        "Checks failed: 0. Warnings: 1.",
    ]
    assert render(checks[:1]).endswith("Everything works.")


def test_the_probe_agrees_with_torch_and_writes_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    found = software.probe_in_subprocess()
    assert (found["torch"], found["cuda"], found["errors"]) == (torch.__version__, torch.version.cuda, {})
    assert len(found["devices"]) == torch.cuda.device_count()
    assert list(tmp_path.rglob("*")) == [tmp_path / "here"]  # its home folder included


def test_a_crash_of_torch_is_a_failed_check(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 'libcudart.so.13: no such file' >&2\nkill -ABRT $$\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    found = software.torch_check(software.probe_in_subprocess())
    assert found.state == "fail"
    assert found.detail == "importing torch ended with code -6: libcudart.so.13: no such file"


def test_a_mismatched_torchvision_has_a_remedy() -> None:
    error = "RuntimeError: operator torchvision::nms does not exist"
    found = software.torch_check({**HEALTHY, "errors": {"torchvision": error}})
    assert found.detail == f"import torchvision: {error}"
    assert "one release and one build" in found.remedy


@pytest.mark.parametrize(
    ("found", "present", "state", "words"),
    [
        ({"devices": [GPU, GPU]}, 2, "ok", "0: NVIDIA H200, 149 of 150 GB free, bf16; 1: NVIDIA H200"),
        ({"devices": [{**GPU, "bf16": False}]}, 1, "warn", "no bf16"),
        ({"devices": [{**GPU, "free": 9e9}]}, 1, "warn", "9 of 150 GB free"),
        ({"cuda_error": "The NVIDIA driver on your system is too old"}, 4, "fail", "4 present.*too old"),
        ({"cuda": None, "cuda_error": None}, 1, "fail", "torch is built for the CPU"),
        ({"crash": "gone"}, 1, "fail", "1 present, but not usable"),
    ],
)
def test_gpus(monkeypatch: pytest.MonkeyPatch, found: dict[str, Any], present: int, state: str, words: str) -> None:
    monkeypatch.setattr(software, "count_gpus", lambda environment: present)
    result = software.gpu({**HEALTHY, **found})
    assert result.state == state
    assert re.search(words, result.detail)


def test_missing_and_old_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"torch": "2.12.1+cu130", "click": "8.0"}
    monkeypatch.setattr(software, "_version", versions.get)
    needed = ["torch!=2.13.0,>=2.11", "click>=8.1.7", "tqdm>=4.66", "ruff; extra == 'dev'"]
    monkeypatch.setattr("importlib.metadata.requires", lambda name: needed)
    found = software.packages()
    assert found.state == "fail"
    assert found.remedy.startswith("Missing or of a wrong version: click>=8.1.7, tqdm>=4.66. ")
    assert "torch 2.12.1+cu130, torchvision missing" in found.detail


def test_container_limits_count(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine, "cpu_quota", lambda: 0.5)
    assert "(the quota of this container is 0.5)" in machine.cpu().detail
    files = {
        "proc/meminfo": "MemTotal: 90000000 kB\nMemAvailable: 50000000 kB\n",
        "proc/self/cgroup": "0::/slurm/job\n",
        "sys/fs/cgroup/slurm/job/memory.max": "max\n",
    }
    assert machine.memory(write(tmp_path / "machine", files)).detail == "51.2 GB free of 92.2 GB"
    # What the job has used already is not free, and the limit may be that of an outer group.
    outer = {"sys/fs/cgroup/slurm/memory.max": "8000000000", "sys/fs/cgroup/slurm/memory.current": "5000000000"}
    found = machine.memory(write(tmp_path / "job", files | outer))
    assert (found.state, found.detail) == ("warn", "3.0 GB free of 8.0 GB")
    assert machine.memory(tmp_path / "nothing").detail == "unknown"


def test_name_without_address(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(name: str) -> str:
        raise OSError("Name or service not known")

    monkeypatch.setattr("socket.gethostbyname", unknown)
    assert machine.ports().state == "warn"
    assert "GLOO_SOCKET_IFNAME" in machine.ports().remedy


def test_question_without_answer_is_given_up() -> None:
    never = threading.Event()
    assert not check.succeeds_within(0.05, never.wait)
    never.set()
    assert check.succeeds_within(5, lambda: True)


def test_folder_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    found = machine.disk("runs folder", tmp_path / "file" / "runs", "--runs-dir")
    assert (found.state, found.detail) == ("fail", f"{tmp_path / 'file' / 'runs'}: Not a directory")
    assert "--runs-dir" in found.remedy


def test_full_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=1e9))
    assert machine.disk("cache folder", tmp_path, "--cache-dir").state == "warn"


def test_locks_that_are_not_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert machine.locks(tmp_path / "not" / "yet").state == "ok"
    monkeypatch.setattr(fcntl, "flock", lambda file, operation: None)
    assert machine.locks(tmp_path).state == "fail"

    def unsupported(file: object, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    assert machine.locks(tmp_path).detail.endswith("No locks available")


def test_no_login_is_named_with_what_to_do() -> None:
    found = settings.wandb_check()
    assert (found.state, found.detail) == ("warn", "not logged in to api.wandb.ai")
    assert "wandb login" in found.remedy


@pytest.mark.parametrize("mode", ["offline", "disabled", "dryrun"])
def test_offline_by_choice_is_fine(monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    monkeypatch.setenv("WANDB_MODE", mode)
    assert settings.wandb_check().state == "ok"


@pytest.mark.parametrize("where", ["environment", "netrc", "settings"])
def test_login_is_found_and_the_server_asked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, server: str, where: str
) -> None:
    monkeypatch.setattr(settings, "ANSWER_TIMEOUT", 60)  # other work may keep the server waiting
    monkeypatch.setenv("WANDB_BASE_URL", server + "/")
    if where == "environment":
        monkeypatch.setenv("WANDB_API_KEY", KEY)
    if where == "netrc":
        (tmp_path / ".netrc").write_text(f"machine {server.removeprefix('http://')} login user password {KEY}\n")
    if where == "settings":
        (tmp_path / ".config/wandb").mkdir(parents=True)
        (tmp_path / ".config/wandb/settings").write_text(f"[default]\napi_key = {KEY}\n")
    found = settings.wandb_check()
    assert found.state == "ok"
    assert found.detail.endswith(f"; {server} answers")
    assert KEY not in to_json([found])


def test_login_for_another_server_does_not_count(tmp_path: Path) -> None:
    (tmp_path / ".netrc").write_text(f"machine example.org login user password {KEY}\n")
    assert settings.wandb_check().detail == "not logged in to api.wandb.ai"


def test_server_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:1")
    found = settings.wandb_check()
    assert (found.state, found.detail) == ("warn", "logged in (WANDB_API_KEY), but http://127.0.0.1:1 does not answer")


def test_settings_of_the_folder_come_before_those_of_the_user(tmp_path: Path) -> None:
    for folder, mode in ((".config/wandb", "online"), ("wandb", "offline")):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "settings").write_text(f"[default]\nmode = {mode}\n")
    assert settings.wandb_check().detail.startswith("mode offline")


@pytest.mark.parametrize(("name", "value"), [("WANDB_BASE_URL", "api.wandb.ai"), ("WANDB_API_KEY", "abc")])
def test_settings_that_cannot_work(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    assert settings.wandb_check().state == "fail"


@pytest.mark.parametrize(
    ("text", "state", "words"),
    [
        ("distributed_type: MULTI_GPU\nnum_processes: 8\nmixed_precision: bf16\n", "ok", "num_processes 8"),
        ("distributed_type: DEEPSPEED\n", "warn", "distributed_type DEEPSPEED"),
        ("a: [", "warn", "cannot be read"),
        ("- a list\n", "warn", "cannot be read"),
        ("", "warn", "cannot be read"),
    ],
)
def test_default_configuration_of_accelerate(tmp_path: Path, text: str, state: str, words: str) -> None:
    assert settings.accelerate_check().detail.startswith("no default configuration file")
    file = tmp_path / ".cache/huggingface/accelerate/default_config.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(text)
    found = settings.accelerate_check()
    assert found.state == state
    assert words in found.detail


@pytest.mark.slow
@pytest.mark.parametrize(("home", "folder"), [("HF_HOME", "accelerate"), ("XDG_CACHE_HOME", "huggingface/accelerate")])
def test_default_configuration_is_the_one_accelerate_reads(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, home: str, folder: str
) -> None:
    monkeypatch.setenv(home, str(tmp_path / home))
    spec = importlib.util.find_spec("accelerate.commands.config.config_args")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)  # reads the variables when it is imported: a second time here
    spec.loader.exec_module(module)
    file = Path(module.default_config_file)
    assert file.parent == tmp_path / home / folder
    file.parent.mkdir(parents=True)
    file.write_text("distributed_type: FSDP\n")
    assert str(file) in settings.accelerate_check().detail


def test_doctor_does_without_torch_and_wandb_itself() -> None:
    code = (
        "import sys\n"
        "from harness.doctor import examination, software\n"
        "software.probe_in_subprocess = lambda: {'crash': 'x'}\n"
        "examination.examine(); sys.exit('torch' in sys.modules or 'wandb' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)}).returncode == 0
