"""What the tables themselves refuse, so that no program can leave it behind."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

HOUR = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest_asyncio.fixture
async def database(database_url: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


async def add_instance(database: Any, name: str = "log_entries") -> int:
    vid = await database.fetchval(
        """
        INSERT INTO view_instances (view_set, instance_id, schema_hash, writer_version)
        VALUES ($1, 'global', '\\x01', 1) RETURNING vid
        """,
        name,
    )
    return int(vid)


async def add_bucket(database: Any, vid: int, begin: datetime = HOUR, hours: int = 1) -> None:
    await database.execute(
        """
        INSERT INTO lakehouse_buckets (vid, bucket_begin, bucket_end, dirty, sealed)
        VALUES ($1, $2, $3, false, false)
        """,
        vid,
        begin,
        begin + timedelta(hours=hours),
    )


async def add_partition(database: Any, vid: int, ordinal: int = 0, *, rows: int = 1, begin: datetime = HOUR) -> int:
    key = hashlib.sha256(f"{vid}/{ordinal}/{begin}".encode()).hexdigest()
    object_id = None
    if rows:
        object_id = await database.fetchval(
            "INSERT INTO lake_objects (store, path, schema_name, addressing, size) "
            "VALUES ('s', $1, 'lake', 'schema', 10) RETURNING object_id",
            key,
        )
    await database.execute(
        """
        INSERT INTO lakehouse_partitions (
            view_set_name, view_instance_id, begin_insert_time, end_insert_time, min_event_time, max_event_time,
            min_event_ns, max_event_ns, file_path, file_size, file_schema_hash, num_rows, vid, bucket_begin, ordinal,
            object_id, writer_version
        )
        VALUES ('log_entries', 'global', $1, $2, $3, $3, $4, $4, $5, $6, '\\x01', $7, $8, $1, $9, $10, 1)
        """,
        begin,
        begin + timedelta(hours=1),
        HOUR if rows else None,
        1 if rows else None,
        key if rows else None,
        10 if rows else 0,
        rows,
        vid,
        ordinal,
        object_id,
    )
    return object_id or 0


async def test_one_place_in_a_bucket_holds_one_partition(database: Any) -> None:
    vid = await add_instance(database)
    await add_bucket(database, vid)
    await add_partition(database, vid, ordinal=0)
    await add_partition(database, vid, ordinal=1)

    with pytest.raises(asyncpg.ExclusionViolationError):
        await add_partition(database, vid, ordinal=1, rows=0)


async def test_neighbouring_buckets_and_other_instances_do_not_collide(database: Any) -> None:
    first, second = await add_instance(database), await add_instance(database, "measures")
    for vid in (first, second):
        for begin in (HOUR, HOUR + timedelta(hours=1)):
            await add_bucket(database, vid, begin)
            await add_partition(database, vid, begin=begin)

    assert await database.fetchval("SELECT count(*) FROM lakehouse_partitions") == 4


@pytest.mark.parametrize("begin", [HOUR + timedelta(seconds=1), HOUR + timedelta(microseconds=1)])
async def test_a_bucket_begins_on_the_hour(database: Any, begin: datetime) -> None:
    vid = await add_instance(database)

    with pytest.raises(asyncpg.CheckViolationError, match="aligned"):
        await add_bucket(database, vid, begin)


async def test_buckets_of_one_instance_never_overlap(database: Any) -> None:
    vid = await add_instance(database)
    await add_bucket(database, vid, hours=24)

    with pytest.raises(asyncpg.ExclusionViolationError):
        await add_bucket(database, vid, HOUR + timedelta(hours=3))


async def test_a_partition_without_its_bucket_is_refused_at_commit(database: Any) -> None:
    vid = await add_instance(database)

    with pytest.raises(asyncpg.ForeignKeyViolationError):
        async with database.transaction():
            await add_partition(database, vid, rows=0)


@pytest.mark.parametrize(
    "change",
    [
        "num_rows = 0",
        "file_path = NULL",
        "object_id = NULL",
        "min_event_time = NULL",
        "max_event_ns = NULL",
        "num_rows = -1",
        "end_insert_time = begin_insert_time",
    ],
)
async def test_rows_file_and_bounds_go_together(database: Any, change: str) -> None:
    vid = await add_instance(database)
    await add_bucket(database, vid)
    await add_partition(database, vid)

    with pytest.raises(asyncpg.CheckViolationError):
        await database.execute(f"UPDATE lakehouse_partitions SET {change}")


@pytest.mark.parametrize("removal", ["DELETE FROM lakehouse_partitions", "TRUNCATE lakehouse_partitions"])
async def test_a_retired_partition_releases_its_object(database: Any, removal: str) -> None:
    vid = await add_instance(database)
    await add_bucket(database, vid)
    object_id = await add_partition(database, vid, ordinal=0)
    await add_partition(database, vid, ordinal=1, rows=0)

    await database.execute(removal)

    released = await database.fetch("SELECT object_id FROM lake_releases")
    assert [row["object_id"] for row in released] == [object_id]
    assert await database.fetchval("SELECT state FROM lake_objects WHERE object_id = $1", object_id) == "live"
