"""Options of a runner."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class RunnerOptions:
    """How a sweep is run. What it tries is in the sweep file."""

    retries: int = 1
    timeout: float = 3600.0  # seconds without progress after which a trial counts as hung; 0: no limit
    keep: int | None = None  # checkpoints to keep; None keeps all
    end_by: float | None = None  # Unix time; trials that are expected to end later are left to other runners
    # The budget: at a limit no further trial starts, and running trials end normally. None: no limit.
    max_hours: float | None = None  # since this runner started
    target: float | None = None  # value of the metric
    patience: int | None = None  # finished trials without a better value
    start_method: str = "forkserver"

    @property
    def results_decide(self) -> bool:
        """Whether the result of one trial decides if another one starts."""
        return self.target is not None or self.patience is not None
