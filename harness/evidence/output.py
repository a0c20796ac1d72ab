"""Writes what was measured: `evidence.json`, figures in the run folder, and both in W&B."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.evidence.figures import evidence_figures
from harness.files import write_atomically
from harness.runs import figures
from harness.runs.evidence_file import Claim
from harness.runs.rules import EVIDENCE_FILE
from harness.track import Tracker

if TYPE_CHECKING:
    from matplotlib.figure import Figure

VERSION = 1
# All that are ever drawn: those of an earlier verification, of other images, do not stay beside the new numbers.
FIGURES = ("depth", "heads", "positions", "faithfulness", "maps", "before_after", "mistakes")


def write_and_log(
    run_folder: Path,
    images: int,
    claims: Sequence[Claim],
    results: Mapping[str, Any],
    with_images: Mapping[str, Figure],
    tracker: Tracker | None,
) -> dict[str, Any]:
    """Write and draw what was measured on `images` test images; returns entries of summary.json.

    `results` are the numbers as in evidence.json, by measure; `with_images` the figures that need images.
    """
    document = {
        "version": VERSION,
        "images": images,
        "claims": [dataclasses.asdict(claim) for claim in claims],
        "results": results,
    }
    write_atomically(run_folder / EVIDENCE_FILE, (json.dumps(document, indent=1, allow_nan=False) + "\n").encode())
    folder = run_folder / "figures"
    folder.mkdir(exist_ok=True)
    drawn = evidence_figures(results) | {f"evidence_{name}": figure for name, figure in with_images.items()}
    for name in FIGURES:
        if f"evidence_{name}" not in drawn:
            (folder / f"evidence_{name}.png").unlink(missing_ok=True)
    for name, figure in drawn.items():
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
