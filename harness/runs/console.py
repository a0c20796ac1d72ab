"""Output of a run: a progress bar on a terminal, one line per epoch elsewhere, a table at the end."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tqdm import tqdm

from harness.errors import printable


class Console:
    """Prints on the main process only. The `harness` loggers print through it, above the bar."""

    def __init__(self, *, enabled: bool = True) -> None:
        self._enabled = enabled
        self._bar: tqdm[Any] | None = None
        _ConsoleHandler(self).replace_earlier()

    def say(self, text: str) -> None:
        """Print lines; control characters in them, from names of files and classes, are escaped."""
        if not self._enabled:
            return
        text = "\n".join(map(printable, text.split("\n")))
        if self._bar is not None:
            self._bar.write(text)
        else:
            print(text, flush=True)

    def begin(self, total_steps: int, step: int) -> None:
        """Start the bar of a run that has done `step` steps; off a terminal there is no bar."""
        if self._enabled and sys.stderr.isatty():
            self._bar = tqdm(total=total_steps, initial=step, unit="step", dynamic_ncols=True, smoothing=0.1)

    def advance(self, steps: int, epoch: int, row: Mapping[str, float]) -> None:
        if self._bar is not None:
            self._bar.set_description(f"epoch {epoch + 1}", refresh=False)
            self._bar.set_postfix_str(
                f"loss {row['train/loss']:.3f}, {row['train/images_per_second']:.0f} images/s", refresh=False
            )
            self._bar.update(steps)

    def epoch(self, epochs: int, row: Mapping[str, float], *, best: bool) -> None:
        self.say(
            f"epoch {row['epoch']:.0f}/{epochs}  val loss {row['val/loss']:.4f}  accuracy {row['val/accuracy']:.4f}  "
            f"F1 {row['val/f1']:.4f}{'  best so far' if best else ''}"
        )

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def table(self, title: str, rows: Mapping[str, str]) -> None:
        """Two aligned columns under a title."""
        self.say("\n".join(["", title, *(f"  {line}" for line in aligned(rows.items()))]))


class _ConsoleHandler(logging.Handler):
    """Sends log messages of the harness to the console of the current run."""

    def __init__(self, console: Console) -> None:
        super().__init__(logging.INFO)
        self._console = console

    def replace_earlier(self) -> None:
        """Replace an earlier handler. A forked rank inherits one, even if its own console is silent."""
        logger = logging.getLogger("harness")
        for handler in list(logger.handlers):
            if isinstance(handler, _ConsoleHandler):
                logger.removeHandler(handler)
        logger.addHandler(self)
        logger.setLevel(logging.INFO)

    def emit(self, record: logging.LogRecord) -> None:
        self._console.say(self.format(record))


def aligned(rows: Iterable[Sequence[str]]) -> list[str]:
    """Rows of cells as lines, in columns as wide as their longest cell."""
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


class Stopwatch:
    """Seconds and images since the last lap."""

    def __init__(self) -> None:
        self.images = 0
        self._since = time.perf_counter()

    def lap(self) -> tuple[float, int]:
        now = time.perf_counter()
        seconds, images = now - self._since, self.images
        self._since, self.images = now, 0
        return seconds, images
