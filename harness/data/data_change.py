"""Whether a data folder still holds what a run trained on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from harness.data.decode import DecodeError, read
from harness.data.image_folder import ImageFolder, fingerprint
from harness.data.parallel import on_every_core
from harness.runs.rules import printable


def what_changed(recorded: Mapping[str, Any], fingerprint_now: str, images_now: object) -> str:
    """What differs from the data that a run's manifest describes, "" if nothing does or it does not say."""
    if recorded.get("fingerprint") in (None, fingerprint_now):
        return ""
    before = recorded.get("images")
    what = "Images or labels" if before == images_now else f"The numbers of images (now {images_now}, then {before})"
    return f"{what} in {printable(recorded.get('root'))} have changed since the run"


def folder_change(recorded: Mapping[str, Any], folder: ImageFolder) -> str:
    """As `what_changed`, of a folder whose images are read for this, but not decoded."""
    if not recorded.get("fingerprint"):
        return ""
    files = [file for split in folder.splits for file in split.files]
    digests = on_every_core(
        lambda file: _digest(folder, file), files, title="comparing the images with those of the run"
    )
    counts = {split.name: len(split.files) for split in folder.splits}
    return what_changed(recorded, fingerprint(folder, list(digests)), counts)


def _digest(folder: ImageFolder, file: str) -> str:
    """As in the cache of decoded images; of a file that cannot be read, the digest is empty."""
    try:
        return hashlib.blake2b(read(folder.root / file), digest_size=16).hexdigest()
    except DecodeError:
        return ""
