"""Caveats of the best setting: no better than guessing, hardly trained, chosen by a score that is then too high."""

from __future__ import annotations

import math
from collections.abc import Iterator

from harness.runs.rules import HARDLY_TRAINED, UNDERCONFIDENT
from reports import columns
from reports.caveat import Caveat
from reports.collection import Collection
from reports.stats.selection import selection

LEAST_EXCESS = 0.0005  # of a score; three digits are shown


def near_guessing(collection: Collection) -> Iterator[Caveat]:
    """A best setting whose test macro F1 may be that of guesses: 1 / classes, if classes have equally many images."""
    best = collection.best
    if best is None or best.predictions.problem:
        return
    f1, classes = collection.board.ranked[0].setting.test_f1, len(best.predictions.classes)
    if classes > 1 and f1.mean is not None and f1.low is not None and f1.low <= 1 / classes:
        yield Caveat(
            f"The best setting may be no better than guessing: its test macro F1 is {columns.number(f1.mean)}, 95 % "
            f"interval {columns.span(f1.low, f1.high)}; guessing gives about {1 / classes:.3g}."
        )


def hardly_trained(collection: Collection) -> Iterator[Caveat]:
    """A winner whose validation loss is not far below that of guessing; under-confident ones need more training."""
    best = collection.best
    loss, classes = (best.metric("best/val_loss"), best.part("data").get("classes")) if best else (None, None)
    guessing = math.log(max(classes, 2)) if isinstance(classes, int) else math.inf
    if best and loss is not None and loss > HARDLY_TRAINED * guessing:
        numbers = f"its validation loss is {loss:.2f}; guessing among {classes} classes has {guessing:.2f}."
        if (best.metric("test/temperature") or 1) < UNDERCONFIDENT:
            text = f"The best run is hardly trained: {numbers} Train longer, or with a higher learning rate."
            yield Caveat(text, ("Its probabilities are under-confident.",))
        else:  # the loss may come from confident errors, which longer training does not lower
            yield Caveat(f"The best run has a high loss: {numbers}")


def chosen_by_validation(collection: Collection) -> Iterator[Caveat]:
    """By how much the winner's validation score is too high, unless that is less than the digits show."""
    ranked = collection.board.ranked
    if collection.board.metric == "best/val_f1" and (found := selection(ranked)) and found.excess >= LEAST_EXCESS:
        yield Caveat(
            f"The best of {len(ranked)} settings was chosen by its validation F1, which is therefore about "
            f"{found.excess:.3f} too high (simulated for {found.images} validation images). Its test scores did not "
            "choose it.",
            is_grave=False,
        )
