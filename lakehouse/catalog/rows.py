"""What a builder reads of one bucket, in one snapshot: its blocks, what they refer to, what its partitions hold already."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import asyncpg

from lakehouse.buckets.model import (
    BucketState,
    InstanceId,
    InstanceScope,
    MergedBucket,
    MergeSource,
    NewPartition,
    Registration,
    Source,
)
from lakehouse.catalog.looks import FIND_TIMING
from lakehouse.catalog.parts import CatalogPart, gone, named, suffix_of
from lakehouse.catalog.queries import load
from lakehouse.errors import BackendUnavailableError
from lakehouse.model import (
    NS_PER_US,
    Block,
    BlockId,
    JsonProperties,
    LastTiming,
    Process,
    ProcessId,
    Stream,
    StreamId,
)

_SQL: Final = load("looks") | load("rows")
_READ_BUCKET: Final = _SQL["read_bucket"].replace("{seen}", _SQL["seen"])
_READ_BUCKETS: Final = _SQL["read_buckets"].replace("{seen}", _SQL["seen"])

_FIND_BLOCK: Final = _SQL["fetch_source"].replace("{blocks}", _SQL["blocks_of_id"])


class Rows(CatalogPart):
    """Statements over ``processes``, ``streams`` and ``blocks``."""

    def __init__(self, pool: asyncpg.Pool, store_name: str, renewing: asyncpg.Pool | None = None) -> None:
        super().__init__(pool, store_name, renewing)
        self._sources = {
            suffix: _SQL["fetch_source"].replace("{blocks}", _SQL[f"blocks_of_{suffix}"])
            for suffix in ("global", "process", "stream")
        }

    async def read_source(self, instance: InstanceId, scope: InstanceScope, bucket_begin: datetime) -> Source:
        """Everything a builder needs, in one snapshot.

        Raises:
            InstanceGoneError: There is no such bucket.
        """
        async with self.connection() as connection:
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                row = await connection.fetchrow(_READ_BUCKET, *named(instance), bucket_begin)
                if row is None:
                    raise gone(instance)
                state = _state(row, bucket_begin)
                included = await connection.fetch(_SQL["fetch_included"], instance.vid, bucket_begin)
                return await self._source(
                    connection,
                    scope,
                    bucket_begin,
                    state,
                    {row["ordinal"]: frozenset(_block_ids(row)) for row in included},
                )

    async def read_merge(
        self, instance: InstanceId, scope: InstanceScope, begin: datetime, length: timedelta
    ) -> MergeSource:
        """The buckets in a stretch of time, what is in their files, and the blocks that there are, in one snapshot.

        Raises:
            InstanceGoneError: The instance is gone.
        """
        end = begin + length
        async with self.connection() as connection:
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                rows = await connection.fetch(_READ_BUCKETS, *named(instance), begin, end)
                if not rows:
                    raise gone(instance)
                buckets = tuple(_merged_bucket(row) for row in rows if row["bucket_begin"] is not None)
                found = await connection.fetch(_SQL["fetch_merged"], instance.vid, begin, end)
                partitions = tuple(map(_partition, found))
                included = frozenset[BlockId]().union(*(partition.block_ids for partition in partitions))
                state = BucketState(uuid.UUID(int=0), False, 0, 0, None, length=length)
                return MergeSource(
                    buckets, partitions, await self._source(connection, scope, begin, state, {0: included})
                )

    async def _source(
        self,
        connection: Any,
        scope: InstanceScope,
        begin: datetime,
        state: BucketState,
        included: Mapping[int, frozenset[BlockId]],
    ) -> Source:
        """The blocks of a bucket and what they refer to."""
        rows = await connection.fetch(
            self._sources[suffix_of(scope)],
            None if scope.instance is None else uuid.UUID(scope.instance),
            begin,
            begin + state.length,
            scope.tag,
        )
        streams = await connection.fetch(_SQL["weigh_streams"], list({row["stream_id"] for row in rows}))
        processes = await connection.fetch(_SQL["weigh_processes"], list({row["process_id"] for row in rows}))
        timings = {}
        for process in processes:
            if process["tsc_frequency"] <= 0:
                timing = await connection.fetchrow(FIND_TIMING, process["process_id"])
                timings[ProcessId(str(process["process_id"]))] = LastTiming(
                    timing["end_ticks"], timing["end_us"] * NS_PER_US
                )
        return Source(
            state=state,
            blocks=tuple(_block(row) for row in rows),
            streams={
                StreamId(str(row["stream_id"])): Registration(row["size_bytes"], row["digest"]) for row in streams
            },
            processes={
                ProcessId(str(row["process_id"])): Registration(row["size_bytes"], row["digest"]) for row in processes
            },
            timings=timings,
            included=included,
        )

    async def find_block(self, block_id: str) -> Block | None:
        """The block of this id, if its stream and its process are registered."""
        async with self.connection() as connection:
            row = await connection.fetchrow(_FIND_BLOCK, uuid.UUID(block_id))
        return None if row is None else _block(row)

    async def registrations(self, blocks: Sequence[Block]) -> tuple[dict[ProcessId, Process], dict[StreamId, Stream]]:
        """What ``blocks`` refer to. It is what it was when their source was read: a registration never changes."""
        process_ids = {block.process_id for block in blocks}
        stream_ids = {block.stream_id for block in blocks}
        async with self.connection() as connection:
            processes = await connection.fetch(_SQL["fetch_processes"], list(map(uuid.UUID, process_ids)))
            streams = await connection.fetch(_SQL["fetch_streams"], list(map(uuid.UUID, stream_ids)))
        if (len(processes), len(streams)) != (len(process_ids), len(stream_ids)):
            raise BackendUnavailableError("a stream or process was removed while its blocks were read; ask again")
        return (
            {process.process_id: process for process in map(_process, processes)},
            {stream.stream_id: stream for stream in map(_stream, streams)},
        )


def _state(row: Any, begin: datetime) -> BucketState:
    return BucketState(
        row["incarnation"],
        row["dirty"],
        row["marks"],
        row["generation"],
        row["src_digest"],
        row["frozen"],
        row["bucket_end"] - begin,
    )


def _merged_bucket(row: Any) -> MergedBucket:
    timing = (
        None
        if row["timing_end_ticks"] is None
        else LastTiming(row["timing_end_ticks"], row["timing_end_us"] * NS_PER_US)
    )
    begin = row["bucket_begin"]
    return MergedBucket(begin, _state(row, begin), row["sealed"], timing)


def _partition(row: Any) -> NewPartition:
    return NewPartition(
        ordinal=row["ordinal"],
        key=row["file_path"],
        size_bytes=row["file_size"],
        rows=row["num_rows"],
        min_event_ns=row["min_event_ns"],
        max_event_ns=row["max_event_ns"],
        max_sort_key_ns=None if row["max_sort_key_us"] is None else row["max_sort_key_us"] * NS_PER_US,
        block_ids=tuple(_block_ids(row)),
        missing_blocks=row["missing_blocks"],
        sha256=row["sha256"],
        tail_digest=row["tail_digest"],
    )


def _block_ids(row: Any) -> Iterator[BlockId]:
    return (BlockId(str(block_id)) for block_id in row["block_ids"])


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
        properties=JsonProperties(row["properties"]),
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
        properties=JsonProperties(row["properties"]),
    )
