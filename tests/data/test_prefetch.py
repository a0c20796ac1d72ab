"""Threads that work ahead keep order, raise where it belongs and end; normalising is torchvision's."""

from __future__ import annotations

import functools
import threading

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from harness.data.prefetch import AHEAD, Normalise, Staging, work_ahead

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def our_threads() -> int:
    return sum(thread.name.startswith("images") for thread in threading.enumerate())


@pytest.mark.parametrize("workers", [1, 3])
def test_results_come_in_order_whatever_the_threads_do(workers: int) -> None:
    batches = [[functools.partial(lambda a, b: (a, b), batch, part) for part in range(3)] for batch in range(7)]
    assert list(work_ahead(batches, workers)) == [[(batch, part) for part in range(3)] for batch in range(7)]
    assert our_threads() == 0


def test_calls_are_asked_for_only_when_a_buffer_is_free() -> None:
    asked: list[int] = []

    def calls(number: int) -> list[functools.partial[int]]:
        asked.append(number)
        return [functools.partial(int, number)]

    results = work_ahead(map(calls, range(10)), 1)
    for number, result in enumerate(results):
        assert result == [number]
        assert asked == list(range(min(10, number + AHEAD + 1)))


def test_an_error_in_a_thread_arrives_at_its_batch_and_ends_the_threads() -> None:
    results = work_ahead([[lambda: 1], [lambda: 1 // 0], [lambda: 3]], 2)
    assert next(results) == [1]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert our_threads() == 0


def test_closing_early_ends_the_threads_and_drops_work_not_begun() -> None:
    begun: list[int] = []
    results = work_ahead(([functools.partial(begun.append, number)] for number in range(100)), 2)
    next(results)
    assert our_threads() > 0
    results.close()
    assert our_threads() == 0
    assert len(begun) <= AHEAD + 1


def test_normalised_images_are_those_of_torchvision() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3)).astype(np.uint8)
    expected = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)])(picture)
    normalise, out = Normalise(MEAN, STD), np.zeros((3, 32, 32), np.float32)
    normalise.image(picture, out)
    assert np.abs(out - expected.numpy()).max() < 1e-6
    tensor = normalise.tensor(torch.from_numpy(picture).permute(2, 0, 1)[None])
    assert tensor.is_contiguous()
    assert torch.equal(tensor[0], torch.from_numpy(out))


def test_a_buffer_returns_only_after_the_batches_ahead() -> None:
    staging = Staging(2, 8, Normalise(MEAN, STD), torch.device("cpu"))
    pictures = [np.full((8, 8, 3), level, np.uint8) for level in range(AHEAD + 2)]
    taken = []
    for number, picture in enumerate(pictures):
        staging.reserve(number)
        staging.put(number, 0, picture)
        taken.append(staging.take(number, 1))
    assert all(images.shape == (1, 3, 8, 8) and images.is_contiguous() for images in taken)
    assert len({images.data_ptr() for images in taken[: AHEAD + 1]}) == AHEAD + 1
    assert taken[0].data_ptr() == taken[AHEAD + 1].data_ptr()


def test_each_worker_computes_with_one_thread_and_the_caller_keeps_its_number() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert list(work_ahead([[torch.get_num_threads]] * 3, 2)) == [[1]] * 3
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
