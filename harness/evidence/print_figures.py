"""Evidence figures of the best verified run in a folder, for `harness figures`: drawn from `evidence.json` alone."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

from harness.evidence.figures import evidence_figures
from harness.explain.drawing.study_figures import StudyFigure, finished_runs
from harness.runs.evidence_file import VERIFY_AGAIN
from harness.runs.reading import UnreadableError, read_object
from harness.runs.rules import EVIDENCE_FILE

CAPTIONS = {
    "evidence_depth": "What each layer knows: accuracy by layer, and similarity with the last layer (linear CKA)",
    "evidence_heads": "Change of the loss when one head gives its mean output; dots mark heads that matter",
    "evidence_positions": "What happens when the position embedding is shuffled, averaged or zero",
    "evidence_faithfulness": "Probability of the prediction when patches are kept or dropped in the order of a map",
    "evidence_maps": "Rank correlation of maps after weights are replaced by random ones; hits of the pointing game",
}


def verified_figures(folder: Path) -> Iterator[StudyFigure]:
    """No figure if no run was verified. Raises UnreadableError if evidence.json is damaged or of an earlier version."""
    run = next((run for run in finished_runs(folder) if (run.path / EVIDENCE_FILE).is_file()), None)
    if run is None:
        return
    path = run.path / EVIDENCE_FILE
    try:
        figures = evidence_figures(read_object(path, VERIFY_AGAIN)["results"])
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise UnreadableError(path, "is damaged or of an earlier version", VERIFY_AGAIN) from error
    for number, name in enumerate(figures, start=8):
        caption = f"{CAPTIONS[name]}. The best verified run ({run.label}); 95 % intervals over test images."
        yield StudyFigure(
            f"{number}_{name.removeprefix('evidence_')}", functools.partial(figures.__getitem__, name), caption
        )
