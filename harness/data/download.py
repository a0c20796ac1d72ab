"""Data sets from Kaggle, laid out as the harness reads them."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

from harness.errors import HarnessError
from harness.files import expanded
from harness.runs.rules import printable

HANDLE = "gpiosenka/sports-classification"
SPLITS = ("train", "valid", "test")


def fetch_sports100(destination: Path) -> Path:
    """Download "100 Sports Image Classification" to `destination`, which appears whole or not at all."""
    destination = expanded(destination)
    if all((destination / split).is_dir() for split in SPLITS):
        print(f"{printable(destination)} is already there: nothing to download.", file=sys.stderr)
        return destination
    if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
        raise HarnessError(
            f"{printable(destination)} exists, but holds no {', '.join(f'{split}/' for split in SPLITS)}. "
            "Name another folder, or remove this one."
        )
    try:
        _place(_download(destination), destination)
    except OSError as error:
        raise HarnessError(
            f"The images could not be written to {printable(destination)} ({error.strerror or error}). "
            "Make room or name another folder."
        ) from error
    return destination


def _download(destination: Path) -> Path:
    """The folder that kagglehub keeps the data set in, downloaded if it is not there yet."""
    try:
        import kagglehub
    except ImportError as error:
        raise HarnessError(
            "Downloading from Kaggle needs the package kagglehub: pip install 'vit-harness[fetch]'. "
            + _by_hand(destination)
        ) from error
    try:
        folder = Path(kagglehub.dataset_download(HANDLE))
    except Exception as error:  # network, credentials, Kaggle itself: kagglehub has no common base class for them
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise HarnessError(f"Kaggle could not be reached or refused ({reason}). {_by_hand(destination)}") from error
    missing = [split for split in SPLITS if not (folder / split).is_dir()]
    if missing:
        raise HarnessError(
            f"The download from Kaggle in {printable(folder)} has no {', '.join(f'{split}/' for split in missing)}. "
            f"Remove that folder and repeat the command. {_by_hand(destination)}"
        )
    return folder


def _by_hand(destination: Path) -> str:
    return (
        f"By hand: download https://www.kaggle.com/datasets/{HANDLE} in a browser and unzip it into "
        f"{printable(destination)}, so that {printable(destination / 'train')}, {printable(destination / 'valid')} and "
        f"{printable(destination / 'test')} exist."
    )


def _place(folder: Path, destination: Path) -> None:
    """Copy the three splits beside `destination`, then rename."""
    destination.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{destination.name}-", dir=destination.parent))
    try:
        for split in SPLITS:
            for source in (path for path in (folder / split).rglob("*") if path.is_file()):
                target = beside / source.relative_to(folder)
                target.parent.mkdir(parents=True, exist_ok=True)
                _link_or_copy(source, target)
        beside.chmod(0o755)  # mkdtemp lets nobody else in
        beside.rename(destination)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _link_or_copy(source: Path, target: Path) -> None:
    """A hard link takes no room; it is not possible from one file system to another."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
