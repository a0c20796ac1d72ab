"""Checks of Python, packages, torch and the GPUs that torch can use."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.doctor.check import GB, Check
from harness.errors import first_line
from harness.launch.gpus import count_gpus

PROJECT = "vit-harness"
REPORTED_PACKAGES = ("torch", "torchvision", "accelerate", "wandb", "opencv-python-headless")


def probe() -> None:
    """Print facts about torch, torchvision and cv2 as JSON. Runs in a subprocess because importing them may crash."""
    facts: dict[str, Any] = {"errors": {}, "devices": []}
    for module in ("torch", "torchvision", "cv2"):
        try:
            __import__(module)
        except Exception as error:
            facts["errors"][module] = f"{type(error).__name__}: {error}"
    if "torch" not in facts["errors"]:
        import torch

        facts |= {"torch": torch.__version__, "cuda": torch.version.cuda}
        try:
            torch.cuda.init()
            for index in range(torch.cuda.device_count()):
                torch.ones(8, 8, device=f"cuda:{index}").matmul(torch.ones(8, 8, device=f"cuda:{index}")).cpu()
                with torch.cuda.device(index):
                    bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
                free, total = torch.cuda.mem_get_info(index)
                name = torch.cuda.get_device_name(index)
                facts["devices"].append({"name": name, "bytes": total, "free": free, "bf16": bf16})
        except Exception as error:
            facts["cuda_error"] = first_line(error)
    print(json.dumps(facts))


def probe_in_subprocess() -> dict[str, Any]:
    """The facts that `probe` prints, or {"crash": reason}."""
    root = str(Path(__file__).resolve().parents[2])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))}
    command = [sys.executable, "-c", "from harness.doctor.software import probe; probe()"]
    try:
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=180, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return {"crash": f"importing torch and using the GPU did not finish: {error}"}
    try:
        return json.loads(ended.stdout.splitlines()[-1])
    except (ValueError, IndexError):
        last = (ended.stderr.strip().splitlines() or ["no message"])[-1]
        return {"crash": f"importing torch ended with code {ended.returncode}: {last}"}


def python() -> Check:
    version = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    if not sys.platform.startswith("linux"):
        return Check("Python", "warn", version, "Only Linux is tested. A killed launcher may leave processes.")
    return Check("Python", "ok", version)


def packages() -> Check:
    detail = ", ".join(f"{name} {_version(name) or 'missing'}" for name in REPORTED_PACKAGES)
    if unmet := _unmet():
        remedy = f"Missing or of a wrong version: {', '.join(unmet)}. Install the project again: pip install -e ."
        return Check("packages", "fail", detail, remedy)
    return Check("packages", "ok", detail)


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _unmet() -> list[str]:
    """Requirements that are not met. If the project is not installed, only the reported packages are checked."""
    from packaging.requirements import Requirement

    try:
        texts = importlib.metadata.requires(PROJECT) or []
    except importlib.metadata.PackageNotFoundError:
        texts = list(REPORTED_PACKAGES)
    needed = [Requirement(text) for text in texts if "extra ==" not in text]
    return [
        f"{requirement.name}{requirement.specifier}"
        for requirement in needed
        if (version := _version(requirement.name)) is None
        or not requirement.specifier.contains(version, prereleases=True)
    ]


def torch_check(facts: Mapping[str, Any]) -> Check:
    if "crash" in facts:
        return Check("torch", "fail", facts["crash"], "Install torch and torchvision again, in one command.")
    if facts["errors"]:
        module, error = next(iter(facts["errors"].items()))
        remedy = {
            "torch": "Install torch again; the message names what is missing.",
            "torchvision": "torch and torchvision must belong to one release and one build (CPU or the same CUDA)."
            " Install both in one command.",
            "cv2": "Install opencv-python-headless and remove other opencv packages: they overwrite each other.",
        }[module]
        return Check("torch", "fail", f"import {module}: {error}", remedy)
    build = f"for CUDA {facts['cuda']}" if facts["cuda"] else "for the CPU"
    return Check("torch", "ok", f"{facts['torch']} {build}; torchvision and cv2 import with it")


def gpu(facts: Mapping[str, Any]) -> Check:
    devices, present = facts.get("devices", []), count_gpus(os.environ)
    if not devices and not present:
        hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
        scope = f" visible with CUDA_VISIBLE_DEVICES={hidden}" if hidden is not None else ""
        return Check("GPU", "ok", f"none{scope}: runs use the CPU")
    if not devices or "cuda_error" in facts:
        cause = facts.get("cuda_error") or ("torch finds no GPU" if facts.get("cuda") else "torch is built for the CPU")
        remedy = "Install torch for a CUDA version that the driver supports (see `nvidia-smi`), or a newer driver."
        return Check("GPU", "fail", f"{present} present, but not usable: {cause}", remedy)
    detail = "; ".join(
        f"{index}: {device['name']}, {device['free'] / GB:.0f} of {device['bytes'] / GB:.0f} GB free"
        f", {'bf16' if device['bf16'] else 'no bf16'}"
        for index, device in enumerate(devices)
    )
    if not all(device["bf16"] for device in devices):
        remedy = "--precision auto uses fp16 here, which may overflow. Watch for NaN losses."
        return Check("GPU", "warn", detail, remedy)
    if any(device["free"] < device["bytes"] / 2 for device in devices):
        remedy = "Other programs use GPU memory (see `nvidia-smi`). End them, or use another GPU."
        return Check("GPU", "warn", detail, remedy)
    return Check("GPU", "ok", detail)
