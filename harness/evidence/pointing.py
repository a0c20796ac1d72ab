"""Whether a map points at the object: the pointing game (Zhang et al. 2018, arXiv 1608.00507), where there are masks.

A hit is an image whose highest patch is at least half object. Shapes: n images with masks, P patches.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from harness.evidence.faithfulness import CENTRE, OTHERS
from harness.evidence.verdict import FEWEST, above
from harness.runs.evidence_file import OPEN, Claim
from harness.runs.resampling import Interval, mean_intervals

HALF = 0.5  # of a patch that the object must cover
RULE = (
    "Hits of the map less hits of the better of two maps that do not look at the image: a Gaussian at the centre, and "
    "the mean map of the other images. holds: the whole interval is above 0. does not hold: it is below 0. cannot be "
    f"told: anything else, fewer than {FEWEST} images with masks, or a model that does not beat guessing."
)


@dataclass(frozen=True)
class Pointing:
    """Share of hits of every map and baseline by name."""

    n: int
    chance: float  # share of patches that would be a hit
    hits: Mapping[str, Interval]
    baseline: str  # the baseline with more hits
    differences: Mapping[str, Interval]  # of each map from the baseline
    beats_guessing: bool

    def claim(self, name: str) -> Claim:
        return Claim(
            "maps_point_at_objects",
            f"The map {name} points at the object.",
            f"hits less those of {self.baseline}",
            self.differences[name],
            self.n,
            above(self.differences[name], self.n) if self.beats_guessing else OPEN,
            RULE,
        )


def measure_pointing(
    maps: Mapping[str, np.ndarray],
    baselines: Mapping[str, np.ndarray],
    coverage: np.ndarray,
    *,
    beats_guessing: bool,
) -> Pointing:
    """Hits of maps and baselines (n, P); `coverage` (n, P) is the share of each patch that is object."""
    is_hit = coverage >= HALF
    hits = {
        name: is_hit[np.arange(len(values)), values.astype(np.float64).argmax(1)].astype(np.float64)
        for name, values in {**maps, CENTRE: baselines[CENTRE], OTHERS: baselines[OTHERS]}.items()
    }
    measured = dict(zip(hits, mean_intervals(np.column_stack(list(hits.values()))), strict=True))
    baseline = max((CENTRE, OTHERS), key=lambda name: measured[name].value)
    differences = mean_intervals(np.column_stack([hits[name] - hits[baseline] for name in maps]))
    by_map = dict(zip(maps, differences, strict=True))
    return Pointing(len(coverage), float(is_hit.mean()), measured, baseline, by_map, beats_guessing)
