"""Orders of an epoch: each image once, or each class equally often, and nothing but seed and epoch decides."""

from __future__ import annotations

import numpy as np
import pytest

from harness.data import rng
from harness.data.sampler import _round_orders, balanced, shuffled

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
