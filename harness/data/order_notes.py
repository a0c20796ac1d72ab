"""How the training images of a run are read, in sentences, if they are read in blocks or should be."""

from __future__ import annotations

from harness.config import RunConfig
from harness.data.cache_build import readable
from harness.data.image_folder import ImageFolder
from harness.data.sampler import BLOCK, WINDOW
from harness.launch.control_groups import total_memory

_SHARE = 0.75  # of the memory; the rest is for models and programs


def order_notes(config: RunConfig, image_folder: ImageFolder, short_side: int) -> list[str]:
    """The order of --shuffle blocks, or that it is advised: the images are larger than the memory of this machine.

    The size is the least one possible, without opening a file: that of square images.
    """
    if config.shuffle == "blocks":
        return [
            f"--shuffle blocks: training images are read in blocks of {BLOCK}, and {WINDOW // BLOCK} blocks in random "
            "order are shuffled at a time."
        ]
    images = len(image_folder.train.files) + len(image_folder.val.files)
    return memory_notes(3 * short_side**2 * images)


def memory_notes(size: int) -> list[str]:
    """What to do if decoded images of so many bytes do not fit into memory; else empty."""
    memory = total_memory()
    if memory is None or size <= _SHARE * memory:
        return []
    return [
        f"The decoded images take {readable(size)} or more and this machine, or this job, has {readable(memory)} of "
        "memory, so each epoch reads them from disk: --shuffle blocks in sequence, --shuffle full one by one."
    ]
