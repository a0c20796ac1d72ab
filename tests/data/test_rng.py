"""Generators by name: the same numbers for the same seed, purpose, epoch and image, and different ones otherwise."""

from __future__ import annotations

import itertools

from harness.data import rng

REFERENCE = [0.508838028117, 0.837724873436, 0.964514398432]


def test_every_name_has_its_own_numbers() -> None:
    names = list(itertools.product((0, 1), range(5), (0, 1, 2), (0, 1, 2)))
    first = [rng.generator(seed, stream, epoch=epoch, index=index).random(8) for seed, stream, epoch, index in names]
    again = [rng.generator(seed, stream, epoch=epoch, index=index).random(8) for seed, stream, epoch, index in names]
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert len({number for numbers in first for number in numbers.tolist()}) == 8 * len(names)


def test_a_long_draw_does_not_overlap_with_the_next_image() -> None:
    long = set(rng.generator(0, rng.IMAGE, epoch=0, index=0).random(10_000).tolist())
    assert long.isdisjoint(rng.generator(0, rng.IMAGE, epoch=0, index=1).random(100).tolist())


def test_the_numbers_of_a_run_stay_the_same_from_version_to_version() -> None:
    numbers = rng.generator(7, rng.IMAGE, epoch=3, index=11).random(3).round(12).tolist()
    assert numbers == REFERENCE, "If this change is meant, renew the reference: runs then no longer repeat older ones."
