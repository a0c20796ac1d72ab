"""The name of a run of a sweep: what the sweep sets, `ema=true_lr=1e-05_s0`."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

# Names of the settings that a sweep sets, separated by commas: `harness sweep run` sets it for its trials.
PARAMETERS = "HARNESS_SWEEP_PARAMETERS"

# W&B's agents set it: a YAML file with the settings of the run.
AGENT_FILE = "WANDB_SWEEP_PARAM_PATH"

MOST = 80  # characters of a name
MOST_OF_VALUE = 24
DIGEST = 8  # characters at the end of a name that was cut


def swept_settings() -> tuple[str, ...]:
    """Names of the settings that the sweep of this process sets; empty outside a sweep."""
    if PARAMETERS in os.environ:
        return tuple(name for name in os.environ[PARAMETERS].split(",") if name)
    return tuple(agent_settings())


def agent_settings() -> dict[str, Any]:
    """The settings in the file of W&B's agent, as it writes them: {"value": 0.1}; empty without a readable file."""
    path = os.environ.get(AGENT_FILE)
    return _of_file(path) if path else {}


def sweep_run_name(settings: Mapping[str, Any], swept: Sequence[str]) -> str:
    """Each swept setting with its value, by name, then the seed: safe as the name of a folder, MOST characters long.

    It does not tell trials apart by itself: the id of the run follows it.
    """
    words = [f"{name}={_cleaned(settings[name])}" for name in sorted(swept) if name in settings and name != "seed"]
    name = "_".join([*words, f"s{settings['seed']}"])
    if len(name) <= MOST:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:DIGEST]
    return f"{name[: MOST - DIGEST - 1]}_{digest}"


@contextlib.contextmanager
def naming_by(swept: Sequence[str]) -> Iterator[None]:
    """Name the runs of this process, and of those that it starts, by these settings."""
    before = os.environ.get(PARAMETERS)
    os.environ[PARAMETERS] = ",".join(swept)
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(PARAMETERS, None)
        else:
            os.environ[PARAMETERS] = before


def _cleaned(value: Any) -> str:
    """A value as a part of a name: of a path its last part, of other text the characters that names may have."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    text = "default" if value is None else str(value)
    text = re.sub(r"[^\w.+-]+", "-", Path(text).name, flags=re.ASCII).strip("-.")
    return text[:MOST_OF_VALUE] or "x"


@functools.cache
def _of_file(path: str) -> dict[str, Any]:
    import yaml

    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    entries = content if isinstance(content, dict) else {}
    return {str(name).replace("-", "_"): entry for name, entry in entries.items() if name != "wandb_version"}
