"""What a builder reads of one bucket, in one snapshot: its blocks, what they refer to, what its partitions hold already."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import asyncpg

from lakehouse.buckets.model import BucketState, InstanceId, InstanceScope, Registration, Source
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
        bucket_end = bucket_begin + timedelta(hours=1)
        async with self.connection() as connection:
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                state = await connection.fetchrow(_READ_BUCKET, *named(instance), bucket_begin)
                if state is None:
                    raise gone(instance)
                rows = await connection.fetch(
                    self._sources[suffix_of(scope)],
                    None if scope.instance is None else uuid.UUID(scope.instance),
                    bucket_begin,
                    bucket_end,
                    scope.tag,
                )
                blocks = tuple(_block(row) for row in rows)
                streams = await connection.fetch(_SQL["weigh_streams"], list({row["stream_id"] for row in rows}))
                processes = await connection.fetch(_SQL["weigh_processes"], list({row["process_id"] for row in rows}))
                included = await connection.fetch(_SQL["fetch_included"], instance.vid, bucket_begin)
                timings = {}
                for process in processes:
                    if process["tsc_frequency"] <= 0:
                        timing = await connection.fetchrow(_SQL["find_timing"], process["process_id"])
                        timings[ProcessId(str(process["process_id"]))] = LastTiming(
                            timing["end_ticks"], timing["end_us"] * NS_PER_US
                        )
        return Source(
            state=BucketState(
                state["incarnation"],
                state["dirty"],
                state["marks"],
                state["generation"],
                state["src_digest"],
                state["frozen"],
            ),
            blocks=blocks,
            streams={
                StreamId(str(row["stream_id"])): Registration(row["size_bytes"], row["digest"]) for row in streams
            },
            processes={
                ProcessId(str(row["process_id"])): Registration(row["size_bytes"], row["digest"]) for row in processes
            },
            timings=timings,
            included={
                row["ordinal"]: frozenset(BlockId(str(block_id)) for block_id in row["block_ids"]) for row in included
            },
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
