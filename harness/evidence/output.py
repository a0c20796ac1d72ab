"""Writes what was measured: `evidence.json`, figures in the run folder, and both in W&B."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.evidence.figures import evidence_figures
from harness.files import write_atomically
from harness.runs import figures
from harness.runs.evidence_file import Claim
from harness.runs.rules import EVIDENCE_FILE
from harness.track import Tracker

VERSION = 1


def write_and_log(
    run_folder: Path, images: int, claims: Sequence[Claim], results: Mapping[str, Any], tracker: Tracker | None = None
) -> dict[str, Any]:
    """Write and draw the results of `images` test images; returns entries of summary.json. `results` by measure."""
    plain = {name: dataclasses.asdict(result) for name, result in results.items()}
    document = {
        "version": VERSION,
        "images": images,
        "claims": [dataclasses.asdict(claim) for claim in claims],
        "results": plain,
    }
    write_atomically(run_folder / EVIDENCE_FILE, (json.dumps(document, indent=1) + "\n").encode())
    folder = run_folder / "figures"
    folder.mkdir(exist_ok=True)
    for name, figure in evidence_figures(plain).items():
        path = figures.save(figure, folder / f"{name}.png")
        if tracker:
            tracker.image(f"figures/{name}", path)
    return summary(claims)


def summary(claims: Sequence[Claim]) -> dict[str, Any]:
    """For a run's summary: of each claim the number that decides it, if it was measured, and the verdict."""
    entries: dict[str, Any] = {}
    for claim in claims:
        if claim.n:
            entries[f"evidence/{claim.key}"] = claim.measured.value
        entries[f"evidence/{claim.key}_verdict"] = claim.verdict
    return entries
