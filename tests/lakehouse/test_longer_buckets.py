"""Buckets that become a day, in the database: looks that run at the same time, servers of the version before, lost answers."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from lakehouse.buckets.bucket import scope_of
from lakehouse.buckets.freshen import MaterializerLimits
from lakehouse.buckets.materialize import Materializer
from lakehouse.buckets.model import Lease
from lakehouse.catalog.connect import open_pool
from lakehouse.catalog.partitions import PartitionCatalog
from lakehouse.errors import BackendUnavailableError
from lakehouse.jobs.executor import LocalExecutor
from lakehouse.model import EVERYTHING
from tests.lakehouse.test_merging import LOGS, a_day, closed, files, instance_of, merge, merged_day, sent_at
from tests.support.lake_rows import rows_of
from tests.support.postgres_lake import PostgresLake, postgres_lake_at
from tests.support.postgres_proxy import Moment, proxy_before


@pytest_asyncio.fixture
async def lake(database_url: str, tmp_path: Path) -> AsyncIterator[PostgresLake]:
    async with postgres_lake_at(database_url, tmp_path) as lake:
        yield lake


async def test_a_look_that_waits_for_a_merge_finds_the_day_that_its_block_is_in(lake: PostgresLake) -> None:
    program = await a_day(lake)
    await closed(lake, LOGS, program.process_id)
    instance = await instance_of(lake, LOGS, program.process_id)
    await sent_at(lake, 2, program.log_block())
    async with lake.pool.acquire() as merging:
        transaction = merging.transaction()
        await transaction.start()
        await _become_a_day(merging, instance.vid)
        looking = asyncio.create_task(lake.catalog.look(instance, scope_of(LOGS, program.process_id), EVERYTHING, 300))
        while not await lake.pool.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):  # noqa: ASYNC110 (a table)
            await asyncio.sleep(0.01)

        await transaction.commit()

        (bucket,) = await looking
    assert bucket.dirty
    assert await lake.pool.fetchval("SELECT bucket_end - bucket_begin FROM lakehouse_buckets") == timedelta(days=1)


async def _become_a_day(connection: asyncpg.Connection, vid: int) -> None:
    """As ``lakehouse_merge`` does, in a transaction that takes its time."""
    await connection.execute("SELECT set_config('lakeflight.merges', 'on', true)")
    await connection.execute("DELETE FROM lakehouse_partitions WHERE vid = $1", vid)
    begins = await connection.fetch("DELETE FROM lakehouse_buckets WHERE vid = $1 RETURNING bucket_begin", vid)
    await connection.execute(
        "INSERT INTO lakehouse_buckets (vid, bucket_begin, bucket_end, dirty, min_claimed, max_claimed)"
        " VALUES ($1, $2, $2::timestamptz + interval '24 hours', false, $2, $2)",
        vid,
        min(row["bucket_begin"] for row in begins),
    )


async def test_a_server_of_the_version_before_cannot_replace_a_day_by_an_hour(lake: PostgresLake) -> None:
    program = await a_day(lake)
    await merged_day(lake, LOGS, program.process_id)
    instance = await instance_of(lake, LOGS, program.process_id)
    before = await rows_of(lake, LOGS, program.process_id)
    row = await lake.pool.fetchrow("SELECT bucket_begin, incarnation, generation, marks FROM lakehouse_buckets")
    lease = Lease(instance, row["bucket_begin"], uuid.uuid4())
    assert await lake.catalog.take_lease(lease, "the version before", timedelta(minutes=1))

    with pytest.raises(asyncpg.PostgresError, match="is not current") as refused:
        await lake.pool.execute(
            "SELECT lakehouse_swap($1, $2, $3, $4, $5, $6, NULL, true, 'store', '[]', '{}', $7, 1, 1, NULL, NULL, NULL,"
            " 0, 0, NULL, '[]')",
            instance.vid,
            row["bucket_begin"],
            lease.token,
            row["incarnation"],
            row["generation"],
            row["marks"],
            bytes(16),
        )

    assert refused.value.sqlstate == "LF001", "it reads the bucket again, and gives up after some times"
    await lake.catalog.drop_lease(lease)
    assert await rows_of(lake, LOGS, program.process_id) == before


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_merge_whose_commit_loses_its_answer_has_happened_or_not(
    lake: PostgresLake, database_url: str, moment: Moment
) -> None:
    program = await a_day(lake)
    await closed(lake, LOGS, program.process_id)
    before = await rows_of(lake, LOGS, program.process_id)
    async with proxy_before(database_url) as proxy, await open_pool(proxy.url, connections_max=2) as pool:
        catalog = PartitionCatalog(pool, lake.store.name)
        executor = LocalExecutor(lake.store, lake.builder)
        broken = Materializer(catalog, lake.store, executor, lake.scratch, MaterializerLimits())
        proxy.arm(b'"tail_digest"', moment)  # of the values of the merge, and of nothing before it

        if moment == "before":
            with pytest.raises(BackendUnavailableError):
                await merge(lake, broken, LOGS)
        else:
            await merge(lake, broken, LOGS)

    assert proxy.broken == 1
    assert await files(lake, LOGS, program.process_id) == (1 if moment == "after" else 4)
    assert await rows_of(lake, LOGS, program.process_id) == before
