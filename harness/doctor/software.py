"""Python, packages, torch and the GPUs it can use."""

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
from harness.launch.launch import count_gpus

PROJECT = "vit-harness"
SHOWN = ("torch", "torchvision", "accelerate", "torchmetrics", "wandb", "opencv-python-headless")


def probe() -> None:
    """Print as JSON what torch and its companions say; runs in a process of its own, for they may crash."""
    found: dict[str, Any] = {"errors": {}, "devices": []}
    for module in ("torch", "torchvision", "cv2"):
        try:
            __import__(module)
        except Exception as error:
            found["errors"][module] = f"{type(error).__name__}: {error}"
    if "torch" not in found["errors"]:
        import torch

        found |= {"torch": torch.__version__, "cuda": torch.version.cuda}
        try:
            torch.cuda.init()
            for index in range(torch.cuda.device_count()):
                torch.ones(8, 8, device=f"cuda:{index}").matmul(torch.ones(8, 8, device=f"cuda:{index}")).cpu()
                with torch.cuda.device(index):
                    bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
                free, total = torch.cuda.mem_get_info(index)
                name = torch.cuda.get_device_name(index)
                found["devices"].append({"name": name, "bytes": total, "free": free, "bf16": bf16})
        except Exception as error:
            found["cuda_error"] = (str(error) or type(error).__name__).splitlines()[0]
    print(json.dumps(found))


def probe_in_another_process() -> dict[str, Any]:
    """What `probe` prints, or {"crash": why there is nothing}."""
    root = str(Path(__file__).resolve().parents[2])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))}
    command = [sys.executable, "-c", "from harness.doctor.software import probe; probe()"]
    try:
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=180, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return {"crash": f"importing torch and using the GPU did not end: {error}"}
    try:
        return json.loads(ended.stdout.splitlines()[-1])
    except (ValueError, IndexError):
        last = (ended.stderr.strip().splitlines() or ["no message"])[-1]
        return {"crash": f"importing torch ended with code {ended.returncode}: {last}"}


def python() -> Check:
    version = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    if not sys.platform.startswith("linux"):
        return Check("Python", "warn", version, "Only Linux is tested: elsewhere a killed launcher may leave trainers.")
    return Check("Python", "ok", version)


def packages() -> Check:
    detail = ", ".join(f"{name} {_version(name) or 'missing'}" for name in SHOWN)
    if unmet := _unmet():
        remedy = f"Not there as needed: {', '.join(unmet)}. Install the project again: pip install -e ."
        return Check("packages", "fail", detail, remedy)
    return Check("packages", "ok", detail)


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _unmet() -> list[str]:
    """What this project requires and does not find; without its metadata (not installed), of what is shown here."""
    from packaging.requirements import Requirement

    try:
        texts = importlib.metadata.requires(PROJECT) or []
    except importlib.metadata.PackageNotFoundError:
        texts = list(SHOWN)
    needed = [Requirement(text) for text in texts if "extra ==" not in text]
    return [
        f"{one.name}{one.specifier}"
        for one in needed
        if (version := _version(one.name)) is None or not one.specifier.contains(version, prereleases=True)
    ]


def torch_check(found: Mapping[str, Any]) -> Check:
    if "crash" in found:
        return Check("torch", "fail", found["crash"], "Install torch and torchvision again, as one pair of versions.")
    if found["errors"]:
        module, error = next(iter(found["errors"].items()))
        remedy = {
            "torch": "Install torch again; the message names what is missing.",
            "torchvision": "torch and torchvision must be of one release and one build (CPU or the same CUDA): install"
            " both in one command.",
            "cv2": "Install opencv-python-headless, and remove other opencv packages: they overwrite each other.",
        }[module]
        return Check("torch", "fail", f"import {module}: {error}", remedy)
    build = f"for CUDA {found['cuda']}" if found["cuda"] else "for the CPU"
    return Check("torch", "ok", f"{found['torch']} {build}; torchvision and cv2 import with it")


def gpu(found: Mapping[str, Any]) -> Check:
    devices, present = found.get("devices", []), count_gpus(os.environ)
    if not devices and not present:
        hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
        why = f" that CUDA_VISIBLE_DEVICES={hidden} lets through" if hidden is not None else ""
        return Check("GPU", "ok", f"none{why}: runs compute on the CPU")
    if not devices or "cuda_error" in found:
        why = found.get("cuda_error") or ("torch is built for the CPU" if not found.get("cuda") else "torch finds none")
        remedy = (
            "Install a torch built for a CUDA version the driver supports (`nvidia-smi` shows it), or a newer driver."
        )
        return Check("GPU", "fail", f"{present} present, but not usable: {why}", remedy)
    detail = "; ".join(
        f"{index}: {one['name']}, {one['free'] / GB:.0f} of {one['bytes'] / GB:.0f} GB free"
        f", {'bf16' if one['bf16'] else 'no bf16'}"
        for index, one in enumerate(devices)
    )
    if not all(one["bf16"] for one in devices):
        return Check(
            "GPU", "warn", detail, "--precision auto takes fp16 here, which may overflow: watch for NaN losses."
        )
    if any(one["free"] < one["bytes"] / 2 for one in devices):
        return Check(
            "GPU", "warn", detail, "Other programs hold its memory (`nvidia-smi`): end them, or use another GPU."
        )
    return Check("GPU", "ok", detail)
