"""The file behind --weights: named weights of each model, and the download of those that torchvision publishes."""

from __future__ import annotations

import hashlib
import http.client
from pathlib import Path
from urllib.parse import urlparse

import torch
import torchvision
from torchvision.models import WeightsEnum

from harness.errors import ConfigError, WeightsError
from harness.model.timm_catalog import is_timm
from harness.model.timm_model import check_timm_model, pretrained_file
from harness.model.weights_file import check_file
from harness.settings.model import NAMED_WEIGHTS, weights_names

# Name of --weights -> torchvision's name.
PUBLISHED = {
    "imagenet": "IMAGENET1K_V1",
    "imagenet-swag": "IMAGENET1K_SWAG_E2E_V1",
    "imagenet-swag-linear": "IMAGENET1K_SWAG_LINEAR_V1",
}
DEMO_FILE = Path(__file__).with_name("vit_demo.safetensors")


def published(model: str, weights: str) -> WeightsEnum | None:
    """torchvision's entry for named weights; None if torchvision does not publish them."""
    if weights not in PUBLISHED:
        return None
    return torchvision.models.get_model_weights(model)[PUBLISHED[weights]]


def check_word(model: str, weights: str) -> None:
    """ConfigError if named weights do not exist for the model; WeightsError if a file does not exist."""
    if is_timm(model):
        check_timm_model(model)
    names = weights_names(model)
    words = ", ".join(names)
    if weights in NAMED_WEIGHTS and weights not in names:
        raise ConfigError(f"--weights {weights}: not available for {model}; give one of {words}, or a weights file.")
    if weights not in NAMED_WEIGHTS and not Path(weights).exists():
        raise WeightsError(f"--weights {weights}: file not found; give a weights file, or for {model} one of {words}.")


def weights_path(model: str, weights: str) -> Path | None:
    """The file that holds the weights, downloaded if missing; None for new random weights."""
    if weights == "none":
        return None
    if weights == "pretrained":
        check_timm_model(model)  # nothing is downloaded for a model that is refused
        return pretrained_file(model)
    if weights == "demo":
        if not DEMO_FILE.is_file():
            raise WeightsError(f"--weights demo: {DEMO_FILE} is missing; install the package again.")
        return DEMO_FILE
    entry = published(model, weights)
    return check_file(weights) if entry is None else _published_file(model, weights, entry.url)


def sha256(path: Path) -> str:
    """Digest of a file's contents, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _published_file(model: str, word: str, url: str) -> Path:
    """A file in the cache of torch.hub, downloaded if missing; its name ends in the first digits of its SHA-256."""
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    path = folder / Path(urlparse(url).path).name
    digits = path.stem.rpartition("-")[2]
    if not path.is_file():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # Writes to a temporary file and renames it.
            torch.hub.download_url_to_file(url, str(path), hash_prefix=digits)
        except (OSError, RuntimeError, http.client.HTTPException) as error:  # RuntimeError: the digest differs
            raise WeightsError(
                f"--weights {word}: the file of {model} is not on this machine and could not be downloaded ({error}). "
                f"Put {path.name} from {url} into the folder {folder}, or name a file you have with --weights FILE."
            ) from error
    elif not sha256(path).startswith(digits):
        raise WeightsError(
            f"{path} is damaged: its SHA-256 does not begin with {digits}. Delete it; the next run downloads it again."
        )
    return path
