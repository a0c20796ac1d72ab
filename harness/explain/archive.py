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

__all__ = [
    "VERSION",
    "Archive",
    "PositionArchive",
    "attending",
    "block_distance",
    "off_patches",
    "prefix_tokens",
    "read",
    "write",
]


def write(path: Path, archive: Archive | PositionArchive) -> None:
    """Write the file whole or not at all."""
    values = {field.name: getattr(archive, field.name) for field in dataclasses.fields(archive)}
    arrays: Any = {
        name: _text(value) if isinstance(value, Mapping) else value
        for name, value in values.items()
        if value is not None
    }
    with replacing(path) as beside, beside.open("wb") as file:
        np.savez_compressed(file, **arrays)


def prefix_tokens(archive: Archive) -> int:
    """Tokens before the patches: class token and registers. Files of earlier versions do not say; there it was 1."""
    count = archive.settings.get("prefix_tokens", 1)
    return count if type(count) is int and count >= 0 else 1


def attending(archive: Archive) -> str:
    """Whose attention the maps show: that of the tokens which the head reads."""
    if archive.settings.get("pools_by_attention") is True:
        return "the patches (mean), and in the last layer the pooling"
    if archive.settings.get("read_tokens") == 2:
        return "the class token and the distillation token (mean)"
    return "the patches (mean)" if archive.settings.get("pools_patches") is True else "the class token"


def block_distance(archive: Archive) -> np.ndarray:
    """Attention distance of the last block (n,), in pixels; attention that pools after it has no distance."""
    return archive.distance[:, -2 if archive.settings.get("pools_by_attention") is True else -1]


def off_patches(archive: Archive) -> str:
    """Where `class_share` of the attention is: on the class token itself, if that is the only other token."""
    is_plain = prefix_tokens(archive) == 1 and attending(archive) == "the class token"
    return "on itself" if is_plain else "not on patches"


def _text(values: Mapping[str, Any]) -> np.ndarray:
    return np.array(json.dumps(values, ensure_ascii=True))
