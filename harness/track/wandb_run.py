"""Open a run in W&B: online if possible, else offline, else without W&B."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from harness.config import RunConfig
from harness.errors import ConfigError, first_line
from harness.time_limit import waiting_reported
from harness.track.offline import sync_command
from harness.track.service import shut_down
from harness.track.settings import (
    INIT_TIMEOUT,
    choose_mode,
    folder_for,
    init_keywords,
    is_disabled,
    outside_own_sweep,
    seconds_of,
    wandb_settings,
)
from harness.track.tracker import Tracker


def start(
    config: RunConfig,
    folder: Path,
    *,
    run_id: str,
    extra_config: Mapping[str, Any] | None = None,
    say: Callable[[str], None] = print,
) -> Tracker | None:
    """Open the run in W&B: online if logged in, else offline with one printed line; None if W&B is disabled.

    The same `run_id` resumes a run.

    W&B's variables (WANDB_MODE, WANDB_PROJECT, WANDB_DIR, ...) apply; options of the command line override them.
    """
    if is_disabled():
        return None
    import wandb
    from pydantic import ValidationError  # what wandb checks its settings with

    root = folder_for(folder).resolve()
    try:
        mode, reason = choose_mode()
        values = {**config.to_dict(), **(extra_config or {}), **outside_own_sweep()}
        keywords = init_keywords(config, root, run_id, values)
        if mode != "disabled":
            # wandb.init would refuse them as well, in every mode: the run would then continue without W&B.
            wandb.Settings(project=keywords.get("project"), run_tags=keywords.get("tags"))
    except (ValueError, wandb.errors.UsageError) as error:
        where = "--project, --tags, a WANDB_* variable or a settings file of wandb"
        why = "; ".join(each["msg"] for each in error.errors()) if isinstance(error, ValidationError) else error
        raise ConfigError(f"W&B does not accept a value of {where}: {why}") from None
    stop = threading.Event()

    def open_run(mode: Any) -> Any:
        outside_own_sweep()
        run = wandb.init(mode=mode, settings=wandb_settings(stop), **keywords)
        # W&B's internal step counts logged rows, also across resumes; the x-axis must be the training step.
        run.define_metric("step")
        run.define_metric("*", step_metric="step")
        return run

    tracker, problems = None, []
    # If online fails, the run is kept offline; if that fails too (a full disk), it continues without W&B.
    for attempt in dict.fromkeys((mode, "offline", "disabled")):
        try:
            limit = seconds_of("WANDB_INIT_TIMEOUT", INIT_TIMEOUT)
            with waiting_reported(say, f"Waiting up to {limit:g} s for W&B ..."):
                tracker = Tracker(open_run, attempt, folder=root, stop=stop, say=say)
            break
        except Exception as error:
            problems.append(f"W&B failed in {attempt} mode ({first_line(error)})")
            shut_down()
    if tracker and tracker.url:
        say(f"W&B: {tracker.url}")
    elif tracker and tracker.offline_folder:
        reason = "; ".join(problems) or reason
        say(f"{reason}. The run is kept offline; to send it: {sync_command(root, [tracker.offline_folder])}")
    elif problems:
        say(f"{'; '.join(problems)}. The run continues without W&B.")
    return tracker
