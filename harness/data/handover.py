"""The splits that `harness train` has listed and checked, handed to the run that it starts: listed once per command."""

from __future__ import annotations

import functools
import json
import os
from pathlib import Path

import numpy as np

from harness.config import RunConfig
from harness.data.decode import read_below
from harness.data.image_folder import ImageFolder, Split, load_image_folder
from harness.data.near_copies import NearCopy

# Path of the file; set by `harness train` for the processes of its run, and removed with its temporary folder.
VARIABLE = "HARNESS_IMAGE_FOLDER"
SETTINGS = ("data", "split_seed", "split_fraction", "split_group", "cache_dir")  # what the splits depend on


def hand_over(folder: ImageFolder, config: RunConfig, path: Path) -> dict[str, str]:
    """Write the splits to `path`; returns the variable for the run, none if its images are not plain files.

    `config` has absolute paths, as the run gets them.
    """
    if not (isinstance(folder.read, functools.partial) and folder.read.func is read_below):
        return {}
    content = {
        "settings": _settings(config),
        "root": str(folder.root),
        "classes": folder.classes,
        "splits": {split.name: [split.files, split.labels.tolist()] for split in folder.splits},
        "notes": folder.notes,
        "ignored": folder.ignored,
        "digests": folder.digests,
        "near_copies": folder.near_copies,
    }
    path.write_text(json.dumps(content))
    return {VARIABLE: str(path)}


def listed_folder(config: RunConfig) -> ImageFolder:
    """The splits of a run: those that its launcher has listed, else listed now. Raises DataError."""
    path = os.environ.get(VARIABLE)
    if not path or not Path(path).is_file():
        return load_image_folder(config)
    content = json.loads(Path(path).read_text())
    if content["settings"] != _settings(config):
        return load_image_folder(config)
    root = Path(content["root"])
    splits = {
        name: Split(name, tuple(files), np.array(labels, np.int64))
        for name, (files, labels) in content["splits"].items()
    }
    return ImageFolder(
        root=root,
        classes=tuple(content["classes"]),
        **splits,
        notes=tuple(content["notes"]),
        ignored=content["ignored"],
        digests=tuple(content["digests"]),
        near_copies=tuple(NearCopy(*copy) for copy in content["near_copies"]),
        read=functools.partial(read_below, root),
    )


def _settings(config: RunConfig) -> list[object]:
    return [getattr(config, name) for name in SETTINGS]
