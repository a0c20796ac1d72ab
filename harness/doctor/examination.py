"""All checks of the doctor, in the order they are shown."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from harness.doctor import machine, settings, software
from harness.doctor.check import Check


def examine(runs_dir: str | Path = "runs", cache_dir: str | Path | None = None) -> list[Check]:
    """Look at everything a run needs; takes the seconds that importing torch takes."""
    from harness.data.cache import cache_directory

    found = software.probe_in_another_process()
    cache = cache_directory(cache_dir)
    checks: dict[str, Callable[[], Check]] = {
        "Python": software.python,
        "packages": software.packages,
        "torch": lambda: software.torch_check(found),
        "GPU": lambda: software.gpu(found),
        "CPU": machine.cpu,
        "memory": machine.memory,
        "shared memory": machine.shared_memory,
        "ports": machine.ports,
        "runs folder": lambda: machine.disk("runs folder", Path(runs_dir), "--runs-dir"),
        "cache folder": lambda: machine.disk("cache folder", cache, "--cache-dir or $HARNESS_CACHE_DIR"),
        "file locks": lambda: machine.locks(cache),
        "open files": machine.open_files,
        "W&B": settings.wandb_check,
        "accelerate": settings.accelerate_check,
    }
    return [_guarded(name, check) for name, check in checks.items()]


def _guarded(name: str, check: Callable[[], Check]) -> Check:
    try:
        return check()
    except Exception as error:
        detail = f"could not be examined: {type(error).__name__}: {error}"
        return Check(name, "warn", detail, "Runs may work nevertheless; look at what the message names.")
