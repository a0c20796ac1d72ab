"""Opening a run: online where that works, else offline, else without W&B."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from harness.config import RunConfig
from harness.errors import ConfigError
from harness.track.offline import sync_command
from harness.track.service import first_line, shut_down
from harness.track.settings import choose_mode, folder_for, init_keywords, wandb_settings
from harness.track.tracker import Tracker


def start(
    config: RunConfig,
    folder: Path,
    *,
    run_id: str,
    extra_config: Mapping[str, Any] | None = None,
    say: Callable[[str], None] = print,
) -> Tracker:
    """Open the run in W&B, online when logged in, else offline with one line; the same id again goes on with it.

    W&B's own variables are obeyed (WANDB_MODE, WANDB_PROJECT, WANDB_DIR, ...); options that were given win over them.
    """
    import wandb

    root = folder_for(folder).resolve()
    try:
        mode, reason = choose_mode()
        keywords = init_keywords(config, root, run_id, {**config.to_dict(), **(extra_config or {})})
    except ValueError as error:
        raise ConfigError(
            f"A WANDB_* variable or a settings file of wandb has a value it does not take: {error}"
        ) from None
    stop = threading.Event()

    def open_run(mode: Any) -> Any:
        run = wandb.init(mode=mode, settings=wandb_settings(stop), **keywords)
        # Rows of a resumed run count W&B's own steps on from where it stopped; ours is the axis.
        run.define_metric("step")
        run.define_metric("*", step_metric="step")
        return run

    problems = []
    # What fails online is kept offline; where even that fails, say on a full disk, the run goes on without W&B.
    for attempt in dict.fromkeys((mode, "offline", "disabled")):
        try:
            tracker = Tracker(open_run, attempt, folder=root, stop=stop, say=say)
            break
        except Exception as error:
            problems.append(f"W&B cannot be used {attempt} ({first_line(error)})")
            shut_down()
    else:
        raise AssertionError("wandb promises that a disabled run always opens")
    if tracker.url:
        say(f"W&B: {tracker.url}")
    elif tracker.offline_folder:
        reason = "; ".join(problems) or reason
        say(f"{reason}. The run is kept offline; to send it: {sync_command(root, [tracker.offline_folder])}")
    elif problems:
        say(f"{'; '.join(problems)}. The run goes on without it.")
    return tracker
