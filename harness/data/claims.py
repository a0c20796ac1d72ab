"""Which images a machine decodes, where several write to one store: it claims one part of the digests after another."""

from __future__ import annotations

import fcntl
import hashlib
from collections.abc import Iterable
from typing import IO

from harness.files import NO_LOCKS

CLAIMS = "claims"  # a file of the store; a process locks one byte of it for each part that it decodes
PARTS = 256


def first_byte(digests: Iterable[str]) -> int:
    """Where the bytes of a set of images begin, so that machines claim parts of equal sets alone.

    Two sets have the same bytes with a probability of 1e-12; then one waits for the other.
    """
    name = hashlib.blake2b("".join(sorted(digests)).encode(), digest_size=5).digest()
    return PARTS * int.from_bytes(name)


def part_of(digest: str) -> int:
    """Which of 256 parts an image belongs to; 0 if its digest is not known."""
    return int(digest[:2] or "0", 16)


def claim(claims: IO[str], byte: int) -> bool:
    """Whether no other process holds this byte; none can until `claims` is closed. On a disk without locks, True.

    These locks are of bytes, because NFS passes them on to other machines. The kernel releases those of a process that
    dies.
    """
    try:
        fcntl.lockf(claims, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
    return True
