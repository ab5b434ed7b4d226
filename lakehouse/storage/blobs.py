"""What ingestion asks of a store beyond the port: to hear of each object what became of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, TypeAlias

from lakehouse.errors import BackendUnavailableError
from lakehouse.ports import ObjectStore


class StoredBlob(NamedTuple):
    """One object after ``create_blobs``."""

    size: int  # bytes of what is stored, which is what was first stored
    created: bool
    differs: bool = False  # other bytes were there first; a store that is far away looks at their number only


BlobOutcome: TypeAlias = StoredBlob | BackendUnavailableError


class BlobStore(ObjectStore, Protocol):
    """An object store that reports what became of each object."""

    async def create_blobs(self, objects: Sequence[tuple[str, bytes]]) -> list[BlobOutcome]:
        """``put_blobs``, with the outcome of each object. Trouble of one object is an error in its place alone."""
        ...


def sizes_of(outcomes: Sequence[BlobOutcome]) -> list[int]:
    """Stored sizes.

    Raises:
        BackendUnavailableError: The first of the errors, if there is one.
    """
    sizes = []
    for outcome in outcomes:
        if isinstance(outcome, BackendUnavailableError):
            raise outcome
        sizes.append(outcome.size)
    return sizes
