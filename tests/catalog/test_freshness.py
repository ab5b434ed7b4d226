"""What a look at a view instance finds: every block exactly once, whatever the order of commits."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from lakehouse.buckets.model import (
    EstimatedBucket,
    InstanceGoneError,
    InstanceId,
    InstanceScope,
    Lease,
    NewPartition,
    Swap,
    SwapConflictError,
    UnknownClock,
    ViewVersion,
)
from lakehouse.buckets.planning import TIMING_SHIFT_NS_MAX, is_stale_by_timing
from lakehouse.catalog import looks as looks_module
from lakehouse.catalog.connect import Limits, open_pool
from lakehouse.catalog.looks import LOOK_BEHIND_MAX
from lakehouse.catalog.partitions import PartitionCatalog
from lakehouse.catalog.parts import microseconds
from lakehouse.model import EVERYTHING, InstanceKind, LastTiming, TimeRange, ViewKey

PROCESS, STREAM, OTHER_STREAM = uuid.uuid4(), uuid.uuid4(), uuid.uuid4()
BY_PROCESS = InstanceScope(InstanceKind.PROCESS, str(PROCESS), "log")
BY_STREAM = InstanceScope(InstanceKind.STREAM, str(STREAM), None)
GLOBAL = InstanceScope(None, None, "log")
SCOPES = pytest.mark.parametrize("scope", [BY_PROCESS, BY_STREAM, GLOBAL], ids=["process", "stream", "global"])
START = datetime(2024, 5, 1, 10, 0, tzinfo=UTC)
VERSION = ViewVersion("log_entries", b"12345678", 1)
NEXT_VERSION = ViewVersion("log_entries", b"87654321", 2)


class Lake:
    """The catalog over two connections of its own, so that transactions can overlap."""

    def __init__(self, pool: Any) -> None:
        self.pool = pool
        self.catalog = PartitionCatalog(pool, "memory://")

    async def instance(self, version: ViewVersion = VERSION) -> InstanceId:
        return await self.catalog.add_instance(ViewKey("log_entries", str(uuid.uuid4())), version)

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

    async def commit(self, swap: Swap) -> None:
        """Under a lease."""
        lease = replace(swap.lease, token=uuid.uuid4())
        assert await self.catalog.take_lease(lease, "test", timedelta(minutes=1))
        try:
            await self.catalog.commit(replace(swap, lease=lease))
        finally:
            await self.catalog.drop_lease(lease)

    async def dirty(self, instance: InstanceId, scope: InstanceScope) -> bool:
        return any(bucket.dirty for bucket in await self.catalog.look(instance, scope, EVERYTHING, 300))

    async def clean(self, instance: InstanceId, scope: InstanceScope) -> set[str]:
        """Look, take all blocks of all buckets as built, and say which they were."""
        seen: set[str] = set()
        for bucket in await self.catalog.look(instance, scope, EVERYTHING, 300):
            source = await self.catalog.read_source(instance, scope, bucket.begin)
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
    await lake.pool.execute("UPDATE view_instances SET looked_before = pg_snapshot_xmax(pg_current_snapshot())")
    assert not await lake.dirty(instance, scope)

    await lake.add_process()

    assert await lake.dirty(instance, scope)


@SCOPES
async def test_a_look_reads_what_is_new_however_long_a_transaction_runs(
    database_url: str, scope: InstanceScope
) -> None:
    async with asyncpg.create_pool(database_url, min_size=1, max_size=1) as one_connection:
        lake = Lake(one_connection)
        await lake.add_process()
        await lake.add_stream()
        instance = await lake.instance()
        slow = await asyncpg.connect(database_url)
        transaction = slow.transaction()
        await transaction.start()
        await slow.execute("SELECT pg_current_xact_id()")
        await one_connection.executemany(
            "INSERT INTO blocks (block_id, stream_id, process_id, begin_time, begin_ticks, end_time, end_ticks,"
            " nb_objects, object_offset, payload_size) VALUES ($1, $2, $3, now(), 0, now(), 0, 1, 0, 10)",
            [(uuid.uuid4(), STREAM, PROCESS) for _ in range(2_000)],
        )
        await lake.clean(instance, scope)
        read_before = await _blocks_read(one_connection)
        assert not await lake.dirty(instance, scope)
        await lake.add_block()
        assert await lake.dirty(instance, scope)
        read_after = await _blocks_read(one_connection)
        await transaction.rollback()
        await slow.close()

        size = await one_connection.fetchval("SELECT max(pg_column_size(i.*)) FROM view_instances i")

    assert read_after - read_before < 20
    assert size < 500


async def _blocks_read(connection: Any) -> int:
    """Rows of blocks that statements have come across, in the table or in an index."""
    await connection.execute("SELECT pg_stat_force_next_flush()")
    read = await connection.fetchval(
        "SELECT t.seq_tup_read + sum(i.idx_tup_read) FROM pg_stat_user_tables t JOIN pg_stat_user_indexes i USING (relid)"
        " WHERE t.relname = 'blocks' GROUP BY t.seq_tup_read"
    )
    return int(read)


async def test_an_instance_whose_row_is_gone_is_an_error_and_not_an_empty_answer(lake: Lake) -> None:
    instance = await lake.instance()
    await lake.pool.execute("DELETE FROM view_instances")

    with pytest.raises(InstanceGoneError):
        await lake.catalog.look(instance, BY_STREAM, EVERYTHING, 300)


async def test_an_instance_whose_number_is_another_s_is_gone(lake: Lake) -> None:
    instance = await lake.instance()
    await lake.pool.execute("TRUNCATE view_instances RESTART IDENTITY CASCADE")
    assert (await lake.instance()).vid == instance.vid

    with pytest.raises(InstanceGoneError):
        await lake.catalog.look(instance, BY_STREAM, EVERYTHING, 300)


async def test_an_instance_that_is_retired_while_it_is_looked_at_is_gone_and_not_empty(lake: Lake) -> None:
    instance = await lake.instance()
    await lake.catalog.look(instance, BY_STREAM, EVERYTHING, 300)
    await lake.pool.execute("UPDATE view_instances SET used = clock_timestamp() - interval '9 days'")
    async with lake.pool.acquire() as other, other.transaction():
        await other.execute("SELECT FROM view_instances FOR UPDATE")
        look = asyncio.create_task(lake.catalog.look(instance, BY_STREAM, EVERYTHING, 300))
        await _wait_for_lock(other)
        await other.execute("DELETE FROM view_instances")

    with pytest.raises(InstanceGoneError):
        await look


async def test_a_look_waits_for_the_first_look_of_another_and_keeps_no_connection_meanwhile(
    lake: Lake, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It reads all blocks that there are, which takes longer than any lock is waited for."""
    monkeypatch.setattr(looks_module, "FIRST_LOOK_PAUSE_S", 0.05)
    await lake.add_process()
    await lake.add_stream()
    await lake.add_block()
    instance = await lake.instance()
    pool = await open_pool(database_url, connections_max=1, limits=Limits(lock_timeout_s=0.1))
    catalog = PartitionCatalog(pool, "memory://")
    async with lake.pool.acquire() as other, other.transaction():
        await other.execute("SELECT FROM view_instances FOR UPDATE")
        looks = [asyncio.create_task(catalog.look(instance, BY_STREAM, EVERYTHING, 300)) for _ in range(3)]
        await asyncio.sleep(0.5)
        assert await catalog.find_instance(instance.key, instance.version) == instance
        assert not any(look.done() for look in looks)

    assert [len(buckets) for buckets in await asyncio.gather(*looks)] == [1, 1, 1]
    await pool.close()


async def _wait_for_lock(connection: Any) -> None:
    """Until a statement waits for what ``connection`` has locked."""
    async with asyncio.timeout(5):
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY (pg_blocking_pids(pid))"
        while not await connection.fetchval(waiting):  # noqa: ASYNC110 (what is waited for is inside of the database)
            await asyncio.sleep(0.02)


async def test_that_an_instance_is_used_is_written_once_an_hour(lake: Lake) -> None:
    instance = await lake.instance()
    await lake.catalog.look(instance, BY_STREAM, EVERYTHING, 300)
    versions = []
    for age in (timedelta(0), timedelta(minutes=59), timedelta(minutes=61), timedelta(minutes=61)):
        await lake.pool.execute("UPDATE view_instances SET used = clock_timestamp() - $1::interval", age)
        before = await lake.pool.fetchval("SELECT xmin::text FROM view_instances")
        await lake.catalog.look(instance, BY_STREAM, EVERYTHING, 300)
        versions.append(before == await lake.pool.fetchval("SELECT xmin::text FROM view_instances"))

    assert versions == [True, True, False, False]
    assert await lake.pool.fetchval("SELECT used > clock_timestamp() - interval '1 minute' FROM view_instances")


@SCOPES
async def test_what_is_another_instance_s_is_read_a_few_times_and_not_for_ever(
    database_url: str, scope: InstanceScope
) -> None:
    """A lake of logs alone has a view of metrics, too."""
    async with asyncpg.create_pool(database_url, min_size=1, max_size=1) as one_connection:
        lake = Lake(one_connection)
        await lake.add_process()
        await lake.add_stream(OTHER_STREAM, "metrics")
        instance = await lake.instance()
        assert not await lake.dirty(instance, scope)
        for _ in range(200):
            await lake.add_block(OTHER_STREAM)
        await one_connection.execute(
            f"DO $$ BEGIN FOR i IN 1..{LOOK_BEHIND_MAX} LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$"
        )
        assert not await lake.dirty(instance, scope)
        before = await _blocks_read(one_connection)

        for _ in range(10):
            assert not await lake.dirty(instance, scope)

        assert await _blocks_read(one_connection) == before
        await lake.add_stream(STREAM)
        block = await lake.add_block()
        assert await lake.clean(instance, scope) == {str(block)}


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
    await lake.add_block()
    await lake.dirty(instance, BY_STREAM)

    await lake.catalog.mark_clean(instance, bucket.begin, source.state)

    assert await lake.dirty(instance, BY_STREAM)


def _swap(instance: InstanceId, source: Any, begin: datetime, keys: list[str], intents: tuple[uuid.UUID, ...]) -> Swap:
    return Swap(
        instance=instance,
        bucket_begin=begin,
        lease=Lease(instance, begin, uuid.uuid4()),
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
        await lake.commit(_swap(instance, source, bucket.begin, keys, intents))

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
    await lake.commit(_swap(instance, source, bucket.begin, ["a"], first))

    with pytest.raises(SwapConflictError):
        await lake.commit(_swap(instance, source, bucket.begin, ["b"], second))

    (after,) = await lake.catalog.look(instance, BY_STREAM, EVERYTHING, 300)
    assert [partition.key for partition in after.partitions] == ["a"]


@pytest.mark.parametrize("removal", ["DELETE FROM lakehouse_buckets", "TRUNCATE lakehouse_buckets CASCADE"])
async def test_a_builder_does_not_commit_into_a_bucket_that_was_removed_and_came_again(
    lake: Lake, removal: str
) -> None:
    """Its marks and its generation are what they were: they start over."""
    await lake.add_process()
    await lake.add_stream()
    await lake.add_block()
    instance = await lake.instance()
    (bucket,) = await lake.catalog.look(instance, BY_STREAM, EVERYTHING, 300)
    source = await lake.catalog.read_source(instance, BY_STREAM, bucket.begin)
    intents = await lake.catalog.reserve(["a"], timedelta(minutes=1), "test")
    await lake.pool.execute(removal)
    await lake.add_block()
    assert await lake.dirty(instance, BY_STREAM)

    with pytest.raises(SwapConflictError):
        await lake.commit(_swap(instance, source, bucket.begin, ["a"], intents))
    with pytest.raises(SwapConflictError):
        await lake.catalog.mark_clean(instance, bucket.begin, source.state)

    assert await lake.dirty(instance, BY_STREAM)


async def test_a_builder_reads_nothing_of_an_instance_whose_number_is_another_s(lake: Lake) -> None:
    await lake.add_process()
    await lake.add_stream()
    await lake.add_block()
    gone = await lake.instance()
    await lake.pool.execute("TRUNCATE view_instances RESTART IDENTITY CASCADE")
    other = await lake.instance()
    (bucket,) = await lake.catalog.look(other, BY_STREAM, EVERYTHING, 300)
    assert gone.vid == other.vid

    with pytest.raises(InstanceGoneError):
        await lake.catalog.read_source(gone, BY_STREAM, bucket.begin)


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
        await lake.commit(_swap(instance, source, bucket.begin, ["a"], intents))

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
        await lake.commit(swap)
        await lake.catalog.seal_buckets()

        fragmented = await lake.catalog.fragmented_buckets([VERSION], 4, 10)

        assert fragmented == ([] if replace_all else [(instance, START)])


async def _fragment(lake: Lake, instance: InstanceId, begin: datetime) -> None:
    """A closed bucket of five deltas."""
    await lake.pool.execute(
        "INSERT INTO lakehouse_buckets (vid, bucket_begin, bucket_end, dirty) VALUES ($1, $2, $3, false)",
        instance.vid,
        begin,
        begin + timedelta(hours=1),
    )
    source = await lake.catalog.read_source(instance, BY_STREAM, begin)
    keys = [f"{instance.vid}-{begin}-{number}" for number in range(5)]
    intents = await lake.catalog.reserve(keys, timedelta(minutes=1), "test")
    await lake.commit(replace(_swap(instance, source, begin, keys, intents), replace=False))


async def test_buckets_of_another_version_are_not_the_server_s_to_compact(lake: Lake) -> None:
    """Two servers of an upgrade share a lake: each rewrites the files whose schema it knows."""
    old, new = await lake.instance(VERSION), await lake.instance(NEXT_VERSION)
    for instance in (old, new):
        await _fragment(lake, instance, START)
    await lake.catalog.seal_buckets()

    assert await lake.catalog.fragmented_buckets([VERSION], 4, 10) == [(old, START)]
    assert await lake.catalog.fragmented_buckets([NEXT_VERSION], 4, 10) == [(new, START)]
    assert await lake.catalog.fragmented_buckets([], 4, 10) == []


async def test_fragmented_buckets_are_listed_in_turns(lake: Lake) -> None:
    first, second = await lake.instance(), await lake.instance()
    for instance in (first, second):
        for hours in (0, 1):
            await _fragment(lake, instance, START + timedelta(hours=hours))
    await lake.catalog.seal_buckets()

    turns = []
    after = None
    for _ in range(3):
        found = await lake.catalog.fragmented_buckets([VERSION], 4, 2, after)
        turns += found
        after = found[-1] if found else after

    assert turns == [(instance, START + timedelta(hours=hours)) for hours in (0, 1) for instance in (first, second)]


async def test_versions_that_nobody_has_used_for_long_are_retired_and_their_objects_released(lake: Lake) -> None:
    old, new = await lake.instance(VERSION), await lake.instance(NEXT_VERSION)
    for instance in (old, new):
        await _fragment(lake, instance, START)
    week = timedelta(days=7)
    assert await lake.catalog.unused_instances([NEXT_VERSION], week, 10) == []
    await lake.pool.execute("UPDATE view_instances SET used = clock_timestamp() - interval '8 days'")

    unused = await lake.catalog.unused_instances([NEXT_VERSION], week, 10)
    retired = [await lake.catalog.retire_instance(instance, week) for instance in unused]

    assert (unused, retired) == ([old], [True])
    assert await lake.pool.fetchval("SELECT array_agg(vid) FROM view_instances") == [new.vid]
    assert await lake.pool.fetchval("SELECT array_agg(DISTINCT vid) FROM lakehouse_partitions") == [new.vid]
    assert await lake.catalog.condemn_unreferenced(timedelta(hours=1), 10) == [], "a reader may hold their names"
    condemned = await lake.catalog.condemn_unreferenced(timedelta(0), 10)
    assert {path.split("-")[0] for _, path in condemned} == {str(old.vid)}


async def test_an_instance_is_retired_although_a_swap_is_under_way(lake: Lake) -> None:
    """Both lock a bucket before its partitions, so neither has what the other waits for."""
    instance = await lake.instance()
    await _fragment(lake, instance, START)
    await lake.pool.execute("UPDATE view_instances SET used = clock_timestamp() - interval '8 days'")
    async with lake.pool.acquire() as swap, swap.transaction():
        await swap.execute("SELECT FROM lakehouse_buckets FOR UPDATE")
        retired = asyncio.create_task(lake.catalog.retire_instance(instance, timedelta(days=7)))
        await _wait_for_lock(swap)
        await swap.execute("DELETE FROM lakehouse_partitions")

    assert await retired


async def test_a_version_of_which_any_instance_is_used_is_kept_whole(lake: Lake) -> None:
    """A server of that version is still there."""
    idle, used = await lake.instance(VERSION), await lake.instance(VERSION)
    await lake.pool.execute(
        "UPDATE view_instances SET used = clock_timestamp() - interval '8 days' WHERE vid = $1", idle.vid
    )

    assert await lake.catalog.unused_instances([NEXT_VERSION], timedelta(days=7), 10) == []
    assert not await lake.catalog.retire_instance(used, timedelta(days=7))


async def test_every_bucket_that_a_better_estimate_moves_is_offered(lake: Lake) -> None:
    """The database chooses roughly, so that a look does not read every hour that there is; it must not choose too little."""
    await lake.add_process(frequency=0)
    instance = await lake.instance()
    start_ns, second_ns, random = int(START.timestamp()) * 10**9, 10**9, Random(7)
    stored = {}
    for hours in range(120):
        begin = START + timedelta(hours=hours)
        elapsed_s = random.choice([random.uniform(1e-3, 10), random.uniform(10, 1e6), -random.uniform(1, 100)])
        hz = random.choice([0, -1, 1, 2, 3, 1000, 10**7, random.uniform(0.99e9, 1.01e9), 1e9, 3e9])
        timing = LastTiming(round(hz * elapsed_s), start_ns + round(elapsed_s * 1e6) * 1000)
        at_ns = start_ns + random.randrange(-(10**12), 10**15)
        events = TimeRange(at_ns, at_ns + random.randrange(10**13)) if hours % 10 else None
        stored[begin] = EstimatedBucket(begin, False, timing, events)
        await _store_estimated(lake, instance, stored[begin])
    judged = set()
    for _ in range(60):
        begin_ns = random.choice([None, start_ns + random.randrange(-(10**12), 10**15)])
        span_ns = random.choice([None, 0, second_ns, 10**13])
        wanted = TimeRange(begin_ns, None if span_ns is None or begin_ns is None else begin_ns + span_ns)
        hz = random.choice([-1, 1, 1000, 10**9, 1.000001e9])
        clock = UnknownClock(start_ns, LastTiming(round(hz * 5_000), start_ns + 5_000 * second_ns))

        found = await lake.catalog.estimated_buckets(instance, clock, wanted, TIMING_SHIFT_NS_MAX)

        assert all(stored[bucket.begin] == bucket for bucket in found)
        moved = {begin for begin, bucket in stored.items() if is_stale_by_timing(bucket, clock, wanted)}
        assert moved <= {bucket.begin for bucket in found}
        judged |= moved
    assert len(judged) > 60, "the examples move something"


async def _store_estimated(lake: Lake, instance: InstanceId, bucket: EstimatedBucket) -> None:
    await lake.pool.execute(
        "INSERT INTO lakehouse_buckets (vid, bucket_begin, bucket_end, dirty, timing_end_ticks, timing_end_time)"
        " VALUES ($1, $2, $2::timestamptz + interval '1 hour', false, $3, $4)",
        instance.vid,
        bucket.begin,
        bucket.timing.end_ticks,
        microseconds(bucket.timing.end_time_ns),
    )
    source = await lake.catalog.read_source(instance, BY_STREAM, bucket.begin)
    has_rows = bucket.events is not None
    keys = [f"{bucket.begin}"] if has_rows else []
    partition = NewPartition(0, None, 0, 0, None, None, None, (), 0)
    if bucket.events is not None:
        partition = NewPartition(0, keys[0], 10, 5, bucket.events.begin_ns, bucket.events.end_ns, None, (), 0)
    intents = await lake.catalog.reserve(keys, timedelta(minutes=1), "test")
    swap = _swap(instance, source, bucket.begin, [], intents)
    await lake.commit(replace(swap, partitions=(partition,), timing=bucket.timing))


async def test_the_offer_is_of_a_few_buckets_however_many_hours_there_are(lake: Lake) -> None:
    """A process that runs for weeks is asked about the last minutes, and its clock gets better with each block."""
    instance = await lake.instance()
    start_ns, hour_ns = int(START.timestamp()) * 10**9, 3_600 * 10**9
    for hours in range(50):
        timing = LastTiming((hours + 1) * hour_ns + 1_000, start_ns + (hours + 1) * hour_ns)
        events = TimeRange(start_ns + hours * hour_ns, start_ns + (hours + 1) * hour_ns)
        begin = START + timedelta(hours=hours)
        await _store_estimated(lake, instance, EstimatedBucket(begin, False, timing, events))
    clock = UnknownClock(start_ns, LastTiming(50 * hour_ns, start_ns + 50 * hour_ns))

    found = await lake.catalog.estimated_buckets(
        instance, clock, TimeRange(start_ns + 50 * hour_ns - 10**9, None), TIMING_SHIFT_NS_MAX
    )

    assert [bucket.begin for bucket in found] == [START + timedelta(hours=49)]


REMOVALS = [
    "DELETE FROM lakehouse_partitions",
    "TRUNCATE lakehouse_partitions",
    "DELETE FROM lakehouse_buckets",
    "TRUNCATE lakehouse_buckets CASCADE",
]


@pytest.mark.parametrize("removal", REMOVALS)
async def test_what_an_operator_removed_is_stale(lake: Lake, removal: str) -> None:
    await lake.add_process()
    await lake.add_stream()
    block = await lake.add_block()
    instance = await lake.instance()
    (bucket,) = await lake.catalog.look(instance, BY_STREAM, EVERYTHING, 300)
    for keys in (["a", "b"], ["c"]):
        source = await lake.catalog.read_source(instance, BY_STREAM, bucket.begin)
        intents = await lake.catalog.reserve(keys, timedelta(minutes=1), "test")
        await lake.commit(_swap(instance, source, bucket.begin, keys, intents))
    assert not await lake.dirty(instance, BY_STREAM), "replacing partitions is not removing them"

    await lake.pool.execute(removal)

    assert await lake.dirty(instance, BY_STREAM)
    assert (await lake.catalog.read_source(instance, BY_STREAM, bucket.begin)).state.digest is None
    assert await lake.clean(instance, BY_STREAM) == {str(block)}
    assert not await lake.dirty(instance, BY_STREAM)


async def test_a_delta_is_not_added_when_partitions_were_removed_while_it_was_made(lake: Lake) -> None:
    await lake.add_process()
    await lake.add_stream()
    await lake.add_block()
    instance = await lake.instance()
    (bucket,) = await lake.catalog.look(instance, BY_STREAM, EVERYTHING, 300)
    for number in range(2):
        source = await lake.catalog.read_source(instance, BY_STREAM, bucket.begin)
        intents = await lake.catalog.reserve([f"{number}"], timedelta(minutes=1), "test")
        delta = replace(_swap(instance, source, bucket.begin, [f"{number}"], intents), replace=False)
        if not number:
            await lake.commit(delta)
    await lake.pool.execute("DELETE FROM lakehouse_partitions")

    with pytest.raises(SwapConflictError):
        await lake.commit(delta)

    assert await lake.dirty(instance, BY_STREAM)
