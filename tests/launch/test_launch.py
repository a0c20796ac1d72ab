from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.errors import ConfigError
from harness.launch import launch
from harness.launch.gpus import count_gpus
from harness.launch.proc import is_running
from tests import ROOT
from tests.helpers.waiting import wait_for

# Seconds for processes to end, on a machine with other work.
PATIENT = 60

# What a trainer does as far as a launcher can tell. It leaves one file per process, and a line for each SIGTERM.
TRAINER = """
import json, os, signal, subprocess, sys, time
from pathlib import Path
from harness.launch.launch import die_with_parent

folder, mode, *rest = sys.argv[1:]
die_with_parent()
me = Path(folder) / f"trainer-{os.environ.get('RANK', 0)}"

def stop(signum, frame):
    with open(f"{me}.signals", "a") as file:
        file.write(f"{signum}\\n")
    if mode != "stubborn":
        signal.signal(signal.SIGALRM, lambda *_: os._exit(128 + signum))
        signal.setitimer(signal.ITIMER_REAL, 0.5)  # time for a second signal, were there one

signal.signal(signal.SIGTERM, stop)
me.with_suffix(".tmp").write_text(json.dumps({"pid": os.getpid(), "env": dict(os.environ), "arguments": rest}))
me.with_suffix(".tmp").rename(f"{me}.json")
if mode == "exit":
    sys.exit(int(rest[0]))
if mode == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
if mode == "leave":
    left = subprocess.Popen(["sleep", "600"], start_new_session=True)
    (Path(folder) / "left").write_text(str(left.pid))
    sys.exit(0)
while True:
    time.sleep(0.05)
"""

LAUNCHER = """
import sys
from pathlib import Path
from harness.launch import launch
launch.SECOND_SIGNAL_SECONDS = 1.0
script, processes, grace, *arguments = sys.argv[1:]
sys.exit(launch.launch(arguments, num_processes=int(processes), script=Path(script), grace=float(grace)))
"""


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "trainer.py"
    path.write_text(TRAINER)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return path


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(script: Path, tmp_path: Path) -> Iterator[Start]:
    """Starts a launcher process of `processes` trainers and waits until all of them run."""
    started: list[subprocess.Popen[str]] = []

    def heed_signals() -> None:
        """A test run in the background of a shell has its children ignore SIGINT."""
        for signum in (signal.SIGINT, signal.SIGHUP):
            signal.signal(signum, signal.SIG_DFL)

    def start(mode: str, processes: int = 1, grace: float = 20, **options: object) -> subprocess.Popen[str]:
        options.setdefault("preexec_fn", heed_signals)
        command = [sys.executable, "-c", LAUNCHER, str(script), str(processes), str(grace), str(tmp_path), mode]
        launcher = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **options)  # type: ignore[call-overload]
        started.append(launcher)
        assert wait_for(lambda: len(list(tmp_path.glob("trainer-*.json"))) == processes, 120)
        return launcher

    yield start
    for launcher in started:
        launcher.kill()
        launcher.communicate()
    for pid in trainers(tmp_path):
        if is_running(pid):
            os.kill(pid, signal.SIGKILL)


def trainers(folder: Path) -> list[int]:
    return [json.loads(file.read_text())["pid"] for file in sorted(folder.glob("trainer-*.json"))]


def signals(folder: Path) -> list[str]:
    """What each trainer noted, in order of rank."""
    return [file.read_text() for file in sorted(folder.glob("trainer-*.signals"))]


@pytest.mark.parametrize(("mode", "expected"), [(["exit", "0"], 0), (["exit", "3"], 3), (["kill"], 128 + 9)])
def test_exit_code_is_passed_on(script: Path, tmp_path: Path, mode: list[str], expected: int) -> None:
    assert launch.launch([str(tmp_path), *mode], script=script, grace=5) == expected


def test_arguments_and_environment_arrive(script: Path, tmp_path: Path) -> None:
    arguments = ["--name=a b", "--lr=1e-05", "", "*"]
    env = {**os.environ, "RANK": "3", "WORLD_SIZE": "8", "MINE": "kept", "ACCELERATE_MIXED_PRECISION": "bf16"}
    assert launch.launch([str(tmp_path), "exit", "0", *arguments], env=env, script=script) == 0
    seen = json.loads((tmp_path / "trainer-0.json").read_text())
    assert seen["arguments"] == ["0", *arguments]
    assert (seen["env"]["MINE"], seen["env"]["ACCELERATE_MIXED_PRECISION"]) == ("kept", "bf16")
    assert "WORLD_SIZE" not in seen["env"]


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signal_is_passed_on_once(start: Start, tmp_path: Path, signum: int) -> None:
    launcher = start("wait")
    launcher.send_signal(signum)
    launcher.send_signal(signum)
    assert launcher.wait(PATIENT) == 128 + signum
    assert signals(tmp_path) == ["15\n"]
    assert not any(is_running(pid) for pid in trainers(tmp_path))
    assert "the run saves its state and stops, within 20 s" in launcher.stderr.read()  # type: ignore[union-attr]


def test_trainer_that_does_not_stop_is_killed(start: Start, tmp_path: Path) -> None:
    launcher = start("stubborn", grace=0.5)
    launcher.terminate()
    assert launcher.wait(PATIENT) == 128 + signal.SIGTERM
    assert signals(tmp_path) == ["15\n"]
    assert not any(is_running(pid) for pid in trainers(tmp_path))


@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_second_signal_does_not_wait(start: Start, tmp_path: Path, processes: int) -> None:
    launcher = start("stubborn", processes, grace=600)
    assert launcher.stderr is not None
    launcher.send_signal(signal.SIGINT)
    assert launcher.stderr.readline() == "SIGINT: the run saves its state and stops, within 600 s.\n"
    time.sleep(launch.SAME_SIGNAL_SECONDS + 0.1)
    launcher.send_signal(signal.SIGINT)
    assert launcher.wait(PATIENT) == 128 + signal.SIGINT
    assert not any(is_running(pid) for pid in trainers(tmp_path))
    assert "SIGINT again: the run is killed in 1 s." in launcher.stderr.read()


@pytest.mark.slow
def test_a_failed_rank_is_not_followed_by_a_banner(
    script: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert launch.launch([str(tmp_path), "exit", "3"], num_processes=2, script=script, grace=5) == 1
    assert "Traceback" not in capfd.readouterr().err
    assert launch.launch([str(tmp_path), "kill"], num_processes=2, script=script, grace=5) == 1
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1
    assert re.fullmatch(r"Error: training process [01] was ended by SIGKILL\.", lines[0])
    assert not list((tmp_path / "temporary").iterdir())  # torch elastic makes a folder for logs


def test_trainer_ends_when_its_launcher_is_killed(start: Start, tmp_path: Path) -> None:
    launcher = start("wait")
    launcher.kill()
    assert wait_for(lambda: not any(is_running(pid) for pid in trainers(tmp_path)), PATIENT)
    assert signals(tmp_path) == ["15\n"]


def test_what_a_trainer_leaves_behind_is_ended(script: Path, tmp_path: Path) -> None:
    assert launch.launch([str(tmp_path), "leave"], script=script, grace=5) == 0
    assert not is_running(int((tmp_path / "left").read_text()))


def test_ignored_hangup_stays_ignored(start: Start, tmp_path: Path) -> None:
    launcher = start("wait", preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    launcher.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        launcher.wait(0.5)
    launcher.terminate()
    assert launcher.wait(PATIENT) == 128 + signal.SIGTERM


def test_handlers_are_put_back(script: Path, tmp_path: Path) -> None:
    before = [signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    launch.launch([str(tmp_path), "exit", "0"], script=script)
    assert [signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before


@pytest.mark.slow
def test_two_processes_are_each_told_once(start: Start, tmp_path: Path) -> None:
    launcher = start("wait", processes=2)
    launcher.terminate()
    assert launcher.wait(PATIENT) == 128 + signal.SIGTERM
    assert signals(tmp_path) == ["15\n", "15\n"]
    assert not any(is_running(pid) for pid in trainers(tmp_path))
    environments = [json.loads(file.read_text())["env"] for file in sorted(tmp_path.glob("trainer-*.json"))]
    assert [env["RANK"] for env in environments] == ["0", "1"]
    assert {env["WORLD_SIZE"] for env in environments} == {"2"}
    assert {env["ACCELERATE_USE_CPU"] for env in environments} == {"true"}
    assert "OMP_NUM_THREADS" not in launcher.stderr.read()  # type: ignore[union-attr]
    assert not list((tmp_path / "temporary").iterdir())


@pytest.mark.slow
def test_two_processes_end_when_their_launcher_is_killed(start: Start, tmp_path: Path) -> None:
    launcher = start("wait", processes=2)
    launcher.kill()
    assert wait_for(lambda: not any(is_running(pid) for pid in trainers(tmp_path)), PATIENT)
    assert signals(tmp_path) == ["15\n", "15\n"]


@pytest.mark.slow
def test_accelerate_launch_takes_nothing_from_the_users_defaults(
    script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Two GPUs, pretended; a default configuration that asks for DeepSpeed in fp16 on 7 of them."""
    defaults = tmp_path / "hf" / "accelerate" / "default_config.yaml"
    defaults.parent.mkdir(parents=True)
    defaults.write_text(
        "compute_environment: LOCAL_MACHINE\ndistributed_type: DEEPSPEED\nnum_processes: 7\nmixed_precision: fp16\n"
        "gpu_ids: '0'\ndeepspeed_config: {zero_stage: 3}\n"
    )
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.delenv("ACCELERATE_USE_CPU")
    monkeypatch.setattr(launch, "count_gpus", lambda environment: 2)
    assert launch.launch([str(tmp_path), "exit", "0", "--lr=1"], script=script) == 0
    seen = [json.loads(file.read_text()) for file in sorted(tmp_path.glob("trainer-*.json"))]
    assert [one["env"]["LOCAL_RANK"] for one in seen] == ["0", "1"]
    assert [one["arguments"] for one in seen] == [["0", "--lr=1"]] * 2
    assert {one["env"]["ACCELERATE_MIXED_PRECISION"] for one in seen} == {"no"}
    assert not any(name.startswith("ACCELERATE_DEEPSPEED") for one in seen for name in one["env"])
    assert "were not passed" not in capfd.readouterr().err


@pytest.mark.parametrize(
    ("processes", "gpus", "message"), [(0, 0, "give 1 or more"), (-2, 4, "give 1 or more"), (3, 2, "2 GPU.*_USE_CPU")]
)
def test_impossible_numbers_of_processes(
    monkeypatch: pytest.MonkeyPatch, processes: int, gpus: int, message: str
) -> None:
    monkeypatch.setattr(launch, "count_gpus", lambda environment: gpus)
    with pytest.raises(ConfigError, match=message):
        launch.launch([], num_processes=processes, env={})


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        (None, 4),
        ("0,1", 2),
        ("2", 1),
        ("", 0),
        ("-1", 0),
        ("0,-1,1", 1),
        ("1, 3", 2),
        ("0,9,1", 1),
        ("GPU-5a,MIG-7", 2),
    ],
)
def test_gpus_that_can_be_used(monkeypatch: pytest.MonkeyPatch, visible: str | None, expected: int) -> None:
    monkeypatch.setattr("harness.launch.gpus._installed_gpus", lambda: 4)
    assert count_gpus({} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}) == expected


def test_no_driver_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.launch.gpus._installed_gpus", lambda: 0)
    assert count_gpus({"CUDA_VISIBLE_DEVICES": "GPU-5a"}) == 0


def test_gpus_are_those_torch_finds() -> None:
    import torch

    assert count_gpus(os.environ) == torch.cuda.device_count()


def test_free_port_can_be_bound() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", launch.free_port()))


def test_parent_gone_before_the_kernel_knew() -> None:
    code = "from harness.launch.launch import die_with_parent; die_with_parent(parent=-1); print('still here')"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, cwd=ROOT, check=False)
    assert (ended.returncode, ended.stdout) == (-signal.SIGTERM, b"")


def test_import_is_light() -> None:
    code = "import sys, harness.launch.launch; sys.exit(bool({'torch', 'accelerate', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
