"""Runs torch elastic, or Accelerate's launcher on top of it, without their banner when a rank fails.

A failed rank has printed its own error; forty lines of the launcher's traceback would hide it.
"""

import logging
import os
import runpy
import signal
import sys
import tempfile


def main() -> None:
    """Run the module that the first argument names, with the other arguments."""
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    logging.getLogger("torch.distributed.elastic.multiprocessing.api").setLevel(logging.CRITICAL)
    module = sys.argv[1]
    del sys.argv[0]
    try:
        # It never removes the folder that it makes for the logs of ranks. The name is short: see temporary.py.
        with tempfile.TemporaryDirectory(prefix="") as folder:
            os.environ["TMPDIR"], tempfile.tempdir = folder, None
            runpy.run_module(module, run_name="__main__", alter_sys=True)
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode < 0:  # killed: it could not print anything
            print(
                f"Error: training process {rank} was ended by {signal.Signals(-failure.exitcode).name}.",
                file=sys.stderr,
            )
        sys.exit(1)
    except SignalException as stopped:
        sys.exit(128 + stopped.sigval)


if __name__ == "__main__":
    main()
