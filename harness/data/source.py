"""Where a run's images come from."""

from __future__ import annotations

from harness.config import RunConfig
from harness.data.image_folder import ImageFolder, load_image_folder


def load_source(config: RunConfig) -> ImageFolder:
    """The images of --data in three splits. Raises DataError with every problem."""
    return load_image_folder(
        config.data,
        seed=config.split_seed,
        split_fraction=config.split_fraction,
        split_group=config.split_group,
        cache_dir=config.cache_dir,
    )
