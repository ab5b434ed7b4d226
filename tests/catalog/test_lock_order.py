"""Whoever changes several buckets locks them in the order in which a look does: none of the two ever loses to the other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from lakehouse.buckets.model import PartitionFile, PartitionsOf, Retired
from lakehouse.buckets.planning import version_of
from tests.lakehouse.test_merging import LOGS, closed, instance_of, sent_at
from tests.support.postgres_lake import PostgresLake, postgres_lake_at
from tests.support.programs import Program


async def _retire_files(lake: PostgresLake) -> None:
    keys = await lake.pool.fetch("SELECT file_path FROM lakehouse_partitions ORDER BY bucket_begin DESC")
    assert set(await lake.catalog.retire([PartitionFile(row["file_path"]) for row in keys])) == {Retired.GONE}


async def _retire_ranges(lake: PostgresLake) -> None:
    rows = await lake.pool.fetch(
        "SELECT view_set_name, view_instance_id, begin_insert_time, end_insert_time FROM lakehouse_partitions"
        " ORDER BY bucket_begin DESC"
    )
    assert set(await lake.catalog.retire([PartitionsOf(*row.values()) for row in rows])) == {Retired.GONE}


async def _seal(lake: PostgresLake) -> None:
    await lake.catalog.seal_buckets()


async def _settle(lake: PostgresLake) -> None:
    await lake.catalog.mergeable_days([version_of(LOGS)], 1, 100)


async def _expire_blocks(lake: PostgresLake) -> None:
    newest: datetime = await lake.pool.fetchval("SELECT max(bucket_begin) FROM lakehouse_buckets")
    await lake.catalog.expire_blocks(newest + timedelta(hours=1), [])


async def _freeze_expired(lake: PostgresLake) -> None:
    await lake.catalog.expired_blocks(timedelta(hours=1), 100)


async def _expire_partitions(lake: PostgresLake) -> None:
    await lake.catalog.expire_buckets("log_entries", timedelta(hours=1), timedelta(0), 100)


async def _retire_instance(lake: PostgresLake) -> None:
    (instance,) = await lake.catalog.unused_instances([], timedelta(days=7), 100)
    await lake.catalog.retire_instance(instance, timedelta(days=7))


CHANGES: dict[
    str, tuple[Callable[[PostgresLake], Coroutine[Any, Any, None]], str]
] = {  # and what is done to the lake before
    "retire files": (_retire_files, ""),
    "retire ranges": (_retire_ranges, ""),
    "seal": (_seal, "UPDATE lakehouse_buckets SET sealed = false"),
    "settle": (_settle, ""),
    "expire blocks": (_expire_blocks, ""),
    "freeze what comes late": (
        _freeze_expired,
        "INSERT INTO lakehouse_horizons SELECT max(bucket_begin) + interval '1 hour' FROM lakehouse_buckets",
    ),
    "expire partitions": (_expire_partitions, "UPDATE lakehouse_buckets SET updated = updated - interval '1 day'"),
    "retire a version": (_retire_instance, "UPDATE view_instances SET used = used - interval '30 days'"),
}


@pytest.mark.parametrize("change", CHANGES)
async def test_a_change_of_several_buckets_and_one_that_has_the_first_and_wants_the_second_both_happen(
    database_url: str, tmp_path: Path, change: str
) -> None:
    act, before = CHANGES[change]
    async with postgres_lake_at(database_url, tmp_path) as lake, asyncpg.create_pool(database_url, min_size=1) as other:
        program = Program()
        await lake.send(program.registration())
        for hour in range(2):
            await sent_at(lake, hour, program.log_block())
        await closed(lake, LOGS, program.process_id)
        vid = (await instance_of(lake, LOGS, program.process_id)).vid
        if before:
            await lake.pool.execute(before)
        first, second = await _begins(lake, vid)
        await _touch(lake.pool, vid, first)  # now its row lies behind that of the second, for whoever reads as they lie
        async with other.acquire() as looking:
            transaction = looking.transaction()
            await transaction.start()
            await _touch(looking, vid, first)

            changing = asyncio.create_task(act(lake))
            await _until_waiting(other, changing)
            await _touch(looking, vid, second)
            await transaction.commit()
            await changing


async def _begins(lake: PostgresLake, vid: int) -> list[datetime]:
    rows = await lake.pool.fetch("SELECT bucket_begin FROM lakehouse_buckets WHERE vid = $1 ORDER BY bucket_begin", vid)
    return [row["bucket_begin"] for row in rows]


async def _touch(connection: Any, vid: int, begin: datetime) -> None:
    """As a look does with a bucket that it has a block for."""
    status = await connection.execute(
        "UPDATE lakehouse_buckets SET min_claimed = min_claimed WHERE vid = $1 AND bucket_begin = $2", vid, begin
    )
    assert status == "UPDATE 1"


async def _until_waiting(database: Any, changing: asyncio.Task[None]) -> None:
    async with asyncio.timeout(30):
        while not await database.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted") and not changing.done():  # noqa: ASYNC110 (a table)
            await asyncio.sleep(0.01)
    assert not changing.done(), "it waits for the first"
