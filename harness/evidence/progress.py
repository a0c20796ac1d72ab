"""Measures that are done, kept in the run folder until all are: `harness verify` resumes after the last of them."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.evidence.opened import Opened
from harness.files import write_atomically
from harness.model.shards import digest
from harness.runs.evidence_file import Claim, claim_of
from harness.runs.folder import BEST
from harness.runs.reading import UnreadableError, read_object
from harness.runs.rules import finite

PARTIAL_FILE = "evidence.partial.json"
VERSION = 1  # of the measures: a later version measures everything again


@dataclass(frozen=True, eq=False)
class Progress:
    """The finished measures of one verification, each with its result and its claims, as in evidence.json."""

    path: Path
    identity: dict[str, Any]  # what all results follow from
    done: dict[str, dict[str, Any]]

    def add(self, name: str, result: Any, claims: list[Claim]) -> None:
        """A dataclass, or None if there was nothing to measure; on disk at once. JSON has no NaN: it becomes null."""
        plain = None if result is None else finite(dataclasses.asdict(result))
        self.done[name] = {"result": plain, "claims": [dataclasses.asdict(claim) for claim in claims]}
        write_atomically(self.path, json.dumps({"identity": self.identity, "done": self.done}).encode())

    @property
    def results(self) -> dict[str, Any]:
        return {name: one["result"] for name, one in self.done.items() if one["result"] is not None}

    @property
    def claims(self) -> list[Claim]:
        return [claim_of(self.path, entry) for one in self.done.values() for entry in one["claims"]]

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)


def open_progress(run_folder: Path, opened: Opened) -> Progress:
    """What an interrupted verification of the same weights and images has measured; empty if there was none."""
    path = run_folder / PARTIAL_FILE
    identity = {
        "version": VERSION,
        "weights": digest(run_folder / "checkpoints" / BEST),
        "data": opened.dataset.fingerprint,
        "images": list(opened.tested.files),
    }
    try:
        document = read_object(path)
        if document["identity"] == identity:
            progress = Progress(path, identity, document["done"])
            if progress.results and progress.claims:
                return progress
    except (FileNotFoundError, UnreadableError, LookupError, TypeError, AttributeError):
        pass  # none, or damaged: everything is measured again
    return Progress(path, identity, {})
