"""Search settings that are not in the sweep file."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Search:
    """Stored in the study when a sweep begins; the same when it resumes."""

    count: int | None = None  # trials of a random or Bayesian search
    seed: int = 0
    algorithm: str = "tpe"  # of a Bayesian search
    repeats: int = 1  # seeds of each point
    pruner: str = "hyperband"  # how trials are compared for early termination: W&B's rule, or asha
