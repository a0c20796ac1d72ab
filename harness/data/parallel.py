"""The same work on many images, on every core this process may use, in order and with little memory."""

from __future__ import annotations

import collections
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from tqdm import tqdm

from harness.launch.cores import usable_cores

Result = TypeVar("Result")

SAY_EVERY = 60.0  # seconds; whoever watches a log can tell work from a hang


def on_every_core(
    work: Callable[[str], Result], files: Sequence[str], *, title: str, progress: bool = True
) -> Iterator[Result]:
    """work(file) for each file, in order. In threads: Pillow releases the GIL while it decodes.

    On a terminal a bar shows how far it is, elsewhere a line at the start, one a minute and one at the end.
    """
    terminal = sys.stderr.isatty()
    if progress and not terminal:
        print(f"{title}: {len(files)} images", file=sys.stderr, flush=True)
    began = time.monotonic()
    workers = usable_cores()
    pool = ThreadPoolExecutor(workers)
    bar = tqdm(total=len(files), desc=title, unit=" images", disable=not (progress and terminal))
    waiting: collections.deque[Future[Result]] = collections.deque()
    said = began
    try:
        for number, file in enumerate(files):
            if progress and not terminal and time.monotonic() - said > SAY_EVERY:
                said = time.monotonic()
                print(f"{title}: {number} of {len(files)} images", file=sys.stderr, flush=True)
            waiting.append(pool.submit(work, file))
            if len(waiting) > 4 * workers:  # bounds what is held in memory if the reader is slow
                yield waiting.popleft().result()
                bar.update()
        while waiting:
            yield waiting.popleft().result()
            bar.update()
    finally:
        bar.close()
        pool.shutdown(cancel_futures=True)
    seconds = max(time.monotonic() - began, 1e-9)
    if progress and not terminal:
        rate = len(files) / seconds
        print(f"{title}: done in {seconds:.1f} s ({rate:.0f} images/s)", file=sys.stderr, flush=True)
