"""The list of all checks, in the order in which they are printed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from harness.doctor import machine, settings, software
from harness.doctor.check import Check


def examine(runs_dir: str | Path = "runs", cache_dir: str | Path | None = None) -> list[Check]:
    """Run all checks. Takes several seconds: a subprocess imports torch."""
    from harness.data.cache import cache_directory

    torch_facts = software.probe_in_subprocess()
    cache = cache_directory(cache_dir)
    checks: dict[str, Callable[[], Check]] = {
        "Python": software.python,
        "packages": software.packages,
        "torch": lambda: software.torch_check(torch_facts),
        "GPU": lambda: software.gpu(torch_facts),
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
        detail = f"the check itself failed: {type(error).__name__}: {error}"
        return Check(name, "warn", detail, "Runs may still work. The message names the cause.")
