"""The pointing game, counted by hand."""

from __future__ import annotations

import numpy as np

from harness.evidence.pointing import measure_pointing
from harness.runs.evidence_file import HOLDS, OPEN


def test_hits_are_highest_patches_that_are_at_least_half_object():
    coverage = np.array([[0.5, 0, 0, 0], [0.4, 1, 0, 0], [0, 0, 1, 1], [0, 0, 0, 1]])
    maps = {"map": np.array([[3, 2, 1, 0], [3, 2, 1, 0], [0, 1, 3, 2], [0, 1, 2, 3]])}
    first, last = np.tile([1, 0, 0, 0], (4, 1)), np.tile([0, 0, 0, 1], (4, 1))
    pointing = measure_pointing(maps, {"centre": first, "mean of other images": last}, coverage, beats_guessing=True)
    assert pointing.n == 4
    assert pointing.chance == 5 / 16
    assert {name: hits.value for name, hits in pointing.hits.items()} == {
        "map": 0.75,
        "centre": 0.25,
        "mean of other images": 0.5,
    }
    assert pointing.baseline == "mean of other images"
    assert pointing.differences["map"].value == 0.25
    assert pointing.claim("map").verdict == OPEN


def test_a_map_that_always_hits_where_baselines_do_not_holds():
    coverage = np.tile([0, 1, 0, 0], (20, 1))
    elsewhere = np.tile([1, 0, 0, 0], (20, 1))
    baselines = {"centre": elsewhere, "mean of other images": elsewhere}
    assert measure_pointing({"map": coverage}, baselines, coverage, beats_guessing=True).claim("map").verdict == HOLDS
    guessing = measure_pointing({"map": coverage}, baselines, coverage, beats_guessing=False)
    assert guessing.claim("map").verdict == OPEN
