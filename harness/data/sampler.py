"""Which images an epoch takes, and in what order: each image once, or as many of each class.

N training images, C classes. An order follows from seed, epoch and images: it is the same on any machine and number of
processes, and a resumed run continues it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from harness.data import rng

BLOCK = 256  # images that are read together, with --shuffle blocks; another number is another order
WINDOW = 8 * BLOCK  # images of the blocks that are shuffled together

_PHILOX_BLOCK = 4  # 64-bit numbers for each step of Philox's counter


class Order(NamedTuple):
    """The images of an epoch, in order."""

    samples: np.ndarray  # int64 (N,): images of the train split
    draws: np.ndarray  # int64 (N,): index of an image's random numbers; a repeated image gets other ones


def shuffled(labels: np.ndarray, *, seed: int, epoch: int) -> Order:
    """Each of the images once, in random order."""
    order = rng.generator(seed, rng.ORDER, epoch=epoch).permutation(len(labels))
    return Order(order, order)


def in_blocks(stored: np.ndarray, *, seed: int, epoch: int, block: int = BLOCK, window: int = WINDOW) -> Order:
    """Each image once: blocks of neighbours in `stored` (N,) in random order, shuffled within every `window` images.

    Images p to p + window of the order are those of window // block whole blocks, so that they can be read in sequence.
    Where the first block begins is random, too: from epoch to epoch an image has other neighbours.
    """
    generator, count = rng.generator(seed, rng.ORDER, epoch=epoch), len(stored)
    begun = np.roll(stored, -int(generator.integers(count)))
    whole = count // block * block
    order = np.concatenate([generator.permutation(begun[:whole].reshape(-1, block)).ravel(), begun[whole:]])
    for start in range(0, count, window):
        generator.shuffle(order[start : start + window])
    return Order(order, order)


def balanced(labels: np.ndarray, *, seed: int, epoch: int) -> Order:
    """As many images as there are, the same number of each class, or one more for N mod C of them.

    The classes take turns, from epoch to epoch without a break: place p of the run belongs to class p mod C. A class
    uses each of its images once, in random order, before it uses one of them again.
    """
    count, num_classes = len(labels), int(labels.max()) + 1
    places = np.arange(epoch * count, (epoch + 1) * count)
    chosen = np.empty(count, np.int64)
    for class_index in range(num_classes):
        of_class = places % num_classes == class_index
        images = np.flatnonzero(labels == class_index)
        rounds, turns = np.divmod(places[of_class] // num_classes, len(images))
        if len(rounds):
            first = int(rounds[0])
            orders = _round_orders(first, int(rounds[-1]) + 1 - first, len(images), seed=seed, class_index=class_index)
            chosen[of_class] = images[orders[rounds - first, turns]]
    samples = chosen[shuffled(labels, seed=seed, epoch=epoch).samples]
    return Order(samples, samples + count * _earlier(samples))


def _round_orders(first: int, rounds: int, images: int, *, seed: int, class_index: int) -> np.ndarray:
    """int64 (rounds, images): random orders of a class's images, of the rounds from `first` on."""
    generator = rng.generator(seed, rng.CLASS_ORDER, epoch=0, index=class_index)
    blocks = -(-images // _PHILOX_BLOCK)  # of one round
    generator.bit_generator.advance(first * blocks)  # type: ignore[attr-defined]
    numbers = generator.random((rounds, blocks * _PHILOX_BLOCK))[:, :images]
    return numbers.argsort(axis=1, kind="stable")


def _earlier(samples: np.ndarray) -> np.ndarray:
    """int64 (N,): how often each image stands earlier in the order."""
    by_image = samples.argsort(kind="stable")
    places = np.arange(len(samples))
    is_first = np.r_[True, samples[by_image][1:] != samples[by_image][:-1]]
    earlier = np.empty(len(samples), np.int64)
    earlier[by_image] = places - np.maximum.accumulate(np.where(is_first, places, 0))
    return earlier


# By the value of --sampler.
ORDERS = {"shuffle": shuffled, "balanced": balanced}
