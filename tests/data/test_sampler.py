"""Orders of an epoch: each image once, or each class equally often, and nothing but seed and epoch decides."""

from __future__ import annotations

import numpy as np
import pytest

from harness.data import rng
from harness.data.sampler import BLOCK, WINDOW, _round_orders, balanced, in_blocks, shuffled

# Six, three and one image of three classes, mixed up.
LABELS = np.array([0, 1, 0, 2, 0, 1, 0, 0, 1, 0])


def test_shuffle_takes_each_image_once_in_the_order_of_earlier_versions() -> None:
    order = shuffled(LABELS, seed=3, epoch=2)
    expected = rng.generator(3, rng.ORDER, epoch=2).permutation(10)
    assert np.array_equal(order.samples, expected)
    assert np.array_equal(order.draws, expected)


def test_classes_take_turns_from_epoch_to_epoch() -> None:
    epochs = [balanced(LABELS, seed=0, epoch=epoch).samples for epoch in range(3)]
    # Ten places an epoch: 0 1 2 0 1 2 0 1 2 0, then 1 2 0 ... 1, then 2 0 1 ... 2.
    assert [np.bincount(LABELS[samples]).tolist() for samples in epochs] == [[4, 3, 3], [3, 4, 3], [3, 3, 4]]
    times = np.bincount(np.concatenate(epochs), minlength=10)
    assert sorted(times[LABELS == 0].tolist()) == [1, 1, 2, 2, 2, 2]  # ten places, six images
    assert sorted(times[LABELS == 1].tolist()) == [3, 3, 4]
    assert times[LABELS == 2].tolist() == [10]


@pytest.mark.parametrize("epochs", [1, 2, 5, 9])
def test_images_of_a_class_never_differ_by_more_than_one_use(epochs: int) -> None:
    times = np.bincount(
        np.concatenate([balanced(LABELS, seed=1, epoch=epoch).samples for epoch in range(epochs)]), minlength=10
    )
    for class_index in range(3):
        of_class = times[class_index == LABELS]
        assert of_class.max() - of_class.min() <= 1
        assert of_class.sum() in (epochs * 10 // 3, epochs * 10 // 3 + 1)


def test_the_random_numbers_of_a_repeated_image_differ() -> None:
    order = balanced(LABELS, seed=0, epoch=0)
    assert len(set(order.draws.tolist())) == 10
    assert np.array_equal(order.draws % 10, order.samples)
    # The only image of class 2 stands three times in the epoch: first with its own numbers.
    assert order.draws[order.samples == 3].tolist() == [3, 13, 23]


def test_seed_and_epoch_decide_and_nothing_else() -> None:
    def samples(seed: int, epoch: int) -> list[int]:
        return balanced(LABELS, seed=seed, epoch=epoch).samples.tolist()

    assert samples(0, 4) == samples(0, 4)
    assert samples(0, 4) != samples(0, 5)
    assert samples(0, 4) != samples(1, 4)


@pytest.mark.parametrize("images", [1, 3, 4, 5])
def test_a_round_is_a_permutation_that_does_not_depend_on_where_one_starts(images: int) -> None:
    orders = _round_orders(0, 6, images, seed=7, class_index=2)
    assert np.array_equal(np.sort(orders, axis=1), np.tile(np.arange(images), (6, 1)))
    assert np.array_equal(_round_orders(2, 3, images, seed=7, class_index=2), orders[2:5])
    if images > 2:
        assert len({tuple(order) for order in orders.tolist()}) > 1


def test_equal_classes_are_each_taken_once() -> None:
    labels = np.repeat(np.arange(4), 5)
    for epoch in range(3):
        assert sorted(balanced(labels, seed=0, epoch=epoch).samples.tolist()) == list(range(20))


def test_blocks_of_neighbours_are_shuffled_a_window_at_a_time() -> None:
    stored = np.random.default_rng(0).permutation(107)
    place = stored.argsort()  # of each image in the cache
    for epoch in range(4):
        order = in_blocks(stored, seed=3, epoch=epoch, block=10, window=30)
        assert np.array_equal(order.samples, order.draws)
        assert sorted(order.samples.tolist()) == list(range(107))
        for start in (0, 30, 60):  # the last window holds the 17 images of a block and of the remainder
            places = np.sort(place[order.samples[start : start + 30]])
            runs = np.split(places, np.flatnonzero(np.diff(places) != 1) + 1)
            inside = [len(run) for run in runs if run[0] > 0 and run[-1] < 106]
            assert all(length % 10 == 0 for length in inside), runs
            assert not np.array_equal(np.sort(order.samples[start : start + 30]), order.samples[start : start + 30])
    assert len({tuple(in_blocks(stored, seed=3, epoch=epoch).samples) for epoch in range(4)}) == 4
    assert not np.array_equal(in_blocks(stored, seed=4, epoch=0).samples, in_blocks(stored, seed=3, epoch=0).samples)


def test_the_order_in_blocks_stays_that_of_this_version() -> None:
    """A run that resumes with a later version must find the same order; sizes of block and window are part of it."""
    assert (BLOCK, WINDOW) == (256, 2048)
    order = in_blocks(np.arange(13), seed=1, epoch=2, block=3, window=6).samples
    assert order.tolist() == [3, 7, 8, 4, 5, 6, 2, 1, 9, 11, 0, 10, 12]


@pytest.mark.parametrize("images", [1, 255, 256, 2048, 5000])
def test_blocks_hold_each_image_once(images: int) -> None:
    assert np.array_equal(np.sort(in_blocks(np.arange(images), seed=0, epoch=0).samples), np.arange(images))
