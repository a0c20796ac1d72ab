"""The folder that a page is written to: nothing unchanged is touched, nothing of an earlier page is left."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from reports.errors import ReportError
from reports.runs import shown
from reports.values import script

# Lists the files that are the page's own, with what they were made from. Its presence tells a page from a stranger's.
LEDGER = ".report.json"

# What a page puts into its folder.
OWN = ("index.html", "assets", "data", "figures", "maps", "pictures")


class Site:
    """Used as a context; files of an earlier page that were not asked for again go when it is left without error."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.written = 0  # files whose content changed
        self._earlier = self._read_ledger()
        self._files: dict[str, Any] = {}
        # Of a run folder, for example: its figures would be written over.
        if self._earlier is None and (taken := [name for name in OWN if os.path.lexists(root / name)]):
            raise ReportError(
                f"{shown(root)} holds what is not a report's ({', '.join(taken)}). Choose another folder with -o."
            )

    def __enter__(self) -> Site:
        self.root.mkdir(parents=True, exist_ok=True)
        if self._earlier is None:  # so that a page that was not finished is known for one
            self._write_ledger()
        return self

    def __exit__(self, kind: type[BaseException] | None, *details: Any) -> None:
        if kind is None:
            self._remove_stale()
            self._write_ledger()

    def file(self, path: str, content: bytes) -> str:
        """Write a file, unless it has that content; returns its address as seen from the page."""
        self._files[path] = None
        self._write(self._place(path), content)
        return quote(path)

    def made(self, path: str, key: str, make: Callable[[], bytes]) -> str:
        """The same for content that costs time: made only if it was not made from the same `key` before."""
        if not (self._earlier and self._earlier.get(path) == key and self._place(path).exists()):
            self._write(self._place(path), make())
        self._files[path] = key
        return quote(path)

    def data(self, name: str, value: Any) -> str:
        """A value for the page's scripts, which get it by `report.load(name)`; returns the name.

        A page that was opened from a file may not fetch, but it may load a script.
        """
        self.file(f"data/{name}.js", _delivery(name, value))
        return name

    def made_data(self, name: str, key: str, make: Callable[[], Any]) -> str:
        """The same for a value that costs time, as `made`."""
        self.made(f"data/{name}.js", key, lambda: _delivery(name, make()))
        return name

    def _place(self, path: str) -> Path:
        """ValueError where it is outside, which a ledger from elsewhere may ask for, by a link as well."""
        place = self.root / path
        folder = self.root.resolve()
        if ".." in place.parts[len(self.root.parts) :] or not place.parent.resolve().is_relative_to(folder):
            raise ValueError(f"{path} is outside {self.root}")
        return place

    def _write(self, path: Path, content: bytes) -> None:
        with contextlib.suppress(OSError):
            if path.stat().st_size == len(content) and path.read_bytes() == content:
                return
        path.parent.mkdir(parents=True, exist_ok=True)
        # Beside its name first: a page that is open, or a build that is killed, never meets half a file.
        beside = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            beside.write_bytes(content)
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)
        self.written += path.name != LEDGER

    def _remove_stale(self) -> None:
        for path in (self._earlier or {}).keys() - self._files.keys():
            with contextlib.suppress(OSError, ValueError):
                place = self._place(path)
                place.unlink()
                for folder in place.parents:
                    if folder == self.root:
                        break
                    folder.rmdir()  # fails, and ends this, where it is not empty

    def _write_ledger(self) -> None:
        self._write(self.root / LEDGER, json.dumps({"files": self._files}, indent=0).encode())

    def _read_ledger(self) -> dict[str, Any] | None:
        """None where no page was made; empty where the list is damaged."""
        try:
            files = json.loads((self.root / LEDGER).read_bytes())["files"]
            return files if isinstance(files, dict) else {}
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError):
            return {}


def _delivery(name: str, value: Any) -> bytes:
    return f"report.deliver({script(name)},{script(value)});\n".encode()
