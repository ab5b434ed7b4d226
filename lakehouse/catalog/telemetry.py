"""Writes the rows of processes, streams and blocks. What they mean is nobody's business here.

Every statement is one transaction and may be repeated: the first registration of an id stands.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import asyncpg

from lakeflight.wire.envelope import BlockRequest, ProcessRequest, StreamRequest
from lakehouse.catalog.connect import ACQUIRE_TIMEOUT_S, CLOSE_TIMEOUT_S, INGEST_LIMITS, connect, database_errors
from lakehouse.catalog.queries import load
from lakehouse.model import NS_PER_US

NATIVE_FORMAT: Final = "micromegas-transit"
_SQL: Final = load("telemetry")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def _timestamp(time_ns: int) -> datetime:
    """Floored to what Postgres keeps."""
    return _EPOCH + timedelta(0, 0, time_ns // NS_PER_US)


def _json(properties: Mapping[str, str]) -> str:
    return json.dumps(properties, ensure_ascii=False, separators=(",", ":"))


async def insert_process(pool: asyncpg.Pool, process: ProcessRequest) -> bool:
    """Register a process; ``False`` if the id was known, whatever it was registered with.

    Raises:
        BackendUnavailableError: The row may be there or not; do it again.
    """
    return await _insert(
        pool,
        "insert_process",
        process.process_id,
        process.exe,
        process.username,
        process.realname,
        process.computer,
        process.distro,
        process.cpu_brand,
        process.tsc_frequency,
        _timestamp(process.start_time_ns),
        process.start_ticks,
        process.parent_process_id,
        _json(process.properties),
    )


async def insert_stream(pool: asyncpg.Pool, stream: StreamRequest, *, stream_format: str = NATIVE_FORMAT) -> bool:
    """Register a stream; ``False`` if the id was known."""
    return await _insert(
        pool,
        "insert_stream",
        stream.stream_id,
        stream.process_id,
        stream.dependencies_metadata,
        stream.objects_metadata,
        list(stream.tags),
        _json(stream.properties),
        stream_format,
    )


async def _insert(pool: asyncpg.Pool, name: str, *values: Any) -> bool:
    with database_errors():
        async with pool.acquire(timeout=ACQUIRE_TIMEOUT_S) as connection:
            status: str = await connection.execute(_SQL[name], *values)
            return status != "INSERT 0 0"


class BlockRows:
    """Inserts groups of blocks over connections that are kept, with the statement prepared.

    A pool would reset a connection after each use, one more round trip for each group. As many connections are opened
    as there are groups at work at once; the caller bounds them.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._idle: list[tuple[asyncpg.Connection, Any]] = []
        self._closed = False

    async def insert(self, blocks: Sequence[BlockRequest], sizes: Sequence[int]) -> set[str]:
        """Insert the rows; returns the ids that are new. ``sizes`` are those of the stored payloads.

        Raises:
            BackendUnavailableError: Any part of the group may be there or not; do it again.
        """
        columns = (
            [block.block_id for block in blocks],
            [block.stream_id for block in blocks],
            [block.process_id for block in blocks],
            [_timestamp(block.begin_time_ns) for block in blocks],
            [block.begin_ticks for block in blocks],
            [_timestamp(block.end_time_ns) for block in blocks],
            [block.end_ticks for block in blocks],
            [block.nb_objects for block in blocks],
            [block.object_offset for block in blocks],
            list(sizes),
        )
        connection, statement = await self._take()
        try:
            with database_errors():
                rows = await statement.fetch(*columns)
        except BaseException:
            connection.terminate()  # whatever state it is in, the next group does not inherit it
            raise
        if self._closed:
            connection.terminate()
        else:
            self._idle.append((connection, statement))
        return {str(row[0]) for row in rows}

    async def close(self) -> None:
        self._closed = True
        while self._idle:
            connection, _ = self._idle.pop()
            try:
                await connection.close(timeout=CLOSE_TIMEOUT_S)
            except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
                connection.terminate()

    async def _take(self) -> tuple[asyncpg.Connection, Any]:
        while self._idle:
            connection, statement = self._idle.pop()
            if not connection.is_closed():
                return connection, statement
        connection = await connect(self._url, INGEST_LIMITS)
        try:
            with database_errors():
                return connection, await connection.prepare(_SQL["insert_blocks"])
        except BaseException:
            connection.terminate()
            raise
