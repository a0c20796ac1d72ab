"""The file behind --weights: named weights of each model, and the download of those that torchvision publishes."""

from __future__ import annotations

import http.client
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import Request, urlopen

import torch
import torchvision
from torchvision.models import WeightsEnum

from harness.errors import WeightsError
from harness.model.shards import digest
from harness.model.timm_model import REACH_TIMEOUT, check_model_name, check_pretrained, pretrained_file
from harness.model.weights_file import check_file
from harness.time_limit import call_with_timeout

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


def weights_path(model: str, weights: str) -> Path | None:
    """The file that holds the weights, downloaded if missing; None for new random weights."""
    if weights == "none":
        return None
    if weights == "pretrained":
        check_model_name(model)  # nothing is downloaded for a model that is refused
        return pretrained_file(model)
    if weights == "demo":
        if not DEMO_FILE.is_file():
            raise WeightsError(f"--weights demo: {DEMO_FILE} is missing; install the package again.")
        return DEMO_FILE
    entry = published(model, weights)
    return check_file(weights) if entry is None else _published_file(model, weights, entry.url)


def check_reachable(model: str, weights: str) -> None:
    """WeightsError, with the file to fetch by hand, if named weights are neither here nor on their server.

    One question to the server for each name that the file may have; nothing is downloaded, and no weights are read.
    """
    entry = published(model, weights)
    if weights == "pretrained":
        check_pretrained(model)
    elif entry is None:
        weights_path(model, weights)
    elif not _cached_path(entry.url).is_file():
        request = Request(entry.url, method="HEAD", headers={"User-Agent": "torch.hub"})
        try:  # the timeout of a request does not cover the lookup of the server's name
            call_with_timeout(2 * REACH_TIMEOUT, lambda: urlopen(request, timeout=REACH_TIMEOUT).close())
        except (OSError, http.client.HTTPException) as error:
            raise _not_here(model, weights, entry.url, f"was not found on its server ({error})") from error


def _cached_path(url: str) -> Path:
    """Where torch.hub keeps a file; its name ends in the first digits of its SHA-256."""
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(url).path).name


def _published_file(model: str, word: str, url: str) -> Path:
    """A file in the cache of torch.hub, downloaded if missing."""
    path = _cached_path(url)
    digits = path.stem.rpartition("-")[2]
    if not path.is_file():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Writes to a temporary file and renames it.
            torch.hub.download_url_to_file(url, str(path), hash_prefix=digits)
        except (OSError, RuntimeError, http.client.HTTPException) as error:  # RuntimeError: the digest differs
            raise _not_here(model, word, url, f"could not be downloaded ({error})") from error
    elif not digest(path).startswith(digits):
        raise WeightsError(
            f"{path} is damaged: its SHA-256 does not begin with {digits}. Delete it; the next run downloads it again."
        )
    return path


def _not_here(model: str, word: str, url: str, problem: str) -> WeightsError:
    path = _cached_path(url)
    return WeightsError(
        f"--weights {word}: the file of {model} is not on this machine and {problem}. "
        f"Put {path.name} from {url} into the folder {path.parent}, or name a file you have with --weights FILE."
    )
