"""The environment variables of a trial."""

from __future__ import annotations

from collections.abc import Mapping

from harness.launch.launch import RANK_VARIABLES
from harness.sweep.execution.resources import Slot
from harness.sweep.search.trial_queue import ClaimedTrial
from harness.sweep.spec.sweep_file import Sweep
from harness.track import PROJECT

# Variables of the runner that a trial must not inherit: they describe another run.
NOT_FOR_TRIALS = ("HARNESS_SWEEP_ARGS", "WANDB_SWEEP_PARAM_PATH", "WANDB_SERVICE", "WANDB_NAME", *RANK_VARIABLES)


def trial_environment(
    environment: Mapping[str, str], sweep: Sweep, sweep_id: str, claimed: ClaimedTrial, slot: Slot
) -> dict[str, str]:
    """The runner's environment, changed for one trial: its id, its sweep, its GPUs."""
    inherited = {name: value for name, value in environment.items() if name not in NOT_FOR_TRIALS}
    defaults = {"WANDB_MODE": "offline", "WANDB_PROJECT": sweep.project or PROJECT}
    if sweep.entity:
        defaults["WANDB_ENTITY"] = sweep.entity
    own = {"WANDB_SWEEP_ID": sweep_id, "WANDB_RUN_ID": claimed.run_id, "WANDB_RUN_GROUP": sweep.name}
    return defaults | inherited | slot.environment() | own
