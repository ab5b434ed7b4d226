"""The catalog of view instances, buckets and partitions in Postgres. Decides nothing: ``lakehouse.materialize`` does."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import asyncpg

from lakehouse.catalog.connect import ACQUIRE_TIMEOUT_S, database_errors
from lakehouse.catalog.queries import load
from lakehouse.errors import BackendUnavailableError
from lakehouse.model import (
    NS_PER_US,
    Block,
    BlockId,
    InstanceKind,
    LastTiming,
    Process,
    ProcessId,
    Stream,
    StreamId,
    TimeRange,
    ViewKey,
)

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SQL: Final = load("partitions")
_LOCK_WAIT_S: Final = 3600.0  # as long as another server may build; the caller has a deadline of its own


def microseconds(timestamp_ns: int, *, up: bool = False) -> datetime:
    """A nanosecond time as Postgres can keep it: rounded down, or up."""
    return _EPOCH + timedelta(microseconds=-(-timestamp_ns // NS_PER_US) if up else timestamp_ns // NS_PER_US)


@dataclass(frozen=True, slots=True)
class InstanceId:
    """A view instance in one version of its schema and writer: the key of all that is materialized."""

    vid: int
    key: ViewKey


@dataclass(frozen=True, slots=True)
class InstanceScope:
    """Which blocks belong to an instance: those of a stream, of a process, or all, with a stream tag."""

    kind: InstanceKind | None  # None: global
    instance: str | None
    tag: str | None

    @property
    def suffix(self) -> str:
        return "global" if self.kind is None else self.kind.value


@dataclass(frozen=True, slots=True)
class StoredPartition:
    """One Parquet file of a bucket."""

    key: str
    size_bytes: int
    rows: int
    min_event_ns: int
    max_event_ns: int


@dataclass(frozen=True, slots=True)
class StoredBucket:
    """A bucket as a reader sees it: is it stale, and which of its files matter."""

    begin: datetime
    dirty: bool
    claimed_in_range: bool
    missing_blocks: int
    timing: LastTiming | None  # of an estimated clock, when the partitions were made
    event_range_ns: tuple[int, int] | None  # of all its rows, in the reader's range or not; only with a timing
    partitions: tuple[StoredPartition, ...]


@dataclass(frozen=True, slots=True)
class BucketState:
    """What a builder must find unchanged when it commits."""

    dirty: bool
    marks: int
    generation: int
    digest: bytes | None


@dataclass(frozen=True, slots=True)
class Source:
    """The blocks of one bucket in insert order and what they refer to, all of one snapshot."""

    state: BucketState
    blocks: tuple[Block, ...]
    streams: Mapping[StreamId, Stream]
    processes: Mapping[ProcessId, Process]
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


@dataclass(frozen=True, slots=True)
class Swap:
    """One change of a bucket: everything in it happens, or nothing."""

    instance: InstanceId
    bucket_begin: datetime
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
    view_set: str
    writer_version: int


class SwapConflictError(Exception):
    """The bucket changed since its source was read, or a write intent is gone: read again and start over."""


class PartitionCatalog:
    """Statements over ``view_instances``, ``lakehouse_buckets`` and ``lakehouse_partitions``.

    Raises ``BackendUnavailableError`` when Postgres does not answer.
    """

    def __init__(self, pool: asyncpg.Pool, lock_pool: asyncpg.Pool, store_name: str) -> None:
        self._pool = pool
        self._lock_pool = lock_pool  # its own, so that builders who hold a lock never starve themselves
        self._store = store_name
        self._looks = {
            suffix: {
                look: _SQL[look].replace("{seen}", _SQL["seen"]).replace("{fresh}", _SQL[f"fresh_of_{suffix}"])
                for look in ("has_fresh", "mark_fresh")
            }
            for suffix in ("global", "process", "stream")
        }
        self._sources = {
            suffix: _SQL["fetch_source"].replace("{blocks}", _SQL[f"blocks_of_{suffix}"])
            for suffix in ("global", "process", "stream")
        }

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Any]:
        """A pooled connection; its troubles become ``BackendUnavailableError``."""
        with database_errors():
            async with self._pool.acquire(timeout=ACQUIRE_TIMEOUT_S) as connection:
                yield connection

    async def find_entity(self, kind: InstanceKind, instance: str) -> bool:
        """Whether the process or stream that an instance id names is registered."""
        async with self.connection() as connection:
            return await connection.fetchval(_SQL[f"find_{kind.value}"], uuid.UUID(instance)) is not None

    async def find_instance(self, key: ViewKey, schema_hash: bytes, writer_version: int) -> InstanceId | None:
        async with self.connection() as connection:
            vid = await connection.fetchval(
                _SQL["find_instance"], key.view_set, key.instance, schema_hash, writer_version
            )
        return None if vid is None else InstanceId(vid, key)

    async def add_instance(self, key: ViewKey, schema_hash: bytes, writer_version: int) -> InstanceId:
        async with self.connection() as connection:
            vid = await connection.fetchval(
                _SQL["add_instance"], key.view_set, key.instance, schema_hash, writer_version
            )
        return InstanceId(vid, key)

    async def look(
        self, instance: InstanceId, scope: InstanceScope, wanted: TimeRange, margin_s: float
    ) -> list[StoredBucket]:
        """Take note of blocks that came since the last look, then list the buckets that a reader of ``wanted`` needs.

        Args:
            margin_s: How far outside its claims an event of a block may lie that is not materialized yet.
        """
        arguments = (instance.vid, None if scope.instance is None else uuid.UUID(scope.instance), scope.tag)
        looks = self._looks[scope.suffix]
        async with self.connection() as connection:
            if await connection.fetchval(looks["has_fresh"], *arguments):
                await connection.fetchval(looks["mark_fresh"], *arguments)
            rows = await connection.fetch(
                _SQL["fetch_buckets"], instance.vid, wanted.begin_ns, wanted.end_ns, float(margin_s)
            )
        return _buckets(rows)

    async def all_partitions(self, instance: InstanceId) -> list[StoredPartition]:
        """Every partition of an instance, unpruned (tests compare with this)."""
        async with self.connection() as connection:
            return [_partition(row) for row in await connection.fetch(_SQL["fetch_all_partitions"], instance.vid)]

    async def unknown_clock(self, scope: InstanceScope) -> tuple[int, LastTiming] | None:
        """Start (ns) and newest timing of the instance's process if its tick frequency is unknown."""
        if scope.instance is None:
            return None
        async with self.connection() as connection:
            process = await connection.fetchrow(_SQL["find_unknown_clock"], uuid.UUID(scope.instance))
            if process is None:
                return None
            timing = await connection.fetchrow(_SQL["find_timing"], process["process_id"])
        if timing["end_ticks"] is None:
            return None
        return process["start_us"] * NS_PER_US, LastTiming(timing["end_ticks"], timing["end_us"] * NS_PER_US)

    async def mark(self, instance: InstanceId, bucket_begin: datetime) -> None:
        """Make a bucket dirty by hand."""
        async with self.connection() as connection:
            await connection.execute(_SQL["mark_bucket"], instance.vid, bucket_begin)

    @asynccontextmanager
    async def bucket_lock(self, instance: InstanceId, bucket_begin: datetime) -> AsyncIterator[None]:
        """Only one holder among all servers. The lock goes with its connection, so a dead holder frees it."""
        name = f"{instance.vid}/{bucket_begin.isoformat()}"
        with database_errors():
            async with self._lock_pool.acquire(timeout=_LOCK_WAIT_S) as connection:
                await connection.execute(_SQL["lock_bucket"], name, timeout=_LOCK_WAIT_S)
                try:
                    yield
                finally:
                    if not connection.is_closed():
                        await connection.execute(_SQL["unlock_bucket"], name)

    async def read_source(self, instance: InstanceId, scope: InstanceScope, bucket_begin: datetime) -> Source | None:
        """Everything a builder needs, in one snapshot; ``None`` if there is no such bucket."""
        bucket_end = bucket_begin + timedelta(hours=1)
        async with self.connection() as connection:
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                state = await connection.fetchrow(_SQL["read_bucket"], instance.vid, bucket_begin)
                if state is None:
                    return None
                rows = await connection.fetch(
                    self._sources[scope.suffix],
                    None if scope.instance is None else uuid.UUID(scope.instance),
                    bucket_begin,
                    bucket_end,
                    scope.tag,
                )
                blocks = tuple(_block(row) for row in rows)
                streams = await connection.fetch(_SQL["fetch_streams"], list({row["stream_id"] for row in rows}))
                processes = await connection.fetch(_SQL["fetch_processes"], list({row["process_id"] for row in rows}))
                included = await connection.fetch(_SQL["fetch_included"], instance.vid, bucket_begin)
                timings = {}
                for process in processes:
                    if process["tsc_frequency"] <= 0:
                        timing = await connection.fetchrow(_SQL["find_timing"], process["process_id"])
                        timings[ProcessId(str(process["process_id"]))] = LastTiming(
                            timing["end_ticks"], timing["end_us"] * NS_PER_US
                        )
        return Source(
            state=BucketState(state["dirty"], state["marks"], state["generation"], state["src_digest"]),
            blocks=blocks,
            streams={stream.stream_id: stream for stream in map(_stream, streams)},
            processes={process.process_id: process for process in map(_process, processes)},
            timings=timings,
            included={
                row["ordinal"]: frozenset(BlockId(str(block_id)) for block_id in row["block_ids"]) for row in included
            },
        )

    async def reserve(self, keys: Sequence[str], lease: timedelta, owner: str) -> tuple[uuid.UUID, ...]:
        """Write intents for objects that are about to be made, committed before this returns."""
        intents = tuple(uuid.uuid4() for _ in keys)
        async with self.connection() as connection:
            await connection.execute(
                _SQL["reserve"], uuid.uuid4(), owner, self._store, list(intents), list(keys), lease
            )
        return intents

    async def commit(self, swap: Swap) -> None:
        """Replace or extend a bucket in one transaction.

        Raises:
            SwapConflictError: Somebody else changed the bucket, or an intent was reaped.
            BackendUnavailableError: Also when the outcome cannot be found out; then the intents decide later.
        """
        try:
            async with self.connection() as connection:
                async with connection.transaction():
                    await self._swap(connection, swap)
        except BackendUnavailableError:
            if not await self._did_commit(swap):
                raise

    async def _swap(self, connection: Any, swap: Swap) -> None:
        vid, begin = swap.instance.vid, swap.bucket_begin
        state = await connection.fetchrow(_SQL["lock_generation"], vid, begin)
        if state is None or state["generation"] != swap.state.generation:
            raise SwapConflictError(f"generation {swap.state.generation} of {begin} is not current")
        if swap.replace:
            await connection.execute(_SQL["retire"], vid, begin)
        generation = swap.state.generation + 1
        for partition in swap.partitions:
            object_id = None
            if partition.key is not None:
                object_id = await connection.fetchval(
                    _SQL["add_object"], self._store, partition.key, partition.size_bytes
                )
            await connection.execute(
                _SQL["add_partition"],
                vid,
                begin,
                partition.ordinal,
                generation,
                partition.min_event_ns,
                partition.max_event_ns,
                partition.key,
                partition.size_bytes,
                swap.digest,
                partition.rows,
                list(swap.sort_order) or None,
                None if partition.max_sort_key_ns is None else microseconds(partition.max_sort_key_ns, up=True),
                object_id,
                partition.missing_blocks,
                [uuid.UUID(block_id) for block_id in partition.block_ids],
                None if partition.min_event_ns is None else microseconds(partition.min_event_ns),
                None if partition.max_event_ns is None else microseconds(partition.max_event_ns, up=True),
            )
        await connection.execute(
            _SQL["finish_bucket"],
            vid,
            begin,
            swap.state.marks,
            generation,
            swap.blocks,
            swap.objects,
            swap.digest,
            None if swap.max_insert_ns is None else microseconds(swap.max_insert_ns),
            None if swap.timing is None else swap.timing.end_ticks,
            None if swap.timing is None else microseconds(swap.timing.end_time_ns),
            swap.missing_blocks,
            0 if swap.replace else 1,
            swap.repaired_events,
        )
        if swap.quarantined:
            blocks = [block for block, _ in swap.quarantined]
            await connection.execute(
                _SQL["add_quarantined"],
                swap.view_set,
                swap.writer_version,
                [uuid.UUID(block.block_id) for block in blocks],
                [uuid.UUID(block.stream_id) for block in blocks],
                [uuid.UUID(block.process_id) for block in blocks],
                [error for _, error in swap.quarantined],
            )
        if swap.intents:
            status = await connection.execute(_SQL["finish_intents"], list(swap.intents))
            if status != f"DELETE {len(swap.intents)}":
                raise SwapConflictError("a write intent ran out before the commit")

    async def _did_commit(self, swap: Swap) -> bool:
        """After a lost answer: the intents go with the commit, so their absence proves it."""
        if not swap.intents:
            return False
        async with self.connection() as connection:
            return not await connection.fetch(_SQL["find_intents"], list(swap.intents))

    async def mark_clean(self, instance: InstanceId, bucket_begin: datetime, state: BucketState) -> None:
        """The bucket's partitions hold exactly the blocks that there are."""
        async with self.connection() as connection:
            await connection.execute(_SQL["clean_bucket"], instance.vid, bucket_begin, state.marks)

    async def seal_buckets(self) -> None:
        async with self.connection() as connection:
            await connection.execute(_SQL["seal_buckets"])

    async def fragmented_buckets(self, files_max: int, limit: int) -> list[tuple[InstanceId, datetime]]:
        """Sealed buckets of more than ``files_max`` partitions, oldest first."""
        async with self.connection() as connection:
            rows = await connection.fetch(_SQL["fetch_fragmented"], files_max, limit)
        return [
            (InstanceId(row["vid"], ViewKey(row["view_set"], row["instance_id"])), row["bucket_begin"]) for row in rows
        ]

    async def claim_expired_intents(self, limit: int) -> list[tuple[uuid.UUID, str]]:
        async with self.connection() as connection:
            rows = await connection.fetch(_SQL["claim_expired_intents"], self._store, limit)
        return [(row["staged_id"], row["path"]) for row in rows]

    async def finish_reaped(self, intents: Sequence[uuid.UUID]) -> None:
        async with self.connection() as connection:
            await connection.execute(_SQL["finish_reaped"], list(intents))
            await connection.execute(_SQL["purge_reaped"])

    async def condemn_unreferenced(self, grace: timedelta, limit: int) -> list[tuple[int, str]]:
        """Objects that nobody can need any more, fenced against new references; delete them, then forget them."""
        async with self.connection() as connection:
            async with connection.transaction():
                claimed = await connection.fetch(_SQL["claim_unreferenced"], self._store, limit, grace)
                rows = await connection.fetch(_SQL["condemn"], [row["object_id"] for row in claimed])
        return [(row["object_id"], row["path"]) for row in rows]

    async def forget_objects(self, object_ids: Sequence[int]) -> None:
        async with self.connection() as connection:
            await connection.execute(_SQL["forget_objects"], list(object_ids))


def _buckets(rows: Sequence[Any]) -> list[StoredBucket]:
    found: dict[datetime, tuple[Any, list[StoredPartition]]] = {}
    for row in rows:
        _, partitions = found.setdefault(row["bucket_begin"], (row, []))
        if row["file_path"] is not None:
            partitions.append(_partition(row))
    return [
        StoredBucket(
            begin=begin,
            dirty=row["dirty"],
            claimed_in_range=row["claimed_in_range"],
            missing_blocks=row["missing_blocks"],
            timing=None
            if row["timing_end_ticks"] is None
            else LastTiming(row["timing_end_ticks"], row["timing_end_us"] * NS_PER_US),
            event_range_ns=None
            if row["whole_min_event_ns"] is None
            else (row["whole_min_event_ns"], row["whole_max_event_ns"]),
            partitions=tuple(partitions),
        )
        for begin, (row, partitions) in found.items()
    ]


def _partition(row: Any) -> StoredPartition:
    return StoredPartition(
        row["file_path"], row["file_size"], row["num_rows"], row["min_event_ns"], row["max_event_ns"]
    )


def _block(row: Any) -> Block:
    return Block(
        block_id=BlockId(str(row["block_id"])),
        stream_id=StreamId(str(row["stream_id"])),
        process_id=ProcessId(str(row["process_id"])),
        begin_time_ns=row["begin_us"] * NS_PER_US,
        begin_ticks=row["begin_ticks"],
        end_time_ns=row["end_us"] * NS_PER_US,
        end_ticks=row["end_ticks"],
        nb_objects=row["nb_objects"],
        object_offset=row["object_offset"],
        payload_size=row["payload_size"],
        insert_time_ns=row["insert_us"] * NS_PER_US,
    )


def _stream(row: Any) -> Stream:
    return Stream(
        stream_id=StreamId(str(row["stream_id"])),
        process_id=ProcessId(str(row["process_id"])),
        dependencies_metadata=row["dependencies_metadata"],
        objects_metadata=row["objects_metadata"],
        tags=tuple(row["tags"]),
        properties=_properties(row["properties"]),
        format=row["format"],
        insert_time_ns=row["insert_us"] * NS_PER_US,
    )


def _process(row: Any) -> Process:
    return Process(
        process_id=ProcessId(str(row["process_id"])),
        exe=row["exe"],
        username=row["username"],
        realname=row["realname"],
        computer=row["computer"],
        distro=row["distro"],
        cpu_brand=row["cpu_brand"],
        tsc_frequency=row["tsc_frequency"],
        start_time_ns=row["start_us"] * NS_PER_US,
        start_ticks=row["start_ticks"],
        insert_time_ns=row["insert_us"] * NS_PER_US,
        parent_process_id=None if row["parent_process_id"] is None else ProcessId(str(row["parent_process_id"])),
        properties=_properties(row["properties"]),
    )


def _properties(stored: str) -> dict[str, str]:
    properties: dict[str, str] = json.loads(stored)
    return properties
