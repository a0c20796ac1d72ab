"""Weights & Biases: send a run, or keep it offline and send it later. Only this package imports wandb.

wandb is imported inside functions because the import takes seconds.

An error in tracking never ends a run. Without a login, a network or a server, one line is printed, the numbers stay in
the run folder, and `wandb sync` sends them later.

How `wandb sync` finds files: history, summary, images and tables lie beside wandb's log file and are sent from any
folder. Images in tables are part of the table's artifact. The files of an artifact are looked up under the path they
were added with, and wandb prints no error if they are missing. Offline, that path is relative to the run folder: `cd
RUN && wandb sync wandb/offline-run-*` sends everything, also from a copy of the folder under another name or on
another machine; `sync` does the same from any working directory.
"""

from harness.track.offline import send, sync, sync_command, waiting
from harness.track.server import Server, model_name, reach
from harness.track.service import preload
from harness.track.settings import PROJECT
from harness.track.tracker import Tracker, artifact_name
from harness.track.wandb_run import start

__all__ = [
    "PROJECT",
    "Server",
    "Tracker",
    "artifact_name",
    "model_name",
    "preload",
    "reach",
    "send",
    "start",
    "sync",
    "sync_command",
    "waiting",
]
