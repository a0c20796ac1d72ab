"""A list of the files that this program wrote to a folder; only files on the list may be replaced or deleted.

A user may name any folder for output, also one with files of the same names. Standard library only.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from harness.errors import HarnessError, printable, summarise
from harness.files import write_atomically
from harness.runs.reading import UnreadableError, content_of, parse_json

ABOUT = "Files that this program wrote to this folder. It replaces and deletes no others."
REMEDY = "Choose another folder, or move its files away."


class OwnedFiles:
    """The listed files of a folder. Names are POSIX paths relative to the folder."""

    def __init__(self, root: Path, list_name: str) -> None:
        """Read the list, which may be missing. Raises HarnessError if it is damaged or a link, or root is a file."""
        if (root.exists() or root.is_symlink()) and not root.is_dir():
            raise HarnessError(f"{printable(root)} is not a folder. {REMEDY}")
        self.root = root
        self._list = root / list_name
        if self._list.is_symlink():
            raise HarnessError(linked(self._list))
        self.has_list = self._list.exists()
        self._names = _read_list(self._list) if self.has_list else set()

    def owns(self, name: str) -> bool:
        return name in self._names

    def path(self, name: str) -> Path:
        """The path of a file. Raises HarnessError if it leads out of the folder or through a symbolic link."""
        _check_name(name)
        path = self.root
        for part in PurePosixPath(name).parts:
            path /= part
            if path.is_symlink():
                raise HarnessError(linked(path))
        return path

    def adopt(self, names: Iterable[str]) -> None:
        """Count files as this program's that an earlier version wrote, when there was no list."""
        self._names |= set(names)

    def add(self, names: Iterable[str]) -> None:
        """List files that are about to be written. Raises HarnessError if others have these names already."""
        names = set(names)
        self.refuse_foreign(names)
        if not names <= self._names or not self.has_list:
            self._save(self._names | names)

    def refuse_foreign(self, names: Iterable[str]) -> None:
        """Raises HarnessError if any of these names belongs to a file that is not listed, or leads through a link."""
        foreign = [name for name in sorted(names) if self.path(name).exists() and not self.owns(name)]
        if foreign:
            raise HarnessError(foreign_files(self.root, foreign))

    def remove(self, names: Iterable[str]) -> None:
        """Delete those of these files that are listed."""
        for name in names:
            if self.owns(name):
                self.path(name).unlink(missing_ok=True)

    def remove_stale(self, keep: Iterable[str], folder: str) -> None:
        """Delete the listed files of a subfolder, except those in `keep`, and take them off the list."""
        stale = {name for name in self._names - set(keep) if PurePosixPath(name).parent == PurePosixPath(folder)}
        self.remove(stale)
        if stale:
            self._save(self._names - stale)

    def _save(self, names: set[str]) -> None:
        write_atomically(self._list, (json.dumps({"about": ABOUT, "files": sorted(names)}, indent=0) + "\n").encode())
        self._names, self.has_list = names, True


def foreign_files(folder: Path, names: list[str]) -> str:
    """The sentence that refuses a folder because of files in it."""
    return f"{printable(folder)} contains files that this program did not write: {summarise(names, 3)}. {REMEDY}"


def linked(path: Path) -> str:
    """The sentence that refuses a symbolic link."""
    return f"{printable(path)} is a symbolic link; this program neither reads nor writes through links. {REMEDY}"


def _check_name(name: str) -> None:
    path = PurePosixPath(name)
    if path.is_absolute() or not path.parts or ".." in path.parts or "\\" in name or "\0" in name:
        raise HarnessError(f"{name!r} is not the name of a file inside the folder.")


def _read_list(path: Path) -> set[str]:
    try:
        content = parse_json(content_of(path))
        names = content["files"]
        if content["about"] != ABOUT or not all(isinstance(name, str) for name in names):
            raise ValueError("not a list of this program")
        for name in names:
            _check_name(name)
    except (OSError, ValueError, LookupError, TypeError, HarnessError) as error:
        raise UnreadableError(path, f"is damaged ({error})", REMEDY) from error
    return set(names)
