"""What ingestion asks of a store beyond the port: to hear of each object what became of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, TypeAlias

from lakehouse.errors import BackendUnavailableError
from lakehouse.ports import ObjectStore
from lakehouse.storage.cache import CacheFigures


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

    async def prepare(self) -> None:
        """Find out what the store can do, so that the first writer need not wait for it.

        Raises:
            BackendUnavailableError: It does not answer, refuses, or cannot do what is needed.
        """
        ...

    def cache_figures(self) -> CacheFigures | None:
        """How the copies of its objects fared; ``None``: it makes none."""
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
