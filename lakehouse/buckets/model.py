"""What is known of view instances, their buckets and their partitions: the values that planning, building and the catalog
exchange. Frozen, free of I/O and of any driver.

The unit of replacement is the bucket: the blocks of one view instance that came in one hour, or in the hours of a closed day
that were merged. Its rows are in partitions, one Parquet file each.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Final

from lakehouse.filters import ValueFilter
from lakehouse.model import (
    BUCKET_SECONDS,
    Block,
    BlockId,
    InstanceKind,
    LastTiming,
    ProcessId,
    StreamId,
    TimeRange,
    ViewKey,
)

HOUR: Final = timedelta(seconds=BUCKET_SECONDS)


@dataclass(frozen=True, slots=True)
class ViewVersion:
    """What two servers must agree in to read and write the same files of a view set."""

    view_set: str
    schema_hash: bytes
    writer_version: int


@dataclass(frozen=True, slots=True)
class InstanceId:
    """A view instance in one version of its schema and writer: the key of all that is materialized."""

    vid: int
    key: ViewKey
    version: ViewVersion


@dataclass(frozen=True, slots=True)
class InstanceScope:
    """Which blocks belong to an instance: those of a stream, of a process, or all, with a stream tag."""

    kind: InstanceKind | None  # None: global
    instance: str | None
    tag: str | None


@dataclass(frozen=True, slots=True)
class StoredPartition:
    """One Parquet file of a bucket."""

    key: str
    size_bytes: int
    rows: int
    min_event_ns: int
    max_event_ns: int
    tail_digest: bytes | None = None  # of what was written, by ``lakehouse.storage.digests``; None: it was not kept


@dataclass(frozen=True, slots=True)
class StoredBucket:
    """A bucket as a reader sees it: is it stale, and which of its files matter."""

    begin: datetime
    dirty: bool
    claimed_in_range: bool
    missing_blocks: int
    partitions: tuple[StoredPartition, ...]


@dataclass(frozen=True, slots=True)
class HeldBucket:
    """What is kept of one bucket in one version, for whoever administers it."""

    instance: InstanceId
    bucket_begin: datetime
    begin: datetime  # of insert time, as ``list_partitions`` has it
    end: datetime
    frozen: bool
    files: int
    rows: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class PartitionsOf:
    """The partitions of a view instance with exactly this range of insert time."""

    view_set: str
    instance: str
    begin: datetime
    end: datetime
    schema_hash: bytes | None = None  # None: in every version


@dataclass(frozen=True, slots=True)
class PartitionFile:
    """The partition in one file."""

    key: str


class Retired(Enum):
    """What became of partitions that somebody wanted to go."""

    GONE = "gone"
    NOT_FOUND = "not found"
    KEPT = "kept"  # of a frozen bucket: nothing could make their rows again


@dataclass(frozen=True, slots=True)
class EstimatedBucket:
    """A bucket whose times rest on an estimate of its process's clock."""

    begin: datetime
    dirty: bool
    timing: LastTiming  # when the partitions were made
    events: TimeRange | None  # the bounds of all its rows; None: it has none


@dataclass(frozen=True, slots=True)
class UnknownClock:
    """What is known now of the clock of a process that does not say its tick frequency."""

    start_ns: int
    latest: LastTiming


@dataclass(frozen=True, slots=True)
class BucketState:
    """What a builder must find unchanged when it commits."""

    incarnation: uuid.UUID  # a bucket that was removed and came again counts from the start
    dirty: bool
    marks: int
    generation: int
    digest: bytes | None  # None: nothing is made of it yet, or some of that was removed
    frozen: bool = False  # never made again from blocks: it keeps its rows when theirs go
    length: timedelta = HOUR


@dataclass(frozen=True, slots=True)
class Registration:
    """What a stream or a process was registered with, in short: the whole of a bucket's can be gigabytes."""

    size_bytes: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class Source:
    """The blocks of one bucket in insert order and what they refer to, all of one snapshot."""

    state: BucketState
    blocks: tuple[Block, ...]
    streams: Mapping[StreamId, Registration]
    processes: Mapping[ProcessId, Registration]
    timings: Mapping[ProcessId, LastTiming]  # of processes whose tick frequency is unknown
    included: Mapping[int, frozenset[BlockId]]  # ordinal of a partition -> blocks that are in it


@dataclass(frozen=True, slots=True)
class NewPartition:
    """A partition to be committed. Without rows it has no object, and remembers its blocks all the same."""

    ordinal: int
    key: str | None
    size_bytes: int
    rows: int
    min_event_ns: int | None
    max_event_ns: int | None
    max_sort_key_ns: int | None
    block_ids: tuple[BlockId, ...]
    missing_blocks: int
    sha256: bytes | None = None  # of the whole file
    tail_digest: bytes | None = None
    filter: ValueFilter | None = None


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to make a bucket, for as long as it is renewed."""

    instance: InstanceId
    bucket_begin: datetime
    token: uuid.UUID


@dataclass(frozen=True, slots=True)
class Swap:
    """One change of a bucket: everything in it happens, or nothing."""

    instance: InstanceId
    bucket_begin: datetime
    lease: Lease  # ends with it
    state: BucketState
    replace: bool  # retire what is there; otherwise add to it
    partitions: tuple[NewPartition, ...]
    intents: tuple[uuid.UUID, ...]
    digest: bytes
    blocks: int
    objects: int
    max_insert_ns: int | None
    timing: LastTiming | None
    missing_blocks: int
    repaired_events: int
    quarantined: tuple[tuple[Block, str], ...]
    sort_order: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MergedBucket:
    """One of the buckets that become one, as it was when its files were named."""

    begin: datetime
    state: BucketState
    sealed: bool
    timing: LastTiming | None


@dataclass(frozen=True, slots=True)
class MergeSource:
    """All buckets of an instance in a stretch of time, of one snapshot."""

    buckets: tuple[MergedBucket, ...]
    partitions: tuple[NewPartition, ...]  # what their files are, in the order of buckets
    source: Source  # the blocks that there are of the whole stretch; of no bucket, so its state says nothing


@dataclass(frozen=True, slots=True)
class MergeSwap:
    """Several buckets become one, or one gets other files with the same rows: all of it happens, or nothing."""

    instance: InstanceId
    begin: datetime
    length: timedelta
    lease: Lease  # of the bucket that begins there; ends with it
    buckets: tuple[MergedBucket, ...]
    partitions: tuple[NewPartition, ...]
    intents: tuple[uuid.UUID, ...]
    digest: bytes | None
    timing: LastTiming | None
    whole: bool  # no more is to be gained by merging it again
    sort_order: tuple[str, ...]
    missing_blocks: int | None = None  # as many as theirs
    repaired_events: int | None = None


@dataclass(frozen=True, slots=True)
class DifferingBucket:
    """A bucket that was made of so many blocks, and there are others."""

    begin: datetime
    frozen: bool
    made_of: int
    blocks: int


@dataclass(frozen=True, slots=True)
class ExpiredHour:
    """An hour whose blocks are older than they are to be kept, and are still seen."""

    begin: datetime
    age: timedelta  # since its end


@dataclass(frozen=True, slots=True)
class ExpiredBlock:
    """A block that nobody sees any more."""

    block_id: BlockId
    stream_id: StreamId
    process_id: ProcessId


class SwapConflictError(Exception):
    """The bucket changed or went since its source was read, or a write intent is gone: read again and start over."""


class LeaseLostError(SwapConflictError):
    """The lease was not renewed in time, and may be another's: hold the bucket again before anything else."""


class InstanceGoneError(Exception):
    """The instance or a bucket of it has no row any more, or its number is another's: retired, emptied by hand, set back.

    Add the instance again and look again.
    """
