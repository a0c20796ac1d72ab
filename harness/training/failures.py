"""Why a run ended with an error that is not its own: one sentence instead of a traceback."""

from __future__ import annotations

import errno
from pathlib import Path

from harness.errors import HarnessError, SurroundingsError, TrainingError, first_line
from harness.files import disk_is_full, no_space

# What a CPU's allocator and oneDNN say when memory runs out.
_OUT_OF_MEMORY = ("not enough memory", "can't allocate memory", "could not create a primitive", "bad_alloc")
# What a GPU's allocator and its libraries say, where a smaller micro-batch was no way out.
_OUT_OF_GPU_MEMORY = ("out of memory", "_ALLOC_FAILED")
# What gloo says on the ranks that are left when a process has ended.
_LOST_PROCESS = ("connection reset by peer", "connection closed by peer", "broken pipe")


def in_words(error: BaseException, run_folder: Path | None = None) -> HarnessError | None:
    """The error as one sentence, if its cause is known to be outside of the program; else None."""
    if isinstance(error, HarnessError) or not isinstance(error, Exception):
        return None
    if type(error).__module__.startswith(("torch._inductor", "torch._dynamo")):
        cause = getattr(error, "inner_exception", None)  # of torch's InductorError
        if isinstance(cause, OSError) and disk_is_full(cause):
            return in_words(cause, run_folder)
        return TrainingError(f"torch.compile failed ({first_line(error)}). Use --compile false.")
    if isinstance(error, OSError) and disk_is_full(error):
        return no_space(Path(error.filename) if isinstance(error.filename, str) else run_folder or Path.cwd(), error)
    text = str(error)
    out_of_memory = isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM)
    if out_of_memory or (isinstance(error, RuntimeError) and any(words in text for words in _OUT_OF_MEMORY)):
        return SurroundingsError(
            "Out of memory on the CPU. Use a smaller --micro-batch or --model, or free some memory, then repeat the "
            "command to resume."
        )
    if isinstance(error, RuntimeError) and any(words in text for words in _OUT_OF_GPU_MEMORY):
        what = first_line(error).partition(" Of the allocated memory")[0]
        return TrainingError(
            f"Out of memory on the GPU ({what.rstrip('.')}). Free its memory (nvidia-smi lists who uses it) or use a "
            "smaller --micro-batch or --model, then repeat the command to resume."
        )
    if isinstance(error, RuntimeError) and "gloo" in text and any(words in text.lower() for words in _LOST_PROCESS):
        return TrainingError(
            "Another training process of this run has ended, so this one ends too. Correct what that process reports, "
            "then repeat the command to resume."
        )
    return None
