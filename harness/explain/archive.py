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
from harness.runs.attention_files import read_archive as read
from harness.runs.rules import VERSION

__all__ = ["VERSION", "Archive", "PositionArchive", "read", "write"]


def write(path: Path, archive: Archive | PositionArchive) -> None:
    """Write the file whole or not at all."""
    values = {field.name: getattr(archive, field.name) for field in dataclasses.fields(archive)}
    arrays: Any = {name: _text(value) if isinstance(value, Mapping) else value for name, value in values.items()}
    with replacing(path) as beside, beside.open("wb") as file:
        np.savez_compressed(file, **arrays)


def _text(values: Mapping[str, Any]) -> np.ndarray:
    return np.array(json.dumps(values, ensure_ascii=True))
