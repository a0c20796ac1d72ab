"""Data folders as a run reads them, by a few of its settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.config import RunConfig
from harness.data.image_folder import ImageFolder, load_image_folder
from harness.errors import DataError


def folder_config(root: Path, **settings: Any) -> RunConfig:
    paths = {name: str(value) for name, value in settings.items() if isinstance(value, Path)}
    return RunConfig(data=str(root), **settings | paths)


def load_folder(root: Path, **settings: Any) -> ImageFolder:
    return load_image_folder(folder_config(root, **settings))


def problems_of(root: Path) -> str:
    """The problems for which a folder is refused."""
    with pytest.raises(DataError) as caught:
        load_folder(root)
    return str(caught.value)
