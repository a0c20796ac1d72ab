"""Checks of this user's W&B and Accelerate settings. The API key is never printed; wandb is never imported."""

from __future__ import annotations

import configparser
import netrc
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from harness.doctor.check import Check, succeeds_within
from harness.errors import first_line

ANSWER_TIMEOUT = 2.0  # seconds for a server to answer


def wandb_check() -> Check:
    settings = _wandb_settings()
    mode = os.environ.get("WANDB_MODE") or settings.get("mode", "online")
    if mode in ("offline", "dryrun", "disabled"):
        return Check("W&B", "ok", f"mode {mode}: nothing is sent during a run")
    server = (os.environ.get("WANDB_BASE_URL") or settings.get("base_url") or "https://api.wandb.ai").rstrip("/")
    host = urllib.parse.urlsplit(server).netloc
    if urllib.parse.urlsplit(server).scheme not in ("http", "https") or not host:
        return Check("W&B", "fail", f"not a web address: {server}", "Correct WANDB_BASE_URL, or unset it.")
    if 0 < len(key := os.environ.get("WANDB_API_KEY", "").strip()) < 40:
        remedy = "Copy the whole key again, without quotes, from the W&B site: User settings, API keys."
        return Check("W&B", "fail", f"WANDB_API_KEY has {len(key)} characters; a key has 40 or more", remedy)
    source = _wandb_login(host, settings)
    if not source:
        remedy = "Runs are kept offline. To send them, run `wandb login`. To stay offline, set WANDB_MODE=offline."
        return Check("W&B", "warn", f"not logged in to {host}", remedy)
    if not succeeds_within(ANSWER_TIMEOUT, lambda: _answers(server)):
        remedy = "Runs are kept offline; send them later with `harness sync`. Check network, proxy and WANDB_BASE_URL."
        return Check("W&B", "warn", f"logged in ({source}), but {server} does not answer", remedy)
    return Check("W&B", "ok", f"logged in ({source}); {server} answers")


def _wandb_settings() -> dict[str, str]:
    """Read wandb's settings files: the user's, then the current folder's, which takes precedence."""
    user = Path(os.environ.get("WANDB_CONFIG_DIR") or "~/.config/wandb").expanduser() / "settings"
    parser = configparser.ConfigParser(interpolation=None, default_section="default")
    parser.read([user, Path("wandb", "settings")])
    return dict(parser.defaults())


def _wandb_login(host: str, settings: Mapping[str, str]) -> str:
    """Name the source of the API key, never the key itself; empty if there is none."""
    for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE"):
        if os.environ.get(name):
            return name
    file = Path(os.environ.get("NETRC") or "~/.netrc").expanduser()
    if file.exists():
        entry = netrc.netrc(file).authenticators(host)
        # The website (wandb.ai) and the API server (api.wandb.ai) share a login.
        entry = entry or netrc.netrc(file).authenticators(host.removeprefix("api."))
        if entry and entry[2]:
            return str(file)
    return "settings" if settings.get("api_key") else ""


def _answers(server: str) -> bool:
    """Whether the server answers an HTTP request in time."""
    try:
        urllib.request.urlopen(urllib.request.Request(server, method="HEAD"), timeout=ANSWER_TIMEOUT).close()
    except urllib.error.HTTPError:
        return True  # an HTTP error is still an answer
    except (OSError, ValueError):
        return False
    return True


def accelerate_check() -> Check:
    import yaml

    caches = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    home = Path(os.environ.get("HF_HOME") or caches / "huggingface").expanduser()
    file = home / "accelerate" / "default_config.yaml"
    if not file.exists():
        return Check("accelerate", "ok", "no default configuration file: `accelerate launch` uses its options only")
    scope = f"`accelerate launch` without --config_file reads {file}; `harness train` does not."
    try:
        config = yaml.safe_load(file.read_text())
        kind = str(config.get("distributed_type", "NO"))
    except (OSError, ValueError, AttributeError, yaml.YAMLError) as error:
        return Check("accelerate", "warn", f"{file} cannot be read: {first_line(error)}", scope)
    keys = ("distributed_type", "num_processes", "num_machines", "mixed_precision", "gpu_ids")
    detail = f"{file}: " + ", ".join(f"{key} {config[key]}" for key in keys if key in config)
    if kind not in ("NO", "MULTI_GPU", "MULTI_CPU"):
        return Check("accelerate", "warn", detail, f"Runs do not support {kind}. {scope}")
    return Check("accelerate", "ok", detail)
