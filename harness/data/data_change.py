"""Whether a data folder still holds what a run trained on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.data.image_folder import ImageFolder, fingerprint
from harness.runs.rules import printable


def what_changed(recorded: Mapping[str, Any], fingerprint_now: str, images_now: object) -> str:
    """What differs from the data that a run's manifest describes, "" if nothing does or it does not say."""
    if recorded.get("fingerprint") in (None, fingerprint_now):
        return ""
    before = recorded.get("images")
    what = "Images or labels" if before == images_now else f"The numbers of images (now {images_now}, then {before})"
    return f"{what} in {printable(recorded.get('root'))} have changed since the run"


def folder_change(recorded: Mapping[str, Any], folder: ImageFolder) -> str:
    """As `what_changed`, of a folder whose images need not be decoded."""
    counts = {split.name: len(split.files) for split in folder.splits}
    return what_changed(recorded, fingerprint(folder, folder.digests), counts)
