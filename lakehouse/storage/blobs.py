"""What ingestion asks of a store beyond the port: to hear of each object whether it was there before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from lakehouse.ports import ObjectStore


class StoredBlob(NamedTuple):
    """One object after ``create_blobs``."""

    size: int  # bytes of what is stored, which is what was first stored
    created: bool


class BlobStore(ObjectStore, Protocol):
    """An object store that reports what it created."""

    async def create_blobs(self, objects: Sequence[tuple[str, bytes]]) -> list[StoredBlob]:
        """``put_blobs``, with the outcome of each object."""
        ...
