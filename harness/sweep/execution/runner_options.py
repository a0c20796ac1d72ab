"""Options of a runner."""

from __future__ import annotations

import dataclasses

from harness.sweep.execution.budget import NO_LIMITS, Budget


@dataclasses.dataclass(frozen=True)
class RunnerOptions:
    """How a sweep is run. What it tries is in the sweep file."""

    retries: int = 1
    timeout: float = 3600.0  # seconds without progress after which a trial counts as hung; 0: no limit
    keep: int | None = None  # checkpoints to keep; None keeps all
    budget: Budget = NO_LIMITS
    end_by: float | None = None  # Unix time; trials that are expected to end later are left to other runners
    start_method: str = "forkserver"
