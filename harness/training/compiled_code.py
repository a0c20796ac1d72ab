"""Where torch.compile keeps compiled code: in the user's cache folder, so that runs with equal models share it."""

import contextlib
import os


def keep_compiled_code() -> None:
    """Call it before torch is imported: importing torch._dynamo, as its optimisers do, chooses a folder for good.

    Torch's own choice, a folder in $TMPDIR, is removed at the end of the run. Not in --cache-dir: several users may
    share that one, and torch runs the code that it finds.
    """
    from harness.data.cache import user_cache_directory

    folder = user_cache_directory() / "compiled"
    with contextlib.suppress(OSError):  # it cannot be made: torch compiles in $TMPDIR, once more for each run
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if os.access(folder, os.W_OK | os.X_OK):
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(folder))
