"""Versions, code and hardware of a run."""

from __future__ import annotations

import functools
import os
import platform
import shlex
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

import harness
from harness.launch.cores import cpu_name

PACKAGES = ("torch", "torchvision", "accelerate", "wandb", "numpy", "pillow", "opencv-python-headless")


def provenance() -> dict[str, Any]:
    """The entries of the manifest that are known before the data is read."""
    return {
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": shlex.join(sys.argv),
        "versions": versions(),
        "git": code_state(),
        "hardware": hardware(),
    }


def versions() -> dict[str, str]:
    known = {"vit-harness": harness.__version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            known[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            known[package] = "not installed"
    return known


@functools.cache
def code_state() -> dict[str, Any]:
    """The git state of this code, read once: a process and those forked from it run the code as it was imported."""
    return git_state(Path(harness.__file__).parent)


def git_state(folder: Path) -> dict[str, Any]:
    """Commit of the checkout of this code, and whether files were changed since; empty outside a checkout."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()

    try:
        # A copy that is installed inside another project's checkout is not code of that checkout.
        if not git("ls-files", "--", "config.py"):
            return {}
        return {
            "commit": git("rev-parse", "HEAD"),
            "changed": bool(git("status", "--porcelain", "--untracked-files=no")),
        }
    except (OSError, subprocess.SubprocessError):
        return {}


def hardware() -> dict[str, Any]:
    return {
        "host": platform.node(),
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "gpus": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())],
    }
