"""Where images come from: one function per kind of --data. Each returns a Listing; nothing else knows the kind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from harness.data.csv_list import list_csv
from harness.data.folder_scan import walk
from harness.data.listing import Listing

# By the suffix of a file; a folder is walked.
SOURCES: dict[str, Callable[[Path], Listing]] = {".csv": list_csv}


def list_images(path: Path) -> Listing:
    """The images of --data by split and class, how to read them, and the problems that prevent it."""
    return walk(path) if path.is_dir() else SOURCES.get(path.suffix.lower(), walk)(path)
