"""Weights & Biases: what a run sends there, and what is kept for later. Nowhere else is wandb imported.

It is imported inside functions, for that takes seconds.

Tracking never decides how a run ends. No login, no network, a server that goes away: each costs one printed line,
the numbers stay in the run folder, and `wandb sync` sends them later.

Where `wandb sync` finds files. History, summary, images and tables lie beside wandb's own file and arrive from
anywhere, but for images in tables, which come with the table's artifact. An artifact's files are looked up under the
path they were added by, and wandb says nothing when they are not there. Offline, that path is relative to the run
folder: `cd RUN && wandb sync wandb/offline-run-*` sends everything, also from a copy of the folder under another name
or on another machine; `sync` does the same from any working directory.
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
