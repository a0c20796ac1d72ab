"""Axes of the training curves: the line of guessing, and losses that end where most runs are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

# The axis of a loss is cut if the largest loss is more than so many times what the axis must show.
CUT_FROM = 2.0
MARGIN = 1.1


def cut_at(kept: Sequence[Sequence[float]], diverged: Sequence[Sequence[float]], guess: float | None) -> float | None:
    """Where the axis of a loss ends if diverged runs would flatten the others; None if it shows everything.

    `kept` and `diverged` are the losses of each run. The axis shows all of the kept ones, and the loss of guessing.
    """
    shown = [value for values in kept for value in values]
    highest = max((value for values in diverged for value in values), default=0.0)
    if not shown:
        return None
    end = MARGIN * max(*shown, guess or 0.0)
    return end if highest > CUT_FROM * end else None


def curve_layout(guess: float | None, *, is_loss: bool, end: float | None) -> dict[str, Any]:
    """`guess`: the value of guessing, which gets a dashed line; `end` of `cut_at`."""
    layout: dict[str, Any] = {
        "xaxis": {"title": {"text": "epoch"}, "rangemode": "tozero"},
        "yaxis": {} if is_loss else {"range": [-0.02, 1.02]},
        "showlegend": False,
        "hovermode": "closest",
        "margin": {"l": 44, "r": 8, "t": 8, "b": 44},
    }
    if end is not None:
        layout["yaxis"] = {"range": [0, end]}
        layout["meta"] = {"range": [0, end]}  # curves.js restores it after a logarithmic axis
    if guess is not None:
        dashed = {"color": "var(--soft)", "width": 1, "dash": "dash"}
        layout["shapes"] = [
            {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": guess, "y1": guess, "line": dashed}
        ]
    return layout
