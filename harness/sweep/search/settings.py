"""How a sweep searches, beside what its file says."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Search:
    """What a sweep was begun with, beside its file; the same when it goes on."""

    count: int | None = None  # trials of a random or Bayesian search
    seed: int = 0
    algorithm: str = "tpe"  # of a Bayesian search
