"""An export as a repository on the Hugging Face hub."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from harness.errors import ConfigError, HarnessError


def check_hub(repository: str) -> None:
    """ConfigError unless the name can be one of a repository and huggingface_hub is installed."""
    if importlib.util.find_spec("huggingface_hub") is None:
        raise ConfigError("--push needs huggingface_hub: pip install 'vit-harness[hf]'.")
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        raise ConfigError(f"--push {repository}: {error}") from error


def push(folder: Path, repository: str) -> str:
    """Upload the folder; a repository that does not exist is made, as a private one. Returns its address."""
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        api.create_repo(repository, private=True, exist_ok=True)
        api.upload_folder(folder_path=folder, repo_id=repository, commit_message="Export of a run by vit-harness")
    except Exception as error:  # of network, login or the hub itself: each leaves the export as it is
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise HarnessError(
            f"{repository} was not uploaded ({reason}). The export is complete in {folder}. Log in with `hf auth "
            f"login`, check the network and the name, then run `hf upload {repository} {folder}`."
        ) from error
    return f"{api.endpoint}/{repository}"
