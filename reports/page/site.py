"""The folder that a page is written to: unchanged files stay untouched, stale files of an earlier page are removed."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from harness.runs.reading import content_of, parse_json
from harness.runs.rules import printable, temporary_name
from reports.errors import ReportError
from reports.values import script

# Lists the files that the page consists of, each with the key that it was made from. A folder without this file was not
# made here.
LEDGER = ".report.json"

# In the list while a build is running.
UNFINISHED = "unfinished"

# Entries that a page writes into its folder; earlier versions wrote "pictures".
OWN = ("index.html", "assets", "data", "figures", "images", "maps", "tables", "pictures")


class Site:
    """A context manager: on exit without an error it removes files of an earlier page that were not written again."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.written = 0  # files whose content changed
        self._earlier, self._was_finished = self._read_ledger()
        self._files: dict[str, Any] = {}
        self._digest = hashlib.sha256()  # of what was written
        self._marked = False  # whether the list says that a build is running
        # A run folder, for example, has figures/, which the page would overwrite.
        if self._earlier is None and (taken := [name for name in OWN if os.path.lexists(root / name)]):
            raise ReportError(
                f"{printable(root)} has files that are not from a report ({', '.join(taken)}). "
                "Choose another folder with -o."
            )

    def __enter__(self) -> Site:
        self.root.mkdir(parents=True, exist_ok=True)
        if self._earlier is None:
            self._mark_unfinished()
        return self

    def __exit__(self, kind: type[BaseException] | None, *details: Any) -> None:
        if kind is None:
            self._remove_stale()
            self._write_ledger(self._files, finished=True)

    def file(self, path: str, content: bytes) -> str:
        """Write a file unless it has that content already; returns its address relative to the page."""
        self._write(self._own_place(path), content)
        self._files[path] = None
        self._digest.update(path.encode(errors="replace") + b"\0" + content)
        return quote(path)

    def made(self, path: str, key: str, make: Callable[[], bytes]) -> str:
        """The same for content that takes time: `make` is called unless the file was made from the same `key`."""
        place = self._own_place(path)
        if not (self._earlier and self._earlier.get(path) == key and place.exists()):
            self._write(place, make())
        self._files[path] = key
        self._digest.update(f"{path} {key}".encode(errors="replace"))
        return quote(path)

    def version_with(self, index: str) -> str:
        """Differs between pages of which any file differs, with an index.html that is not written yet."""
        digest = self._digest.copy()
        digest.update(index.encode(errors="replace"))
        return digest.hexdigest()[:16]

    def data(self, name: str, value: Any) -> str:
        """Write a value for the page's scripts, which read it by `report.load(name)`; returns the name.

        The file is a script, because a page that was opened from a file may not fetch data.
        """
        self.file(f"data/{name}.js", _data_script(name, value))
        return name

    def made_data(self, name: str, key: str, make: Callable[[], Any]) -> str:
        """The same for a value that takes time; `key` as in `made`."""
        self.made(f"data/{name}.js", key, lambda: _data_script(name, make()))
        return name

    def has_data(self, name: str) -> bool:
        """Whether `data` or `made_data` wrote it for this page."""
        return f"data/{name}.js" in self._files

    def _place(self, path: str) -> Path:
        """Raises ReportError if the path is outside the folder, as in a damaged ledger, or leads through a link."""
        place = self.root / path
        folder = self.root.resolve()
        if ".." in place.parts[len(self.root.parts) :] or not place.parent.resolve().is_relative_to(folder):
            raise ReportError(f"{printable(place)} leads out of {printable(self.root)}. Remove this link.")
        return place

    def _own_place(self, path: str) -> Path:
        """The place of a file to write. Raises ReportError if a file is there that is not from a report."""
        place = self._place(path)
        if path not in (self._earlier or {}) and path not in self._files:
            if self._was_finished and os.path.lexists(place):
                raise ReportError(
                    f"{printable(place)} is not from a report. Move it away, or choose another folder with -o."
                )
            self._mark_unfinished()
        return place

    def _mark_unfinished(self) -> None:
        """An interrupted build must be recognised as a page whose list may lack files that it wrote."""
        if not self._marked:
            self._write_ledger(self._earlier or {}, finished=False)
            self._marked = True

    def _write(self, path: Path, content: bytes) -> None:
        with contextlib.suppress(OSError):
            if not path.is_symlink() and path.stat().st_size == len(content) and path.read_bytes() == content:
                return
        path.parent.mkdir(parents=True, exist_ok=True)
        # Written beside and renamed: neither an open page nor a killed build leaves half a file.
        temporary = temporary_name(path)
        try:
            with temporary.open("xb") as file:  # x: never through a symbolic link of this name
                file.write(content)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        self.written += path.name != LEDGER

    def _remove_stale(self) -> None:
        for path in (self._earlier or {}).keys() - self._files.keys():
            with contextlib.suppress(OSError, ReportError, ValueError):
                place = self._place(path)
                place.unlink()
                for folder in place.parents:
                    if folder == self.root:
                        break
                    folder.rmdir()  # raises OSError, and so ends the loop, where the folder is not empty

    def _write_ledger(self, files: dict[str, Any], *, finished: bool) -> None:
        content = {"files": files} if finished else {"files": files, UNFINISHED: True}
        self._write(self.root / LEDGER, json.dumps(content, indent=0).encode())

    def _read_ledger(self) -> tuple[dict[str, Any] | None, bool]:
        """The files of the page in the folder, and whether its build ended; None without a page or if it is damaged."""
        try:
            ledger = parse_json(content_of(self.root / LEDGER))
            files = ledger["files"]
        except (OSError, ValueError, TypeError, KeyError):
            return None, False
        # Earlier versions listed no files until the build ended.
        return (files, UNFINISHED not in ledger and bool(files)) if isinstance(files, dict) else (None, False)


def _data_script(name: str, value: Any) -> bytes:
    return f"report.deliver({script(name)},{script(value)});\n".encode()
