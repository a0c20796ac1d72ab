"""Which images a machine decodes, where several write to one store: it claims one part of the digests after another."""

from __future__ import annotations

import fcntl
from typing import IO

from harness.files import NO_LOCKS

CLAIMS = "claims"  # a file of the store; byte n of it is locked by the process that decodes part n


def part_of(digest: str) -> int:
    """Which of 256 parts an image belongs to; 0 if its digest is not known."""
    return int(digest[:2] or "0", 16)


def claim(claims: IO[str], part: int) -> bool:
    """Whether no other process decodes a part; none can until `claims` is closed. On a disk without locks, True.

    These locks are of bytes, because NFS passes them on to other machines. The kernel releases those of a process that
    dies.
    """
    try:
        fcntl.lockf(claims, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, part)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
    return True
