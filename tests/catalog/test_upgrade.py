"""A lake that an older version has used: nothing is lost, and nothing that is there is made again."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from lakehouse.buckets.model import InstanceScope, ViewVersion
from lakehouse.buckets.planning import Action, plan_bucket
from lakehouse.catalog import migrate as module
from lakehouse.catalog.migrate import migrate
from lakehouse.catalog.partitions import PartitionCatalog
from lakehouse.catalog.schema import migrations
from lakehouse.model import EVERYTHING, BlockOrder, InstanceKind, ViewKey

PROCESS, STREAM = uuid.UUID(int=1), uuid.UUID(int=2)
SCOPE = InstanceScope(InstanceKind.PROCESS, str(PROCESS), "log")
KEY, VERSION = ViewKey("log_entries", str(PROCESS)), ViewVersion("log_entries", b"12345678", 1)
START = datetime(2024, 5, 1, 10, 0, tzinfo=UTC)
LOOKS_WITH_LISTS = 3  # the last version of the schema in which a look named the blocks that it had seen


async def _migrate_to(url: str, version: int, monkeypatch: Any) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(module, "migrations", lambda: migrations()[:version])
        patched.setattr(module, "continue_ids", _nothing)
        await migrate(url)


async def _nothing(connection: object) -> None:
    """What the older version did at that place."""


async def _add_block(connection: Any) -> uuid.UUID:
    block = uuid.uuid4()
    await connection.execute(
        "INSERT INTO blocks (block_id, stream_id, process_id, begin_time, begin_ticks, end_time, end_ticks,"
        " nb_objects, object_offset, payload_size, insert_time) VALUES ($1, $2, $3, $4, 0, $4, 0, 1, 0, 10, $4)",
        block,
        STREAM,
        PROCESS,
        START,
    )
    return block


async def _use_as_the_older_version_did(connection: Any) -> list[uuid.UUID]:
    """One bucket of one partition that holds the first block; the second came while a look was taken, the third later."""
    await connection.execute(
        "INSERT INTO processes (process_id, exe, username, realname, computer, distro, cpu_brand, tsc_frequency,"
        " start_time, start_ticks) VALUES ($1, '', '', '', '', '', '', 1, $2, 0)",
        PROCESS,
        START,
    )
    await connection.execute(
        "INSERT INTO streams (stream_id, process_id, dependencies_metadata, objects_metadata, tags)"
        " VALUES ($1, $2, '', '', ARRAY['log'])",
        STREAM,
        PROCESS,
    )
    seen = await _add_block(connection)
    vid = await connection.fetchval(
        "INSERT INTO view_instances (view_set, instance_id, schema_hash, writer_version, looked_xmin, recent_blocks)"
        " SELECT $1, $2, $3, $4, min(ingest_xid::text::bigint)::text::xid8, array_agg(block_id) FROM blocks RETURNING vid",
        KEY.view_set,
        KEY.instance,
        VERSION.schema_hash,
        VERSION.writer_version,
    )
    object_id = await connection.fetchval(
        "INSERT INTO lake_objects (store, path, schema_name, addressing, is_prefix, state, size)"
        " VALUES ('memory://', 'a', 'lake', 'schema', false, 'live', 10) RETURNING object_id"
    )
    await connection.execute(
        "INSERT INTO lakehouse_buckets (vid, bucket_begin, bucket_end, dirty, marks, src_blocks, min_claimed, max_claimed,"
        " generation, src_digest) VALUES ($1, $2, $3, false, 1, 1, $2, $2, 1, $4)",
        vid,
        START,
        START + timedelta(hours=1),
        bytes(16),
    )
    await connection.execute(
        "INSERT INTO lakehouse_partitions (view_set_name, view_instance_id, begin_insert_time, end_insert_time,"
        " min_event_time, max_event_time, min_event_ns, max_event_ns, file_path, file_size, file_schema_hash, num_rows,"
        " vid, bucket_begin, ordinal, generation, object_id, writer_version, block_ids)"
        " VALUES ($1, $2, $3, $4, $3, $3, $5, $5, 'a', 10, $6, 5, $7, $3, 0, 1, $8, 1, $9)",
        KEY.view_set,
        KEY.instance,
        START,
        START + timedelta(hours=1),
        int(START.timestamp()) * 10**9,
        VERSION.schema_hash,
        vid,
        object_id,
        [seen],
    )
    return [seen, await _add_block(connection)]


async def _planned(catalog: PartitionCatalog) -> tuple[Action, set[str]]:
    """What would be done about the one bucket, and for which blocks."""
    instance = await catalog.find_instance(KEY, VERSION)
    assert instance is not None
    (bucket,) = await catalog.look(instance, SCOPE, EVERYTHING, 300)
    assert [partition.key for partition in bucket.partitions] == ["a"]
    source = await catalog.read_source(instance, SCOPE, bucket.begin)
    if not bucket.dirty:
        return Action.KEEP, set()
    plan = plan_bucket(source, BlockOrder.INSERT_TIME, VERSION.writer_version, 16)
    await catalog.mark_clean(instance, bucket.begin, source.state)
    return plan.action, {block.block_id for block in plan.blocks}


@pytest.mark.parametrize("restored", [False, True], ids=["where it was", "restored into a younger cluster"])
async def test_blocks_that_the_older_version_did_not_see_are_seen_and_the_rest_is_kept(
    empty_database_url: str, monkeypatch: Any, restored: bool
) -> None:
    await _migrate_to(empty_database_url, LOOKS_WITH_LISTS, monkeypatch)
    async with asyncpg.create_pool(empty_database_url, min_size=0, max_size=2) as pool:
        _, unseen = await _use_as_the_older_version_did(pool)
        if restored:
            for table in ("processes", "streams", "blocks"):
                await pool.execute(f"UPDATE {table} SET ingest_xid = '900000000000'")

        assert await migrate(empty_database_url) == len(migrations()) > LOOKS_WITH_LISTS

        catalog = PartitionCatalog(pool, "memory://")
        assert await _planned(catalog) == (Action.EXTEND, {str(unseen)})
        assert await _planned(catalog) == (Action.KEEP, set())
        later = await _add_block(pool)
        assert (await _planned(catalog))[1] == {str(unseen), str(later)}
        assert await pool.fetchval("SELECT count(*) FROM lakehouse_partitions") == 1
        assert await catalog.unused_instances([], timedelta(days=7), 10) == [], (
            "it has just been used, as far as is known"
        )
