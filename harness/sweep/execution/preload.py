"""Imports all that a trial needs, in the fork server: trials that it forks need not import it again. Uses no device."""

# ruff: noqa: E402 (OpenMP and torch read the environment when torch is imported)

import atexit
import gc
import os

from harness.training.compiled_code import keep_compiled_code

keep_compiled_code()
# A fork copies only the thread that forks, so a child would lack the threads of an OpenMP pool. Trials set their number
# of threads when they start.
_threads = os.environ.get("OMP_NUM_THREADS")
os.environ["OMP_NUM_THREADS"] = _threads or "1"

import accelerate  # noqa: F401
import cv2  # noqa: F401
import matplotlib.backends.backend_agg
import matplotlib.figure
import PIL.Image
import torch._dynamo  # noqa: F401 (every optimiser of torch imports it when it is made)
import torchvision  # noqa: F401

import harness.train  # noqa: F401
from harness import track
from harness.runs.provenance import code_state

if _threads is None:
    del os.environ["OMP_NUM_THREADS"]  # for trials it would be a limit that the user did not set
track.preload()
code_state()
PIL.Image.init()

# The first figure of a process finds and reads the fonts.
_figure = matplotlib.figure.Figure(layout="constrained")
_figure.subplots().set(title="of any text", xlabel="0.5")
matplotlib.backends.backend_agg.FigureCanvasAgg(_figure).draw()
del _figure

# Garbage collection in the children must not scan these objects: that takes a third of a second and copies memory pages
# that are shared with the parent (docs.python.org/3/library/gc.html#gc.freeze).
gc.collect()
gc.freeze()
atexit.register(gc.unfreeze)  # else extension modules report leaks at exit
