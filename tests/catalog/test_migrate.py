"""The schema: who may change it, when, and how often."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import asyncpg
import pytest
import pytest_asyncio

from lakehouse.catalog import migrate as migrating
from lakehouse.catalog import schema
from lakehouse.catalog.connect import close_pool, connect, open_pool
from lakehouse.catalog.migrate import migrate
from lakehouse.catalog.schema import Migration, SchemaError, migrations
from lakehouse.errors import BackendUnavailableError

TABLES = {
    "blocks",
    "lake_filters",
    "lake_objects",
    "lake_releases",
    "lakehouse_buckets",
    "lakehouse_horizons",
    "lakehouse_leases",
    "lakehouse_notes",
    "lakehouse_orphans",
    "lakehouse_partitions",
    "lakehouse_senders",
    "lakehouse_settings",
    "lakehouse_tasks",
    "lakehouse_reader_keys",
    "lakehouse_writer_keys",
    "lakehouse_transactions",
    "processes",
    "quarantined_blocks",
    "schema_migrations",
    "staged_writes",
    "streams",
    "view_instances",
}


async def test_an_empty_database_gets_every_table(empty_database_url: str) -> None:
    version = await migrate(empty_database_url)

    connection = await asyncpg.connect(empty_database_url)
    found = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    assert {row["tablename"] for row in found} == TABLES
    assert version == len(migrations())
    assert await connection.fetchval("SELECT count(*) FROM pg_extension WHERE extname <> 'plpgsql'") == 0
    await connection.close()


async def test_migrating_again_changes_nothing(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    before = await connection.fetch("SELECT * FROM schema_migrations ORDER BY version")

    await migrate(database_url)

    assert await connection.fetch("SELECT * FROM schema_migrations ORDER BY version") == before
    await connection.close()


async def test_servers_that_migrate_at_once_apply_each_step_once(empty_database_url: str) -> None:
    versions = await asyncio.gather(*(migrate(empty_database_url) for _ in range(4)))

    connection = await asyncpg.connect(empty_database_url)
    steps = await connection.fetch("SELECT version FROM schema_migrations ORDER BY version")
    assert [row["version"] for row in steps] == [step.version for step in migrations()]
    assert set(versions) == {len(migrations())}
    await connection.close()


async def test_a_newer_schema_is_refused_and_left_alone(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    await connection.execute("INSERT INTO schema_migrations VALUES (9000, 'future', '\\x00')")

    with pytest.raises(SchemaError, match=r"schema version 9000 .* used by a newer lakeflight, upgrade this one"):
        await migrate(database_url)

    assert await connection.fetchval("SELECT max(version) FROM schema_migrations") == 9000
    await connection.close()


async def test_a_schema_made_by_other_steps_is_refused(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    await connection.execute("UPDATE schema_migrations SET digest = '\\x00' WHERE version = 1")

    with pytest.raises(SchemaError, match="made by another build"):
        await migrate(database_url)
    await connection.close()


KNOWN = len(migrations())
SURVIVED = Migration(KNOWN + 1, "notes", f"-- serves: {KNOWN}\nALTER TABLE blocks ADD COLUMN note text")
BREAKING = Migration(KNOWN + 1, "no_more_offsets", "ALTER TABLE blocks DROP COLUMN object_offset")

Upgrade = Callable[[Migration], None]


@pytest.fixture
def upgraded(monkeypatch: pytest.MonkeyPatch) -> Upgrade:
    """From now on ``migrate`` is that of a version with one step more; connections stay those of this one."""

    def to(step: Migration) -> None:
        monkeypatch.setattr(migrating, "migrations", lambda: [*migrations(), step])
        monkeypatch.setattr(migrating, "OTHERS_S_MAX", 0.2)

    return to


@pytest_asyncio.fixture
async def running(database_url: str) -> AsyncIterator[asyncpg.Pool]:
    """What a server of this version works over."""
    pool = await open_pool(database_url, connections_max=2, connections_min=1)
    yield pool
    await close_pool(pool)


async def test_a_step_that_serves_running_servers_is_made_under_them(
    database_url: str, running: asyncpg.Pool, upgraded: Upgrade
) -> None:
    upgraded(SURVIVED)
    statement = "SELECT block_id, object_offset FROM blocks"
    await running.fetch(statement)

    assert await migrate(database_url) == KNOWN + 1

    await running.fetch(statement)
    await (await connect(database_url)).close()
    assert await running.fetchval("SELECT note FROM blocks") is None


async def test_a_step_that_serves_no_older_servers_waits_until_none_is_connected(
    database_url: str, running: asyncpg.Pool, upgraded: Upgrade
) -> None:
    upgraded(BREAKING)

    with pytest.raises(
        SchemaError, match=rf"step {KNOWN + 1} \(no_more_offsets\) .* older version.* still run, on .*stop"
    ):
        await migrate(database_url)
    assert await running.fetch("SELECT object_offset FROM blocks") == []

    await close_pool(running)
    assert await migrate(database_url) == KNOWN + 1


async def test_a_server_that_a_step_does_not_serve_is_refused_wherever_it_connects(
    database_url: str, upgraded: Upgrade, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as one whose connections were all gone when the step was made."""
    idle = await open_pool(database_url, connections_max=1)
    upgraded(BREAKING)
    await migrate(database_url)
    monkeypatch.undo()  # the older version again

    for attempt in (
        idle.fetchval("SELECT 1"),
        connect(database_url),
        open_pool(database_url, connections_max=1, connections_min=1),
    ):
        with pytest.raises(BackendUnavailableError, match="a newer version of lakeflight has changed the database"):
            await attempt
    with pytest.raises(SchemaError, match="upgrade this one"):
        await migrate(database_url)
    await close_pool(idle)


async def test_an_older_server_starts_on_a_newer_schema_that_serves_it(
    database_url: str, upgraded: Upgrade, monkeypatch: pytest.MonkeyPatch
) -> None:
    upgraded(SURVIVED)
    await migrate(database_url)
    monkeypatch.undo()

    assert await migrate(database_url) == KNOWN
    await (await connect(database_url)).close()


async def test_nobody_begins_to_work_while_a_step_that_does_not_serve_him_is_made(database_url: str) -> None:
    newer = await connect(database_url, serves=False)
    async with newer.transaction():
        assert await schema.try_exclude(newer) is None

        with pytest.raises(BackendUnavailableError, match="is changing the database"):
            await connect(database_url)
    await (await connect(database_url)).close()
    await newer.close()


def test_steps_say_whom_they_serve_only_where_there_is_a_place_for_it() -> None:
    place = next(step.version for step in migrations() if "ADD COLUMN serves_from" in step.sql)

    assert all(step.serves_from == step.version for step in migrations() if step.version <= place)
    assert all(1 <= step.serves_from <= step.version for step in migrations())
