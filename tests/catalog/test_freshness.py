"""What a look at a view instance finds: every block exactly once, whatever the order of commits."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from lakehouse.catalog.partitions import (
    InstanceId,
    InstanceScope,
    NewPartition,
    PartitionCatalog,
    Swap,
    SwapConflictError,
)
from lakehouse.model import EVERYTHING, InstanceKind, TimeRange, ViewKey

PROCESS, STREAM, OTHER_STREAM = uuid.uuid4(), uuid.uuid4(), uuid.uuid4()
BY_PROCESS = InstanceScope(InstanceKind.PROCESS, str(PROCESS), "log")
BY_STREAM = InstanceScope(InstanceKind.STREAM, str(STREAM), None)
GLOBAL = InstanceScope(None, None, "log")
SCOPES = pytest.mark.parametrize("scope", [BY_PROCESS, BY_STREAM, GLOBAL], ids=["process", "stream", "global"])
START = datetime(2024, 5, 1, 10, 0, tzinfo=UTC)


class Lake:
    """The catalog over two connections of its own, so that transactions can overlap."""

    def __init__(self, pool: Any) -> None:
        self.pool = pool
        self.catalog = PartitionCatalog(pool, pool, "memory://")

    async def instance(self) -> InstanceId:
        return await self.catalog.add_instance(ViewKey("log_entries", str(uuid.uuid4())), b"12345678", 1)

    async def add_process(self, connection: Any = None, frequency: int = 1_000_000_000) -> None:
        await (connection or self.pool).execute(
            "INSERT INTO processes (process_id, exe, username, realname, computer, distro, cpu_brand, tsc_frequency,"
            " start_time, start_ticks) VALUES ($1, '', '', '', '', '', '', $2, $3, 0)",
            PROCESS,
            frequency,
            START,
        )

    async def add_stream(self, stream: uuid.UUID = STREAM, tag: str = "log", connection: Any = None) -> None:
        await (connection or self.pool).execute(
            "INSERT INTO streams (stream_id, process_id, dependencies_metadata, objects_metadata, tags)"
            " VALUES ($1, $2, '', '', ARRAY[$3])",
            stream,
            PROCESS,
            tag,
        )

    async def add_block(
        self, stream: uuid.UUID = STREAM, connection: Any = None, at: datetime | None = None, end_ticks: int = 0
    ) -> uuid.UUID:
        block = uuid.uuid4()
        await (connection or self.pool).execute(
            "INSERT INTO blocks (block_id, stream_id, process_id, begin_time, begin_ticks, end_time, end_ticks,"
            " nb_objects, object_offset, payload_size, insert_time)"
            " VALUES ($1, $2, $3, $4, 0, $4, $6, 1, 0, 10, coalesce($5, clock_timestamp()))",
            block,
            stream,
            PROCESS,
            START,
            at,
            end_ticks,
        )
        return block

    async def dirty(self, instance: InstanceId, scope: InstanceScope) -> bool:
        return any(bucket.dirty for bucket in await self.catalog.look(instance, scope, EVERYTHING, 300))

    async def clean(self, instance: InstanceId, scope: InstanceScope) -> set[str]:
        """Look, take all blocks of all buckets as built, and say which they were."""
        seen: set[str] = set()
        for bucket in await self.catalog.look(instance, scope, EVERYTHING, 300):
            source = await self.catalog.read_source(instance, scope, bucket.begin)
            assert source is not None
            seen |= {block.block_id for block in source.blocks}
            await self.catalog.mark_clean(instance, bucket.begin, source.state)
        return seen


@pytest_asyncio.fixture
async def lake(database_url: str) -> AsyncIterator[Lake]:
    async with asyncpg.create_pool(database_url, min_size=0, max_size=8) as pool:
        yield Lake(pool)


@SCOPES
async def test_nothing_is_dirty_when_nothing_came(lake: Lake, scope: InstanceScope) -> None:
    await lake.add_process()
    await lake.add_stream()
    instance = await lake.instance()

    assert await lake.catalog.look(instance, scope, EVERYTHING, 300) == []


@SCOPES
async def test_a_block_is_seen_by_the_next_look_and_only_by_that(lake: Lake, scope: InstanceScope) -> None:
    await lake.add_process()
    await lake.add_stream()
    instance = await lake.instance()
    block = await lake.add_block()

    assert await lake.dirty(instance, scope)
    assert await lake.clean(instance, scope) == {str(block)}
    assert not await lake.dirty(instance, scope)

    await lake.add_block()
    assert await lake.dirty(instance, scope)


@SCOPES
async def test_a_transaction_that_was_running_during_a_look_is_seen_by_the_next(
    lake: Lake, scope: InstanceScope
) -> None:
    await lake.add_process()
    await lake.add_stream()
    instance = await lake.instance()
    async with lake.pool.acquire() as slow:
        transaction = slow.transaction()
        await transaction.start()
        late = await lake.add_block(connection=slow)
        early = await lake.add_block()
        assert await lake.clean(instance, scope) == {str(early)}
        assert not await lake.dirty(instance, scope), "a block above the watermark that was seen is not new"
        await transaction.commit()

    assert await lake.dirty(instance, scope)
    assert await lake.clean(instance, scope) == {str(early), str(late)}
    assert not await lake.dirty(instance, scope)


@SCOPES
async def test_a_late_registration_brings_its_earlier_blocks(lake: Lake, scope: InstanceScope) -> None:
    block = await lake.add_block()
    instance = await lake.instance()
    assert not await lake.dirty(instance, scope)
    await lake.add_process()
    assert not await lake.dirty(instance, scope)
    await lake.pool.execute("SELECT pg_current_xact_id()")
    await lake.add_stream()

    assert await lake.clean(instance, scope) == {str(block)}
    assert not await lake.dirty(instance, scope)


@SCOPES
async def test_a_late_process_brings_blocks_that_came_before_the_watermark(lake: Lake, scope: InstanceScope) -> None:
    await lake.add_stream()
    instance = await lake.instance()
    await lake.add_block()
    await lake.pool.execute("UPDATE view_instances SET looked_xmin = pg_snapshot_xmin(pg_current_snapshot())")
    assert not await lake.dirty(instance, scope)

    await lake.add_process()

    assert await lake.dirty(instance, scope)


async def test_only_streams_with_the_tag_belong_to_an_instance_of_a_process(lake: Lake) -> None:
    await lake.add_process()
    await lake.add_stream(OTHER_STREAM, "metrics")
    await lake.add_block(OTHER_STREAM)

    assert not await lake.dirty(await lake.instance(), BY_PROCESS)
    assert not await lake.dirty(await lake.instance(), GLOBAL)


async def test_blocks_are_bucketed_by_the_hour_they_came_in(lake: Lake) -> None:
    await lake.add_process()
    await lake.add_stream()
    for minute in (0, 59, 60):
        await lake.add_block(at=START + timedelta(minutes=minute))
    instance = await lake.instance()

    buckets = await lake.catalog.look(instance, BY_STREAM, EVERYTHING, 300)

    assert [bucket.begin for bucket in buckets] == [START, START + timedelta(hours=1)]


async def test_a_range_far_from_what_blocks_claim_needs_no_bucket(lake: Lake) -> None:
    await lake.add_process()
    await lake.add_stream()
    await lake.add_block(at=START + timedelta(minutes=1))
    instance = await lake.instance()
    hour_ns = 3_600_000_000_000
    start_ns = int(START.timestamp()) * 1_000_000_000

    before = await lake.catalog.look(instance, BY_STREAM, TimeRange(None, start_ns - hour_ns), 300)
    margin = await lake.catalog.look(instance, BY_STREAM, TimeRange(None, start_ns - 1), 300)
    after = await lake.catalog.look(instance, BY_STREAM, TimeRange(start_ns + hour_ns, None), 300)

    assert (before, after) == ([], [])
    assert [bucket.dirty for bucket in margin] == [True]


async def test_an_unknown_frequency_leaves_ticks_out_of_the_claims(lake: Lake) -> None:
    await lake.add_process(frequency=0)
    await lake.add_stream()
    await lake.add_block(at=START, end_ticks=10**15)

    assert await lake.dirty(await lake.instance(), BY_STREAM)


async def test_hostile_ticks_do_not_break_a_look(lake: Lake) -> None:
    await lake.add_process(frequency=1)
    await lake.add_stream()
    for ticks in (2**63 - 1, -(2**63)):
        await lake.add_block(end_ticks=ticks)

    assert await lake.dirty(await lake.instance(), BY_STREAM)
    assert await lake.dirty(await lake.instance(), GLOBAL)


async def test_a_bucket_marked_while_it_was_built_stays_dirty(lake: Lake) -> None:
    await lake.add_process()
    await lake.add_stream()
    await lake.add_block()
    instance = await lake.instance()
    (bucket,) = await lake.catalog.look(instance, BY_STREAM, EVERYTHING, 300)
    source = await lake.catalog.read_source(instance, BY_STREAM, bucket.begin)
    assert source is not None
    await lake.add_block()
    await lake.dirty(instance, BY_STREAM)

    await lake.catalog.mark_clean(instance, bucket.begin, source.state)

    assert await lake.dirty(instance, BY_STREAM)


def _swap(instance: InstanceId, source: Any, begin: datetime, keys: list[str], intents: tuple[uuid.UUID, ...]) -> Swap:
    return Swap(
        instance=instance,
        bucket_begin=begin,
        state=source.state,
        replace=True,
        partitions=tuple(
            NewPartition(ordinal, key, 10, 5, 1_714_557_600_000_000_001, 1_714_557_600_000_000_999, None, (), 0)
            for ordinal, key in enumerate(keys)
        ),
        intents=intents,
        digest=bytes(16),
        blocks=1,
        objects=1,
        max_insert_ns=None,
        timing=None,
        missing_blocks=0,
        repaired_events=0,
        quarantined=(),
        sort_order=(),
        view_set="log_entries",
        writer_version=1,
    )


async def test_a_swap_replaces_all_partitions_and_releases_their_objects(lake: Lake) -> None:
    await lake.add_process()
    await lake.add_stream()
    await lake.add_block()
    instance = await lake.instance()
    (bucket,) = await lake.catalog.look(instance, BY_STREAM, EVERYTHING, 300)
    for keys in (["a", "b"], ["c"]):
        source = await lake.catalog.read_source(instance, BY_STREAM, bucket.begin)
        intents = await lake.catalog.reserve(keys, timedelta(minutes=1), "test")
        await lake.catalog.commit(_swap(instance, source, bucket.begin, keys, intents))

    (after,) = await lake.catalog.look(instance, BY_STREAM, EVERYTHING, 300)

    assert not after.dirty
    assert [partition.key for partition in after.partitions] == ["c"]
    assert await lake.pool.fetchval("SELECT count(*) FROM staged_writes") == 0
    assert await lake.pool.fetchval("SELECT count(*) FROM lake_releases") == 2
    condemned = await lake.catalog.condemn_unreferenced(timedelta(0), 10)
    assert sorted(path for _, path in condemned) == ["a", "b"]
    assert await lake.catalog.condemn_unreferenced(timedelta(hours=1), 10) == []
    widened = await lake.pool.fetchrow("SELECT min_event_time, max_event_time FROM lakehouse_partitions")
    assert (widened[0].microsecond, widened[1].microsecond) == (0, 1)


async def test_of_two_builders_of_one_generation_only_the_first_commits(lake: Lake) -> None:
    await lake.add_process()
    await lake.add_stream()
    await lake.add_block()
    instance = await lake.instance()
    (bucket,) = await lake.catalog.look(instance, BY_STREAM, EVERYTHING, 300)
    source = await lake.catalog.read_source(instance, BY_STREAM, bucket.begin)
    first = await lake.catalog.reserve(["a"], timedelta(minutes=1), "one")
    second = await lake.catalog.reserve(["b"], timedelta(minutes=1), "two")
    await lake.catalog.commit(_swap(instance, source, bucket.begin, ["a"], first))

    with pytest.raises(SwapConflictError):
        await lake.catalog.commit(_swap(instance, source, bucket.begin, ["b"], second))

    (after,) = await lake.catalog.look(instance, BY_STREAM, EVERYTHING, 300)
    assert [partition.key for partition in after.partitions] == ["a"]


async def test_an_intent_that_was_reaped_stops_its_commit(lake: Lake) -> None:
    await lake.add_process()
    await lake.add_stream()
    await lake.add_block()
    instance = await lake.instance()
    (bucket,) = await lake.catalog.look(instance, BY_STREAM, EVERYTHING, 300)
    source = await lake.catalog.read_source(instance, BY_STREAM, bucket.begin)
    intents = await lake.catalog.reserve(["a"], timedelta(seconds=-1), "slow")
    assert [path for _, path in await lake.catalog.claim_expired_intents(10)] == ["a"]

    with pytest.raises(SwapConflictError):
        await lake.catalog.commit(_swap(instance, source, bucket.begin, ["a"], intents))

    (after,) = await lake.catalog.look(instance, BY_STREAM, EVERYTHING, 300)
    assert after.partitions == ()
    assert after.dirty


async def test_a_closed_bucket_is_made_whole_once(lake: Lake) -> None:
    """However many files it needs: making it again and again would never end."""
    await lake.add_process()
    await lake.add_stream()
    await lake.add_block(at=START)
    instance = await lake.instance()
    for replace_all in (False, True):
        source = None
        for bucket in await lake.catalog.look(instance, BY_STREAM, EVERYTHING, 300):
            source = await lake.catalog.read_source(instance, BY_STREAM, bucket.begin)
        keys = [f"{replace_all}-{number}" for number in range(6)]
        intents = await lake.catalog.reserve(keys, timedelta(minutes=1), "test")
        swap = replace(_swap(instance, source, START, keys, intents), replace=replace_all)
        await lake.catalog.commit(swap)
        await lake.catalog.seal_buckets()

        fragmented = await lake.catalog.fragmented_buckets(4, 10)

        assert fragmented == ([] if replace_all else [(instance, START)])
