"""The collaborators that all stages of a run share, made once at its start."""

from __future__ import annotations

import dataclasses

from harness.config import RunConfig
from harness.data.image_folder import ImageFolder
from harness.model.preprocessing import Preprocessing
from harness.runs.logger import RunLogger
from harness.training.distributed import Processes
from harness.training.signals import StopSignals


@dataclasses.dataclass(frozen=True)
class RunContext:
    config: RunConfig
    image_folder: ImageFolder
    preprocessing: Preprocessing
    processes: Processes
    run_logger: RunLogger
    stop: StopSignals
