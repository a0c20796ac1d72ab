"""Processes that a launcher starts on a machine without GPUs, beside the one that trains."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.launch import gpus
from harness.launch.launch import RUN

SECOND_OF_TWO = {"RANK": "1", "WORLD_SIZE": "2"}


@pytest.fixture(autouse=True)
def devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder /dev of a machine without GPUs."""
    monkeypatch.setattr(gpus, "_DEVICES", tmp_path)
    monkeypatch.setattr(gpus, "_installed_gpus", lambda: 0)
    return tmp_path


def test_without_gpus_all_but_the_first_process_are_spare(devices: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert gpus.is_spare_cpu_process(SECOND_OF_TWO)
    assert not gpus.is_spare_cpu_process({"RANK": "0", "WORLD_SIZE": "2"})
    assert not gpus.is_spare_cpu_process({})
    assert not gpus.is_spare_cpu_process(SECOND_OF_TWO | {"ACCELERATE_USE_CPU": "true"})
    (devices / "nvidia0").touch()  # a container with the device and without the library that counts it
    assert not gpus.is_spare_cpu_process(SECOND_OF_TWO)
    (devices / "nvidia0").unlink()
    monkeypatch.setattr(gpus, "_installed_gpus", lambda: 2)
    assert not gpus.is_spare_cpu_process(SECOND_OF_TWO)


@pytest.mark.skipif(gpus.count_gpus(os.environ) > 0, reason="it trains on the GPUs here")
def test_a_spare_process_leaves_before_torch_is_imported(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise SystemExit(77)")
    command = [sys.executable, str(RUN), f"--data={tmp_path}"]
    environment = {**os.environ, **SECOND_OF_TWO, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    done = subprocess.run(command, env=environment | {"RANK": "0"}, capture_output=True, text=True, check=False)
    assert done.returncode == 77
