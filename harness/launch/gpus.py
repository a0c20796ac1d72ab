"""The GPUs that a run may use, and the part of one that a sweep gives it. Importing this module is cheap."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from harness.errors import ConfigError

# How a sweep tells a trial which part of its GPU's memory it may have.
GPU_SHARE = "HARNESS_GPU_SHARE"
_DEVICES = Path("/dev")


def count_gpus(environment: Mapping[str, str]) -> int:
    """GPUs that a process with this environment can use, without the seconds that importing torch takes."""
    installed = _installed_gpus()
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return installed
    count = 0
    for name in (part.strip() for part in visible.split(",")):
        # CUDA stops at the first entry that is not a device. An identifier (GPU-..., MIG-...) is taken at its word.
        if not name or (name.lstrip("-").isdigit() and not 0 <= int(name) < installed):
            break
        count += 1
    return count if installed else 0


def is_spare_cpu_process(environment: Mapping[str, str]) -> bool:
    """Whether a launcher started this process beside the one that trains on a machine without GPUs.

    Known before torch is imported, which takes seconds in each process: `num_processes: auto` starts one per core.
    """
    if int(environment.get("WORLD_SIZE", "1")) == 1 or environment.get("RANK") == "0" or told_to_use_cpu(environment):
        return False
    # A container may have the devices and not NVML; torch then finds GPUs that count_gpus does not.
    return count_gpus(environment) == 0 and not any(_DEVICES.glob("nvidia[0-9]*")) and not (_DEVICES / "dxg").exists()


@contextmanager
def _driver() -> Iterator[ctypes.CDLL | None]:
    """NVML, the library of the NVIDIA driver; None if it does not start. Raises OSError if there is none."""
    nvml = ctypes.CDLL("libnvidia-ml.so.1")
    if nvml.nvmlInit_v2() != 0:
        yield None
        return
    try:
        yield nvml
    finally:
        nvml.nvmlShutdown()


def _installed_gpus() -> int:
    """GPUs the NVIDIA driver knows; where an AMD driver is loaded instead, those that torch finds."""
    count = ctypes.c_uint(0)
    try:
        with _driver() as nvml:
            return count.value if nvml and nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)) == 0 else 0
    except OSError:
        if not (_DEVICES / "kfd").exists():
            return 0
        import torch

        return torch.cuda.device_count()


def gpu_names() -> list[str]:
    """The names of the machine's GPUs, as the NVIDIA driver lists them; empty without that driver."""
    names, handle, name = [], ctypes.c_void_p(), ctypes.create_string_buffer(96)  # NVML_DEVICE_NAME_V2_BUFFER_SIZE
    with suppress(OSError), _driver() as nvml:
        for number in range(_installed_gpus()):
            if nvml and nvml.nvmlDeviceGetHandleByIndex_v2(number, ctypes.byref(handle)) == 0:
                known = nvml.nvmlDeviceGetName(handle, name, ctypes.c_uint(len(name))) == 0
                names.append(name.value.decode(errors="replace") if known else "")
    return names


def gpu_memory(name: str) -> int | None:
    """Bytes of a GPU's memory by its number, as the NVIDIA driver counts it; None if that is unknown."""
    handle, memory = ctypes.c_void_p(), (ctypes.c_ulonglong * 3)()  # nvmlMemory_t: total, free, used
    with suppress(OSError), _driver() as nvml:
        if nvml and name.isdecimal() and nvml.nvmlDeviceGetHandleByIndex_v2(int(name), ctypes.byref(handle)) == 0:
            return int(memory[0]) if nvml.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(memory)) == 0 else None
    return None


def gpu_share(environment: Mapping[str, str]) -> float:
    """The part of a GPU's memory that this process may have: 1, unless a sweep has put several trials on it."""
    text = environment.get(GPU_SHARE) or "1"
    with suppress(ValueError):
        if 0 < (share := float(text)) <= 1:
            return share
    raise ConfigError(f"{GPU_SHARE} is {text!r}; give the share of a GPU's memory, above 0 and at most 1.")


def told_to_use_cpu(environment: Mapping[str, str]) -> bool:
    """Whether ACCELERATE_USE_CPU says yes, in the words that Accelerate takes for it."""
    return environment.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes", "on", "t", "y")
