"""Where torch.compile keeps compiled code: in the cache folder, so that runs and trials with equal models share it."""

import os

from harness.config import RunConfig


def keep_compiled_code(config: RunConfig) -> None:
    """Call it before torch is imported. torch's own choice, a folder in $TMPDIR, is removed at the end of the run."""
    if config.compile:
        from harness.data.cache import cache_directory

        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_directory(config.cache_dir) / "compiled"))
