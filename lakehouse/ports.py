"""What this floor asks of others: an object store to keep bytes in, and views that turn blocks into rows."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol, runtime_checkable

import pyarrow as pa

from lakehouse.model import Block, BlockId, BlockOrder, InstanceKind, LastTiming, Process, Stream

Keys = list[str]  # inside the class, "list" is a method


class ObjectStore(Protocol):
    """Write-once objects under relative keys such as ``blobs/p/s/b``. Nothing outside an adapter sees a path of a key.

    Errors: ``BackendUnavailableError`` for every trouble of the store, an absent object included.
    """

    @property
    def name(self) -> str:
        """What the catalog calls this store: its URL without credentials."""
        ...

    async def put_blobs(self, objects: Sequence[tuple[str, bytes]]) -> list[int]:
        """Create each object unless its key exists; return the stored sizes, in order, once all are durable.

        An existing object is left as it is (its size is what comes back), unless it is the torn remainder of a
        crash: a strict prefix of the new bytes, which is replaced.
        """
        ...

    async def put_file(self, key: str, source: Path) -> None:
        """Move a local file to ``key``, durable when this returns. ``FileExistsError`` if the key is taken."""
        ...

    def localize(self, keys: Sequence[str]) -> AbstractAsyncContextManager[list[Path]]:
        """Local, readable, immutable files with the objects' bytes, in order. They stay until the context is left."""
        ...

    def discard_copies(self, keys: Sequence[str]) -> bool:
        """The local files of these are not what was written: whoever localizes them next has them fetched again.

        False if the store keeps no copies: the files are the objects themselves.
        """
        ...

    async def get(self, key: str) -> bytes: ...

    async def size(self, key: str) -> int | None:
        """Bytes of the object, ``None`` if there is none."""
        ...

    async def delete(self, keys: Sequence[str]) -> None:
        """Remove objects; absent ones are no error."""
        ...

    async def list(self, prefix: str) -> list[str]:
        """All keys below the prefix, sorted: of what is known to be little."""
        ...

    def pages(self, prefix: str) -> AsyncIterator[Keys]:
        """All keys below the prefix, a thousand or so at a time, in no order that means anything."""
        ...

    async def is_empty(self, prefix: str) -> bool:
        """Whether there is no object below the prefix, without listing them all."""
        ...

    async def probe(self) -> None:
        """One cheap round trip for ``/ready`` and ``doctor``."""
        ...

    async def close(self) -> None: ...


class BucketSource(Protocol):
    """The blocks of one bucket as a view sees them, in the view's ``block_order``."""

    @property
    def instance(self) -> str: ...

    @property
    def blocks(self) -> Sequence[Block]: ...

    def process_of(self, block: Block) -> Process: ...

    def stream_of(self, block: Block) -> Stream: ...

    def timing_of(self, process: Process) -> LastTiming:
        """The timing of the process over all of its known blocks, fixed when the bucket is made."""
        ...

    def payload(self, block: Block) -> bytes:
        """The stored object: a CBOR map of two LZ4 frames (native)."""
        ...

    def quarantine(self, block: Block, error: Exception) -> None:
        """Leave this block out, and say so."""
        ...

    def count_repaired(self, events: int) -> None: ...


class View(Protocol):
    """One view set that is made from blocks. Says what it needs and yields rows; when and where is not its business."""

    @property
    def view_set(self) -> str: ...

    @property
    def writer_version(self) -> int:
        """Raised when stored rows would differ: older partitions then count as stale."""
        ...

    @property
    def schema(self) -> pa.Schema:
        """Columns as users see them. Times are naive ``timestamp[ns]`` and mean UTC; strings are plain ``string``."""
        ...

    @property
    def instance_kind(self) -> InstanceKind: ...

    @property
    def has_global(self) -> bool: ...

    @property
    def stream_tag(self) -> str | None:
        """Only blocks of streams with this tag are read; ``None``: the instance is the stream."""
        ...

    @property
    def block_order(self) -> BlockOrder: ...

    @property
    def begin_column(self) -> str:
        """A row is in a range if this is at or before its end …"""
        ...

    @property
    def end_column(self) -> str:
        """… and this is at or after its begin."""
        ...

    @property
    def is_ordered(self) -> bool:
        """The view's promise that no row ends before it begins, so that a bound of one time also bounds the other."""
        ...

    @property
    def sorted_by(self) -> tuple[str, ...]:
        """Columns by which the rows of a bucket are in order; none: they are in no order."""
        ...

    def build(self, source: BucketSource) -> Iterator[pa.RecordBatch]:
        """Rows of the bucket, in the order they are to be stored. String columns may be dictionary-encoded."""
        ...


@runtime_checkable
class KeepsParts(Protocol):
    """A view whose files hold parts of rows, of which several can become one."""

    def merge_parts(self, paths: Sequence[Path], scratch: Path) -> Iterator[pa.RecordBatch]:
        """The parts in some files, as few as they can be. What is too much for memory goes to ``scratch``."""
        ...


__all__ = ["BlockId", "BucketSource", "KeepsParts", "ObjectStore", "View"]
