"""Files beside the images that are not read: their kinds, and which of them hold an image under another name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from harness.data.file_kinds import extension_for
from harness.errors import summarise
from harness.files import not_a_file
from harness.runs.rules import printable

_OPENED = 20  # files whose start is read; more are counted only


def unread_notes(root: Path, files: Sequence[str]) -> list[str]:
    """Notes on the files under `root` that are not read because of their extension."""
    if not files:
        return []
    kinds: dict[str, list[str]] = {}
    for file in files:
        path = PurePosixPath(file)
        kinds.setdefault(path.suffix.lower() or "without extension", []).append(path.name)
    parts = [f"{len(names)} {kind} ({summarise(names, 2)})" for kind, names in kinds.items()]
    verb = "file is" if len(files) == 1 else "files are"
    notes = [f"{len(files)} {verb} not read: {summarise(parts, 6)}"]
    images = [(file, extension) for file in files[:_OPENED] if (extension := _content(root / file))]
    if images:
        file, extension = images[0]
        notes.append(
            f"files without the extension of an image hold images: {summarise([file for file, _ in images], 3)}. "
            f"Rename them to have them read, for example to {printable(PurePosixPath(file).name)}{extension}"
        )
    return notes


def _content(path: Path) -> str:
    """The extension that fits the first bytes of a file, "" if they are not those of an image."""
    try:
        if not_a_file(path):  # opening a named pipe would wait for a writer
            return ""
        with path.open("rb") as file:
            start = file.read(12)
    except OSError:
        return ""
    return extension_for(start)
