"""What was found in a data folder: images by split and class, entries that are not read, problems."""

from __future__ import annotations

import collections
import dataclasses
import functools
import os
from collections.abc import Callable
from pathlib import Path

from harness.data.digests import Stamp
from harness.data.split_names import SPELLINGS
from harness.errors import summarise

EXAMPLES = 4  # names in a note on entries that are not read
# Problems of one kind that are named. A disk that is not mounted makes a problem of each of a million links.
MAX_NAMED = 20


@dataclasses.dataclass
class Listing:
    """Files under `root`, gathered while walking: images[split][class] are paths relative to it."""

    root: Path
    images: dict[str, dict[str, list[str]]] = dataclasses.field(default_factory=dict)
    folders: dict[str, str] = dataclasses.field(default_factory=dict)  # split -> name of its folder
    stamps: dict[str, Stamp] = dataclasses.field(default_factory=dict)  # path -> what changes with the file
    read: Callable[[str], bytes] | None = None  # the bytes of an image by its path; None if paths are those of files
    is_list: bool = False  # whether the images are rows of a list instead of files in class folders
    ignored: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    nested: dict[str, int] = dataclasses.field(default_factory=dict)  # folder below a class -> its images
    unread: list[str] = dataclasses.field(default_factory=list)  # files without the extension of an image
    examples: dict[str, list[str]] = dataclasses.field(default_factory=dict)  # reason -> names, at most a few
    others: list[str] | None = None  # folders beside the splits; None if the root cannot be listed
    unlabelled: dict[str, int] = dataclasses.field(default_factory=dict)  # split -> images, if it has no class folders
    crossing: list[str] = dataclasses.field(default_factory=list)  # linked files of other classes: link -> target
    problems: list[str] = dataclasses.field(default_factory=list)
    refused: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)  # entries by kind

    @functools.cached_property
    def real_splits(self) -> tuple[str, ...]:
        """Where the folders of splits are, or would be, once links are followed."""
        return tuple(os.path.realpath(self.root / name) for names in SPELLINGS.values() for name in names)

    def place(self, split: str) -> str:
        """What messages call a split: its folder, or the value of its rows."""
        return f"split {SPELLINGS[split][0]}" if self.is_list else f"{self.folders.get(split, SPELLINGS[split][0])}/"

    def refuse(self, kind: str, problem: str) -> None:
        """Report an entry that cannot be read; of one kind MAX_NAMED are named and the rest are counted."""
        self.refused[kind] += 1
        if self.refused[kind] <= MAX_NAMED:
            self.problems.append(problem)

    def beyond(self) -> list[str]:
        """A sentence per kind of which `refuse` did not name all."""
        more = {kind: count - MAX_NAMED for kind, count in self.refused.items()}
        return [f"... and {count} more {kind}." for kind, count in more.items() if count > 0]

    def leave_out(self, reason: str, name: str) -> None:
        """Count an entry that is not read, and keep its name as an example."""
        self.ignored[reason] += 1
        names = self.examples.setdefault(reason, [])
        if name not in names and len(names) < EXAMPLES:
            names.append(name)

    def leave_out_file(self, path: str) -> None:
        """Count a file without the extension of an image; `unread` keeps its path."""
        self.ignored["not images"] += 1
        self.unread.append(path)

    def left_out(self) -> str:
        """Counts by reason with examples, "" if nothing was left out."""
        return ", ".join(
            f"{count} {reason} ({summarise(self.examples[reason], EXAMPLES)})"
            for reason, count in sorted(self.ignored.items(), key=lambda entry: entry[0])
            if reason in self.examples
        )
