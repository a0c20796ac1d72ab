"""How a sweep searches, beside what its file says."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Search:
    """Search settings that are not in the sweep file; they are stored and do not change when the sweep resumes."""

    count: int | None = None  # trials of a random or Bayesian search
    seed: int = 0
    algorithm: str = "tpe"  # of a Bayesian search
