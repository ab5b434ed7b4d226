"""What a file is known by: SHA-256 over all of it, and a short digest of its end, which is looked at before it is used.

The end of a Parquet file is what a reader reads first: how many rows there are and where. A file that is cut off, emptied, or
another's differs there, and looking costs some microseconds. All of a file is compared when something seems wrong with it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

TAIL_BYTES: Final = 64 << 10
TAIL_DIGEST_BYTES: Final = 16
SHA256_BYTES: Final = 32
READ_BYTES: Final = 1 << 20


class Signature(NamedTuple):
    """What changes when a file is written to, replaced or restored."""

    inode: int
    size_bytes: int
    changed_ns: int


class FileDigests(NamedTuple):
    sha256: bytes
    tail: bytes


def file_digests(path: Path) -> FileDigests:
    with path.open("rb") as file:
        return FileDigests(hashlib.file_digest(file, "sha256").digest(), tail_digest(path))


def signature_of(path: Path) -> Signature:
    status = os.stat(path)
    return Signature(status.st_ino, status.st_size, status.st_mtime_ns)


def whole_digest(path: Path, is_stopped: Callable[[], bool] = lambda: False) -> bytes | None:
    """SHA-256; a second for one or two GB. ``None``: it was stopped, which is asked for every ``READ_BYTES``."""
    digest, part = hashlib.sha256(), memoryview(bytearray(READ_BYTES))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(part):
            if is_stopped():
                return None
            digest.update(part[:count])
    return digest.digest()


def tail_digest(path: Path) -> bytes:
    """Of the last ``TAIL_BYTES``, or all there are."""
    with path.open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        tail = os.pread(file.fileno(), TAIL_BYTES, max(0, size - TAIL_BYTES))
    return hashlib.blake2b(tail, digest_size=TAIL_DIGEST_BYTES).digest()
