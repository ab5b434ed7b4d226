"""The schema: who may change it, when, and how often."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from lakehouse.catalog.migrate import SchemaError, migrate, migrations

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
