"""Processes and streams are listed as their blocks say, whatever is noted of these and when."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, Final

import asyncpg
import pytest
import pytest_asyncio

from lakehouse.catalog.metadata import copy_queries
from lakehouse.catalog.partitions import PartitionCatalog
from lakehouse.catalog.tables import CatalogTable, RowsNeed
from views.processes import PROCESSES
from views.streams import STREAMS

T0: Final = datetime(2026, 3, 1, tzinfo=UTC)
IDS: Final = [str(uuid.UUID(int=n + 1)) for n in range(6)]
STEPS: Final = 120


class Ingestion:
    """Programs that send in any order, in transactions of any length."""

    def __init__(self, pool: Any, random: Random) -> None:
        self.pool, self.random = pool, random
        self.open: list[tuple[Any, Any]] = []
        self.hours_expired = 0

    async def step(self, catalog: PartitionCatalog) -> None:
        match self.random.choice(
            ("block", "block", "block", "begin", "end", "end", "process", "stream", "remove", "lose", "expire", "note")
        ):
            case "block":
                await self.send(self.pool)
            case "begin" if len(self.open) < 3:
                connection = await self.pool.acquire()
                transaction = connection.transaction()
                await transaction.start()
                await self.send(connection)
                self.open.append((connection, transaction))
            case "end" if self.open:
                await self.end(self.open.pop(self.random.randrange(len(self.open))))
            case "process":
                await self.register_process(self.random.choice(IDS))
            case "stream":
                await self.register_stream(self.random.choice(IDS))
            case "remove":
                await self.pool.execute("DELETE FROM blocks WHERE stream_id = $1", self.random.choice(IDS))
            case "lose":  # one, which may be the latest that was noted
                await self.pool.execute(
                    "DELETE FROM blocks WHERE block_id = (SELECT block_id FROM blocks ORDER BY md5(block_id || $1) LIMIT 1)",
                    str(self.random.random()),
                )
            case "expire" if self.random.random() < 0.2:
                self.hours_expired += 1
                await catalog.expire_blocks(T0 + timedelta(hours=self.hours_expired), [])
            case "note":
                await catalog.note_senders()

    async def register(self, stream: str) -> None:
        await self.register_process(self._sender_of(stream))
        await self.register_stream(stream)

    async def register_process(self, process: str) -> None:
        await self.pool.execute(
            "INSERT INTO processes (process_id, exe, username, realname, computer, distro, cpu_brand,"
            " tsc_frequency, start_time, start_ticks) VALUES ($1, 'a', '', '', '', '', '', 7, $2, 0)"
            " ON CONFLICT DO NOTHING",
            process,
            T0,
        )

    async def register_stream(self, stream: str) -> None:
        await self.pool.execute(
            "INSERT INTO streams (stream_id, process_id, dependencies_metadata, objects_metadata)"
            " VALUES ($1, $2, '', '') ON CONFLICT DO NOTHING",
            *(stream, self._sender_of(stream)),
        )

    async def end(self, held: tuple[Any, Any]) -> None:
        connection, transaction = held
        await (transaction.commit() if self.random.random() < 0.7 else transaction.rollback())
        await self.pool.release(connection)

    async def send(
        self, connection: Any, *, stream: str | None = None, time: datetime | None = None, end_ticks: int | None = None
    ) -> None:
        stream = stream or self.random.choice(IDS)
        time = time or T0 + timedelta(seconds=self.random.randrange(6 * 3_600))  # some come in an hour that is expired
        await connection.execute(
            "INSERT INTO blocks (block_id, stream_id, process_id, begin_time, begin_ticks, end_time, end_ticks,"
            " nb_objects, object_offset, payload_size, insert_time) VALUES ($1, $2, $3, $4, 0, $4, $5, 1, 0, 5, $4)",
            *(uuid.uuid4(), stream, self._sender_of(stream), time),
            self.random.randrange(1_000) if end_ticks is None else end_ticks,
        )

    def _sender_of(self, stream: str) -> str:
        return IDS[IDS.index(stream) // 2]


@pytest_asyncio.fixture
async def pool(database_url: str) -> AsyncIterator[Any]:
    pool = await asyncpg.create_pool(database_url, min_size=1, max_size=6)
    yield pool
    pool.terminate()  # a test that fails leaves transactions open


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_what_is_listed_follows_from_the_blocks_there_are(pool: Any, seed: int) -> None:
    random = Random(seed)
    ingestion, catalog = Ingestion(pool, random), PartitionCatalog(pool, "store")
    listed = 0

    for _ in range(STEPS):
        await ingestion.step(catalog)
        for needs in ([_need(PROCESSES)], [_need(STREAMS)], [_need(PROCESSES, "process_id", random.choice(IDS))]):
            async with pool.acquire() as connection:
                async with connection.transaction(isolation="repeatable_read", readonly=True):
                    found = await _listed(connection, needs[0])
                    assert found == await _by_blocks(connection, needs[0])
            listed += len(found)

    assert listed > STEPS // 2
    for held in ingestion.open:
        await ingestion.end(held)


async def test_a_block_that_retention_took_is_nobody_s_latest(pool: Any) -> None:
    """One that came early may have ended late: by its own clock, which is the sender's."""
    ingestion, catalog = Ingestion(pool, Random(1)), PartitionCatalog(pool, "store")
    for hour, end_ticks in ((0, 9_000), (5, 50)):
        await ingestion.send(pool, stream=IDS[0], time=T0 + timedelta(hours=hour), end_ticks=end_ticks)
    await ingestion.register(IDS[0])
    await catalog.note_senders()

    await catalog.expire_blocks(T0 + timedelta(hours=1), [])

    async with pool.acquire() as connection:
        found = await _listed(connection, _need(PROCESSES))
    ((_, ticks, _),) = found.values()
    assert ticks == 50


async def test_notes_from_a_cluster_with_higher_ids_are_not_believed(pool: Any) -> None:
    ingestion, catalog = Ingestion(pool, Random(5)), PartitionCatalog(pool, "store")
    for _ in range(30):
        await ingestion.step(catalog)
    await catalog.note_senders()
    await pool.execute("UPDATE lakehouse_notes SET looked_before = (looked_before::text::bigint + 100000)::text::xid8")
    for held in ingestion.open:
        await ingestion.end(held)
    for _ in range(20):
        await ingestion.send(pool)

    async with pool.acquire() as connection:
        assert await _listed(connection, _need(STREAMS)) == await _by_blocks(connection, _need(STREAMS))


def _need(table: CatalogTable, column: str | None = None, value: str = "") -> RowsNeed:
    return RowsNeed(table, equals={} if column is None else {column: (value,)})


async def _listed(connection: Any, need: RowsNeed) -> dict[str, tuple[Any, ...]]:
    text = copy_queries([need])[need.table.name]
    columns = _COLUMNS[need.table.name]
    return {str(row[0]): tuple(row)[1:] for row in await connection.fetch(f"SELECT {columns} FROM ({text}) AS listed")}


async def _by_blocks(connection: Any, need: RowsNeed) -> dict[str, tuple[Any, ...]]:
    found = {str(row[0]): tuple(row)[1:] for row in await connection.fetch(_BY_BLOCKS[need.table.name])}
    wanted = next(iter(need.equals.values()), tuple(found))
    return {id_: row for id_, row in found.items() if id_ in wanted}


_COLUMNS: Final = {
    "processes": "process_id, last_update_time, last_block_end_ticks, last_block_end_time",
    "streams": "stream_id, last_update_time",
}
_US: Final = "(extract(EPOCH FROM max(b.{})) * 1000000)::bigint"
_BY_BLOCKS: Final = {
    "processes": f"SELECT b.process_id, {_US.format('insert_time')}, max(b.end_ticks), {_US.format('end_time')}"
    " FROM blocks b JOIN processes USING (process_id) JOIN streams USING (stream_id)"
    " WHERE b.insert_time >= lakehouse_kept_from() GROUP BY b.process_id",
    "streams": f"SELECT b.stream_id, {_US.format('insert_time')}"
    " FROM blocks b JOIN processes USING (process_id) JOIN streams USING (stream_id)"
    " WHERE b.insert_time >= lakehouse_kept_from() GROUP BY b.stream_id",
}
