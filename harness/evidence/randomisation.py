"""Whether a map depends on what the model learned: the same map of models whose weights are replaced by random ones.

The sanity check of Adebayo et al. 2018 (arXiv 1810.03292): weights are drawn again at random, from the last block
down, and maps of the same images are compared by rank correlation with those of the trained model. A map that hardly
changes when half of the model is random shows the image or the architecture. The number to compare with is the
correlation with the map of *another image* of the trained model.

Shapes: n images, P patches.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from torch import nn

from harness.evidence.verdict import FEWEST, below
from harness.explain.positions.measures import ranks
from harness.model.adapter import parts
from harness.runs.evidence_file import OPEN, Claim
from harness.runs.resampling import Interval, mean_intervals

STAGES = ("last block", "upper half", "all")
RULE = (
    "Rank correlation of the map with that of a model whose upper half is random, less its correlation with the map of "
    "another image, both of the same images. holds: the whole interval is below 0. does not hold: it is above 0. "
    f"cannot be told: anything else, fewer than {FEWEST} images in which the maps vary, or a model that does not beat "
    "guessing."
)


@dataclass(frozen=True)
class MapRandomisation:
    """Rank correlations of one map, as means over images; NaN if the map is the same everywhere in each of them."""

    n: int  # images in which both maps of `difference` vary
    other_image: Interval
    stages: Mapping[str, Interval]  # STAGES
    difference: Interval  # upper half random, less another image


@dataclass(frozen=True)
class Randomisation:
    """Every map by name."""

    n: int
    maps: Mapping[str, MapRandomisation]
    beats_guessing: bool

    def claim(self, name: str) -> Claim:
        one = self.maps[name]
        difference, number = one.difference, "correlation after randomising less that with another image"
        if not one.n:
            difference, number = Interval(0.0, 0.0, 0.0), "no image in which the map varies"
        return Claim(
            "maps_depend_on_weights",
            f"The map {name} depends on what the upper half of the model learned.",
            number,
            difference,
            one.n,
            below(difference, one.n) if self.beats_guessing else OPEN,
            RULE,
        )


def measure_randomisation(
    trained: Mapping[str, np.ndarray],
    maps_of: Callable[[nn.Module], Mapping[str, np.ndarray]],
    model: nn.Module,
    random: nn.Module,
    *,
    beats_guessing: bool,
) -> Randomisation:
    """Maps (n, P) of the trained model beside those of partly random ones.

    `random` is a model of the same architecture with new weights; `maps_of` computes maps of the same images.
    """
    at_stage = {stage: maps_of(partly_random(model, random, stage)) for stage in STAGES}
    results = {}
    for name, values in trained.items():
        columns = [rank_correlation(values, np.roll(values, -1, axis=0))]
        columns += [rank_correlation(values, maps[name]) for maps in at_stage.values()]
        columns.append(columns[1 + STAGES.index("upper half")] - columns[0])
        other, *stages, difference = mean_intervals(np.column_stack(columns))
        n = int(np.isfinite(columns[-1]).sum())
        results[name] = MapRandomisation(n, other, dict(zip(STAGES, stages, strict=True)), difference)
    return Randomisation(len(values), results, beats_guessing)


def partly_random(model: nn.Module, random: nn.Module, stage: str) -> nn.Module:
    """A copy of `random` with the trained weights below the randomised part; the head is always random."""
    mixed = copy.deepcopy(random).eval()
    if stage == "all":
        return mixed
    vit = parts(model)
    count = len(vit.blocks)
    trained = count - 1 if stage == "last block" else count - count // 2  # blocks that stay as they are
    above = {name for name, _ in model.named_parameters() if vit.depth(name) > trained}
    # Buffers are kept: statistics of batch norms belong to the stem, below all blocks.
    below = {name: values for name, values in model.state_dict().items() if name not in above}
    mixed.load_state_dict(mixed.state_dict() | below)
    return mixed


def rank_correlation(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Spearman's correlation of the rows of two (n, P), ties ranked in the middle; NaN where a row is constant."""
    ranked = [np.stack([ranks(row) for row in values.astype(np.float64)]) for values in (one, other)]
    centred = [each - each.mean(1, keepdims=True) for each in ranked]
    norms = np.linalg.norm(centred[0], axis=1) * np.linalg.norm(centred[1], axis=1)
    return np.divide((centred[0] * centred[1]).sum(1), norms, out=np.full(len(norms), np.nan), where=norms > 0)
