"""The same work on many images, on every core this process may use, in order and with little memory."""

from __future__ import annotations

import collections
import contextlib
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from tqdm import tqdm

from harness.launch.cores import usable_cores

Item = TypeVar("Item")
Result = TypeVar("Result")

SAY_EVERY = 60.0  # seconds; whoever watches a log can tell work from a hang


def on_every_core(
    work: Callable[[Item], Result], items: Iterable[Item], add: Callable[[int], None]
) -> Iterator[Result]:
    """work(item) for each item, in order, counted by `add` of `progress_of`. In threads: Pillow releases the GIL.

    Items are taken as they are needed.
    """
    workers = usable_cores()
    pool = ThreadPoolExecutor(workers)
    waiting: collections.deque[Future[Result]] = collections.deque()
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > 4 * workers:  # bounds what is held in memory if the reader is slow
                yield waiting.popleft().result()
                add(1)
        while waiting:
            yield waiting.popleft().result()
            add(1)
    finally:
        pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def progress_of(title: str, total: int, show: bool = True) -> Iterator[Callable[[int], None]]:
    """A function that adds to the number of images that are done.

    On a terminal a bar shows how far it is, elsewhere a line at the start, one a minute and one at the end.
    """
    terminal = sys.stderr.isatty()
    lines = show and not terminal
    if lines:
        print(f"{title}: {total} images", file=sys.stderr, flush=True)
    began = said = time.monotonic()
    done = 0

    def add(count: int) -> None:
        nonlocal said, done
        done += count
        bar.update(count)
        if lines and time.monotonic() - said > SAY_EVERY:
            said = time.monotonic()
            print(f"{title}: {done} of {total} images", file=sys.stderr, flush=True)

    with tqdm(total=total, desc=title, unit=" images", disable=not (show and terminal)) as bar:
        yield add
    if lines:
        seconds = max(time.monotonic() - began, 1e-9)
        rate = total / seconds
        print(f"{title}: done in {seconds:.1f} s ({rate:.0f} images/s)", file=sys.stderr, flush=True)
