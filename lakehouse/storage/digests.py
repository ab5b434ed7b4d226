"""What a file is known by: SHA-256 over all of it, and a short digest of its end, which is looked at before it is used.

The end of a Parquet file is what a reader reads first: how many rows there are and where. A file that is cut off, emptied, or
another's differs there, and looking costs some microseconds. All of a file is compared when something seems wrong with it.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Final, NamedTuple

TAIL_BYTES: Final = 64 << 10
TAIL_DIGEST_BYTES: Final = 16
SHA256_BYTES: Final = 32


class FileDigests(NamedTuple):
    sha256: bytes
    tail: bytes


def file_digests(path: Path) -> FileDigests:
    return FileDigests(whole_digest(path), tail_digest(path))


def whole_digest(path: Path) -> bytes:
    """SHA-256; a second for one or two GB."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def tail_digest(path: Path) -> bytes:
    """Of the last ``TAIL_BYTES``, or all there are."""
    with path.open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        tail = os.pread(file.fileno(), TAIL_BYTES, max(0, size - TAIL_BYTES))
    return hashlib.blake2b(tail, digest_size=TAIL_DIGEST_BYTES).digest()
