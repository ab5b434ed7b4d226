"""A lake in a restored database: what comes later is seen, whatever transaction ids its cluster gives."""

from __future__ import annotations

import asyncio
import subprocess
import uuid
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from lakehouse.buckets.model import InstanceId, InstanceScope, ViewVersion
from lakehouse.catalog.migrate import migrate
from lakehouse.catalog.partitions import PartitionCatalog
from lakehouse.model import EVERYTHING, InstanceKind, ViewKey
from server.embedded_postgres import postgres_binaries
from tests.support.postgres import PostgresServer, embedded_server

PROCESS, STREAM = uuid.UUID(int=1), uuid.UUID(int=2)
SCOPES = {
    "process": InstanceScope(InstanceKind.PROCESS, str(PROCESS), "log"),
    "stream": InstanceScope(InstanceKind.STREAM, str(STREAM), None),
    "global": InstanceScope(None, None, "log"),
}
START = datetime(2024, 5, 1, 10, 0, tzinfo=UTC)
AGE = "DO $$ BEGIN FOR i IN 1..3000 LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$"  # of a cluster, in ids


@pytest.fixture(scope="module")
def other_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """A cluster that was just made, so it counts from the beginning."""
    with embedded_server(tmp_path_factory.mktemp("other")) as server:
        yield server


@pytest_asyncio.fixture
async def other_url(other_server: PostgresServer) -> AsyncIterator[str]:
    url = await other_server.create(migrated=False)
    yield url
    await other_server.drop(url)


class Lake:
    """The catalog of one database, and one instance of each kind."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    async def register(self) -> None:
        await self.connection.execute(
            "INSERT INTO processes (process_id, exe, username, realname, computer, distro, cpu_brand, tsc_frequency,"
            " start_time, start_ticks) VALUES ($1, '', '', '', '', '', '', 1, $2, 0)",
            PROCESS,
            START,
        )
        await self.connection.execute(
            "INSERT INTO streams (stream_id, process_id, dependencies_metadata, objects_metadata, tags)"
            " VALUES ($1, $2, '', '', ARRAY['log'])",
            STREAM,
            PROCESS,
        )

    async def add_block(self) -> str:
        block = uuid.uuid4()
        await self.connection.execute(
            "INSERT INTO blocks (block_id, stream_id, process_id, begin_time, begin_ticks, end_time, end_ticks,"
            " nb_objects, object_offset, payload_size) VALUES ($1, $2, $3, $4, 0, $4, 0, 1, 0, 10)",
            block,
            STREAM,
            PROCESS,
            START,
        )
        return str(block)

    async def look(self, scope: str) -> set[str]:
        """The blocks of all buckets that are not fresh; then they are."""
        found: set[str] = set()
        async with asyncpg.create_pool(dsn=self.connection.url, min_size=0, max_size=2) as pool:
            catalog = PartitionCatalog(pool, "memory://")
            instance = await self._instance(catalog, scope)
            for bucket in await catalog.look(instance, SCOPES[scope], EVERYTHING, 300):
                if bucket.dirty:
                    source = await catalog.read_source(instance, SCOPES[scope], bucket.begin)
                    found |= {block.block_id for block in source.blocks}
                    await catalog.mark_clean(instance, bucket.begin, source.state)
        return found

    async def _instance(self, catalog: PartitionCatalog, scope: str) -> InstanceId:
        return await catalog.add_instance(ViewKey("log_entries", scope), ViewVersion("log_entries", b"12345678", 1))


@pytest_asyncio.fixture
async def lake(database_url: str) -> AsyncIterator[Lake]:
    """In a cluster that has been used for a while: one block, which every instance has seen."""
    async with asyncpg.create_pool(database_url, min_size=0, max_size=2) as pool:
        await pool.execute(AGE)
        made = Lake(_Connection(pool, database_url))
        await made.register()
        await made.add_block()
        for scope in SCOPES:
            assert len(await made.look(scope)) == 1
            assert await made.look(scope) == set()
        yield made


class _Connection:
    """A pool that knows its URL."""

    def __init__(self, pool: Any, url: str) -> None:
        self.url = url
        self.execute = pool.execute
        self.fetchval = pool.fetchval


@pytest_asyncio.fixture
async def restored(lake: Lake, other_url: str, tmp_path: Path) -> AsyncIterator[Lake]:
    """A logical backup of the lake in the other cluster."""
    for program, *arguments in (
        ("pg_dump", "--format=custom", f"--file={tmp_path / 'dump'}", lake.connection.url),
        ("pg_restore", "--no-owner", f"--dbname={other_url}", str(tmp_path / "dump")),
    ):
        await asyncio.to_thread(
            subprocess.run, [str(postgres_binaries() / program), *arguments], check=True, timeout=60
        )
    async with asyncpg.create_pool(other_url, min_size=0, max_size=8) as pool:
        yield Lake(_Connection(pool, other_url))


@pytest.mark.parametrize("restarted", [True, False], ids=["servers start on it", "servers have been running"])
@pytest.mark.parametrize("scope", SCOPES)
async def test_blocks_that_come_after_a_restore_into_another_cluster_are_seen(
    restored: Lake, scope: str, restarted: bool
) -> None:
    if restarted:
        await migrate(restored.connection.url)
    assert await restored.look(scope) == set(), "what was seen before the backup still is"

    later = await restored.add_block()

    assert later in await restored.look(scope)
    assert await restored.look(scope) == set()
    again = await restored.add_block()
    assert again in await restored.look(scope)


async def test_the_first_blocks_after_a_restore_get_higher_ids_even_if_they_come_at_once(restored: Lake) -> None:
    blocks = await asyncio.gather(*(restored.add_block() for _ in range(8)))

    ids = await restored.connection.fetchval(
        "SELECT array_agg(block_id::text ORDER BY ingest_xid DESC) FROM (SELECT * FROM blocks) AS b"
    )
    assert set(ids[:8]) == set(blocks)
    assert await restored.connection.fetchval("SELECT count(*) FROM lakehouse_transactions") == 1
    assert blocks[0] in await restored.look("global")
    assert await restored.look("global") == set()


async def test_a_copy_of_the_files_goes_on_as_it_was(lake: Lake, postgres_server: PostgresServer) -> None:
    """The rows keep the transactions that wrote them, and the cluster its counter."""
    name, copy = lake.connection.url.partition("?")[0].rsplit("/", 1)[1], f"copy_{uuid.uuid4().hex[:12]}"
    admin = await asyncpg.connect(postgres_server.admin_url)
    await admin.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
    await admin.execute(f'CREATE DATABASE "{copy}" TEMPLATE "{name}"')
    await admin.close()
    url = postgres_server.url_of(copy)

    await migrate(url)

    async with asyncpg.create_pool(url, min_size=0, max_size=2) as pool:
        copied = Lake(_Connection(pool, url))
        assert await pool.fetchval("SELECT base FROM lakehouse_transactions") == 0
        assert await copied.look("global") == set()
        later = await copied.add_block()
        assert later in await copied.look("global")
        assert await pool.fetchval("SELECT base FROM lakehouse_transactions") == 0
    await postgres_server.drop(url)


@pytest.mark.parametrize("scope", SCOPES)
async def test_ids_that_are_too_high_for_the_cluster_are_noticed_by_a_look(lake: Lake, scope: str) -> None:
    """Rows copied by hand into a database of its own, or a counter that was set back."""
    for statement in (
        "UPDATE blocks SET ingest_xid = '900000000000'",
        "UPDATE view_instances SET looked_before = '900000000001', looked_except = '{}'",
    ):
        await lake.connection.execute(statement)
    too_low = await lake.add_block()

    assert too_low in await lake.look(scope)
    assert await lake.look(scope) == set()
    assert await lake.add_block() in await lake.look(scope)


async def test_a_server_that_starts_during_a_backup_holds_up_neither_itself_nor_ingestion(lake: Lake) -> None:
    backup = await asyncpg.connect(lake.connection.url)
    async with backup.transaction(isolation="repeatable_read", readonly=True):  # as pg_dump does, for hours
        await backup.execute("LOCK TABLE lakehouse_transactions, blocks, view_instances IN ACCESS SHARE MODE")

        await asyncio.wait_for(migrate(lake.connection.url), 5)

        assert await asyncio.wait_for(lake.add_block(), 5) in await lake.look("global")
    await backup.close()
