"""How well scores from exported files agree with the run's own, and whether that is enough."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.errors import HarnessError
from harness.export import scoring
from harness.export.formats import Format
from harness.export.reference import Reference
from harness.runs.resampling import macro_f1

# A library must open the files themselves, and nothing else.
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}


@dataclass(frozen=True)
class Agreement:
    """Scores from exported files against the run's, on all test images."""

    n: int
    same_class: int  # of the same pixels
    largest_difference: float  # of a probability, of the same pixels
    f1: float  # of the exported files
    run_f1: float  # of the run
    opened_differently: int  # images that Pillow's plain `open` gives other pixels than the run had ...
    opening_difference: float  # ... and the most by which that alone moves a probability

    def __str__(self) -> str:
        text = (
            f"{self.same_class} of {self.n} the same class, largest |difference of probability| "
            f"{self.largest_difference:.1g}, macro F1 {self.f1:.4f} (the run: {self.run_f1:.4f})"
        )
        if self.opened_differently:
            text += (
                f". Pillow opens {self.opened_differently} of the images with other pixels than the run had, which by "
                f"itself moves a probability by up to {self.opening_difference:.1g}"
            )
        return text


def agreement_of(reference: Reference, probabilities: np.ndarray) -> Agreement:
    """Compare probabilities (N, C) of exported files with those of the run."""
    run, opened = reference.run, reference.opened
    if probabilities.shape != run.shape or not np.isfinite(probabilities).all():
        raise HarnessError(
            f"the exported files give {probabilities.shape} probabilities instead of {run.shape}, or not all finite"
        )
    predicted, classes = probabilities.argmax(1), run.shape[1]
    return Agreement(
        n=len(run),
        same_class=int((predicted == opened.argmax(1)).sum()),
        largest_difference=float(np.abs(probabilities - opened).max()),
        f1=macro_f1(reference.labels, predicted, classes),
        run_f1=macro_f1(reference.labels, run.argmax(1), classes),
        opened_differently=int(reference.differs.sum()),
        opening_difference=float(np.abs(opened - run).max()),
    )


def problem_with(form: Format, agreement: Agreement, reference: Reference) -> str:
    """Why a format is not written, in one sentence; empty if it agrees within its tolerance."""
    tolerance, reasons = form.tolerance, []
    if agreement.largest_difference > tolerance.probability:
        reasons.append(
            f"a probability differs by {agreement.largest_difference:.2g}, and rounding explains "
            f"{tolerance.probability:g} at most"
        )
    changed = agreement.n - agreement.same_class
    if changed > tolerance.other_class * agreement.n:
        reasons.append(f"{changed} of {agreement.n} images get another class ({tolerance.other_class:.0%} may)")
    lost = macro_f1(reference.labels, reference.opened.argmax(1), reference.run.shape[1]) - agreement.f1
    if lost > tolerance.f1:
        reasons.append(f"macro F1 is {lost:.4f} lower ({tolerance.f1:g} is allowed)")
    if not reasons:
        return ""
    if form.name == "hf-vit" and reference.cut_differently:
        reasons.append(
            f"transformers' own processors cut the centre of {reference.cut_differently} of {agreement.n} images one "
            "pixel off; --to hf does not"
        )
    return f"{form.name} is not written: scored from the exported files by {form.opened_by}, {'; '.join(reasons)}."


def scored(form: Format, folder: Path, reference: Reference) -> np.ndarray:
    """Probabilities (N, C) of the test images, from the files in `folder`, computed by a fresh process."""
    with tempfile.TemporaryDirectory(prefix="harness-") as scratch:
        images, result = Path(scratch, "images.json"), Path(scratch, "probabilities.npy")
        images.write_text(json.dumps([os.fspath(path.absolute()) for path in reference.paths]))
        files = ((folder / form.opened).absolute(), images, result)
        # -P: the folder of the script, this package, is not searched for modules.
        command = [sys.executable, "-P", os.fspath(scoring.__file__), form.name, *map(os.fspath, files)]
        ended = subprocess.run(command, env=os.environ | OFFLINE, capture_output=True, text=True, errors="replace")
        if ended.returncode:
            lines = ended.stderr.strip().splitlines() or [f"exit code {ended.returncode}"]
            raise HarnessError(f"{form.opened_by} cannot score the exported files: {lines[-1]}")
        return np.load(result)
