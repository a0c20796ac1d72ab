"""Writes the arrays of explained images; every figure can be drawn again from them without the model."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from harness.files import replacing
from harness.runs.attention_files import Archive, PositionArchive


def write_archive(path: Path, archive: Archive | PositionArchive) -> None:
    """Write the file whole or not at all."""
    values = {field.name: getattr(archive, field.name) for field in dataclasses.fields(archive)}
    arrays: Any = {
        name: np.array(json.dumps(value)) if isinstance(value, Mapping) else value
        for name, value in values.items()
        if value is not None
    }
    with replacing(path) as beside, beside.open("wb") as file:
        np.savez_compressed(file, **arrays)
