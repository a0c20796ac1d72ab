"""All that a trial imports, loaded once by the process that trials are forked from; no device is touched.

Importing it takes seconds; a child forked afterwards has it all at once.
"""

import atexit
import gc
import io
import os

# A fork takes the forking thread along and no other: a pool of OpenMP threads, once made, would be missed in the child.
# Trials choose their own number of threads when they start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import accelerate  # noqa: F401
import cv2  # noqa: F401
import matplotlib.backends.backend_agg
import matplotlib.figure
import matplotlib.pyplot
import PIL.Image
import torch._dynamo  # noqa: F401
import torchmetrics.functional.classification  # noqa: F401
import torchvision  # noqa: F401

import harness.train  # noqa: F401
from harness import track

track.preload()
PIL.Image.init()

# The first figure of a process looks for its fonts and reads them.
_figure = matplotlib.figure.Figure(layout="constrained")
_figure.subplots().set(title="of any text", xlabel="0.5")
_figure.savefig(io.BytesIO(), format="png")
del _figure

# What is here by now stays. So no child's garbage collector looks through it, which takes a third of a second each time
# and copies pages that it shares with its parent (docs.python.org/3/library/gc.html#gc.freeze).
gc.collect()
gc.freeze()
atexit.register(gc.unfreeze)  # or extension modules complain of what is left at the end
