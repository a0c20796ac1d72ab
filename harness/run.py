"""One run: `accelerate launch harness/run.py --data DIR ...`; also what a W&B agent and `harness train` start."""

import atexit
import os
import sys
from pathlib import Path

# A script's own folder comes first on sys.path, where our file names could hide other packages'; the project must be
# found without being installed.
_folder = Path(__file__).resolve().parent
sys.path[:] = [str(_folder.parent), *(path for path in sys.path if Path(path or ".").resolve() != _folder)]

from harness.launch.agent_watch import end_with_agent  # noqa: E402
from harness.launch.launch import die_with_parent  # noqa: E402

# Started by a launcher or an agent, a run must not outlive it. Started by hand, it may outlive its terminal.
if {"LOCAL_RANK", "ACCELERATE_MIXED_PRECISION", "WANDB_SWEEP_ID"} & set(os.environ):
    die_with_parent()
if __name__ == "__main__":
    end_with_agent()

from harness.cli.main import run  # noqa: E402

if __name__ == "__main__":
    try:
        run()
    except SystemExit as end:
        # Python would take torch apart first, piece by piece: seconds in which the device is not free.
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(end.code if isinstance(end.code, int) else int(end.code is not None))
