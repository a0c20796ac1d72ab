"""Mode, folder, keywords and settings of wandb.init. W&B's environment variables take precedence over defaults."""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path
from typing import Any

from harness.config import RunConfig
from harness.errors import first_line

PROJECT = "vit-harness"

# The name of the sweep, in trials of `harness sweep run`. A W&B agent does not set it.
OWN_SWEEP = "HARNESS_SWEEP"

# Seconds; WANDB_INIT_TIMEOUT and WANDB_FINISH_TIMEOUT take precedence.
INIT_TIMEOUT = 10
FINISH_TIMEOUT = 30


def folder_for(folder: Path) -> Path:
    """The folder that holds `wandb/`: WANDB_DIR if a user (not a W&B agent) has set it, else the run folder."""
    chosen = os.environ.get("WANDB_DIR")
    return Path(chosen).expanduser() if chosen and not os.environ.get("WANDB_SWEEP_ID") else folder


def is_disabled() -> bool:
    """Whether W&B is switched off, known before wandb is imported, which takes a second of processor time."""
    return os.environ.get("WANDB_MODE") == "disabled"


def choose_mode() -> tuple[str, str]:
    """The mode from W&B's settings and login, and the reason if it is offline. Never prompts."""
    import wandb

    settings = wandb.setup(settings=wandb.Settings(**_quiet())).settings
    mode = {"dryrun": "offline", "run": "online"}.get(settings.mode, settings.mode)
    if mode in ("disabled", "offline"):
        return mode, "W&B is set to offline"
    try:
        if wandb.login(prompt=False, verify=False):
            return mode, ""
        return "offline", "Not logged in to W&B (`wandb login`)"
    except Exception as error:
        return "offline", f"Logging in to W&B failed: {first_line(error)}"


def outside_own_sweep() -> dict[str, str]:
    """Keep W&B from naming a sweep of `harness sweep run`, whose id no server knows; returns its name for the config.

    A server answers 404 to a run of an unknown sweep, and the run does not appear (wandb/wandb issue 8115). The group
    holds the runs together instead. Call it before each `wandb.init`: wandb reads its environment after a teardown.
    """
    name = os.environ.get(OWN_SWEEP)
    if not name:
        return {}
    import wandb

    wandb.setup().settings.sweep_id = None
    return {"sweep": name}


def init_keywords(config: RunConfig, root: Path, run_id: str, values: dict[str, Any]) -> dict[str, Any]:
    """Arguments of wandb.init: options that were given; where W&B has its own setting, that; else our default."""
    import wandb

    known = wandb.setup().settings
    keywords: dict[str, Any] = {"dir": str(root), "config": values}
    if config.group:
        keywords["group"] = config.group
    if config.tags:
        keywords["tags"] = [tag.strip() for tag in config.tags.split(",") if tag.strip()]
    if config.name or not known.run_name:
        keywords["name"] = config.run_name
    if not known.run_job_type:
        keywords["job_type"] = "train"
    if not known.resume:
        keywords["resume"] = "allow"
    if not known.sweep_id and (config.project or not known.project):
        keywords["project"] = config.project or PROJECT
    if not known.run_id:
        keywords["id"] = run_id
    return keywords


def wandb_settings(stop: threading.Event) -> Any:
    import wandb

    chosen: dict[str, Any] = {
        **_quiet(),
        # Without it wandb raises KeyboardInterrupt in the main thread. A lambda, because wandb deep-copies its
        # settings and a method of an Event cannot be copied.
        "stop_fn": lambda: stop.set(),
        "finish_timeout_raises": True,
        # A table logged offline needs its artifact: the file beside wandb's log has no images.
        "allow_offline_artifacts": True,
    }
    if "WANDB_INIT_TIMEOUT" not in os.environ:
        chosen["init_timeout"] = INIT_TIMEOUT
    if "WANDB_FINISH_TIMEOUT" not in os.environ:
        chosen["finish_timeout"] = FINISH_TIMEOUT
    if "x_transaction_log_flush_interval" in wandb.Settings.model_fields:
        # Seconds between writes, that is, the rows that are lost on kill -9; wandb's default is 15.
        chosen["x_transaction_log_flush_interval"] = 1.0
    return wandb.Settings(**chosen)


def seconds_of(variable: str, default: float) -> float:
    """A time limit from one of W&B's variables, else the default."""
    with contextlib.suppress(ValueError):
        return float(os.environ.get(variable) or default)
    return default


def _quiet() -> dict[str, Any]:
    """Silence wandb's console output (the tracker prints one line) unless the user set WANDB_SILENT or WANDB_QUIET."""
    return {} if {"WANDB_SILENT", "WANDB_QUIET"} & set(os.environ) else {"silent": True}
