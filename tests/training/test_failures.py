from __future__ import annotations

import errno
from pathlib import Path

import pytest
import torch

from harness.errors import SurroundingsError, TrainingError
from harness.training.failures import in_words

GPU = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 15.77 GiB."
LOST = "[pair.cc:545] Read error [127.0.0.1]:20875: Connection reset by peer. third_party/gloo/gloo/transport/tcp"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError(), "Out of memory on the CPU. "),
        (RuntimeError("could not create a primitive"), "Out of memory on the CPU. "),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 7 bytes"), "Out of memory on the CPU. "),
        (OSError(errno.ENOMEM, "no"), "Out of memory on the CPU. "),
        (OSError(errno.ENOSPC, "full", "/x/figures/a.png"), "No space left to save /x/figures/a.png. "),
        (OSError(errno.EFBIG, "too large"), "The file-size limit (ulimit -f) is too small to save run. "),
        (torch.OutOfMemoryError(f"{GPU} Of the allocated memory 3 GiB."), f"Out of memory on the GPU ({GPU[:-1]}). "),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED"), "Out of memory on the GPU (CUDA error: CUBLAS_STAT"),
        (RuntimeError(LOST), "Another training process of this run has ended"),
    ],
    ids=repr,
)
def test_a_cause_outside_of_the_program_is_one_sentence(error: Exception, words: str) -> None:
    cause = in_words(error, Path("run"))
    assert isinstance(cause, TrainingError)
    assert str(cause).startswith(words)


def test_what_stops_the_compiler_is_named_and_a_full_disk_is_not_its_fault() -> None:
    from torch._inductor.exc import InductorError

    full = in_words(InductorError(OSError(errno.ENOSPC, "full", "/x/compiled/a.so"), None), Path("run"))
    assert isinstance(full, SurroundingsError)
    assert str(full).startswith("No space left to save /x/compiled/a.so. ")
    broken = in_words(InductorError(RuntimeError("no compiler"), None), Path("run"))
    assert type(broken) is TrainingError
    assert str(broken) == "torch.compile failed (RuntimeError: no compiler). Use --compile false."


@pytest.mark.parametrize(
    "error",
    [RuntimeError("shapes differ"), OSError(errno.EACCES, "no"), KeyboardInterrupt(), TrainingError("known")],
    ids=repr,
)
def test_other_errors_stay_what_they_are(error: BaseException) -> None:
    assert in_words(error, Path("run")) is None
