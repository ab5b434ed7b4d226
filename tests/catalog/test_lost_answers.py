"""A connection that breaks around a commit, both ways: what was committed counts, what was not did not happen."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from lakehouse.buckets.model import InstanceId, InstanceScope, Lease, NewPartition, StoredPartition, Swap
from lakehouse.catalog.connect import open_pool
from lakehouse.catalog.partitions import PartitionCatalog
from lakehouse.catalog.telemetry import BlockRows, insert_process
from lakehouse.errors import BackendUnavailableError
from lakehouse.model import EVERYTHING, ViewKey
from tests.catalog.test_freshness import VERSION, Lake
from tests.support.ingestion import block_request, process_request
from tests.support.postgres_proxy import PostgresProxy, proxy_before


@dataclass
class Change:
    """A bucket with one block that is about to get its first partition, over a connection that may break."""

    proxy: PostgresProxy
    catalog: PartitionCatalog
    database: Any  # a connection that does not
    swap: Swap

    @property
    def mark(self) -> bytes:
        """What only this commit says to the database."""
        return str(self.swap.partitions[0].key).encode()

    async def partitions(self) -> list[StoredPartition]:
        return await PartitionCatalog(self.database, "memory://").all_partitions(self.swap.instance)

    async def intents(self) -> int:
        count: int = await self.database.fetchval("SELECT count(*) FROM staged_writes WHERE state = 'open'")
        return count


@pytest_asyncio.fixture
async def change(database_url: str) -> AsyncIterator[Change]:
    async with (
        proxy_before(database_url) as proxy,
        asyncpg.create_pool(database_url, min_size=1, max_size=2) as direct,
        await open_pool(proxy.url, connections_max=2) as pool,
    ):
        await _with_one_block(direct)
        catalog = PartitionCatalog(pool, "memory://")
        instance = await catalog.add_instance(ViewKey("log_entries", str(uuid.uuid4())), VERSION)
        yield Change(proxy, catalog, direct, await _swap(catalog, instance))


async def _with_one_block(direct: Any) -> None:
    lake = Lake(direct)
    await lake.add_process()
    await lake.add_stream()
    await lake.add_block()


async def _swap(catalog: PartitionCatalog, instance: InstanceId) -> Swap:
    scope = InstanceScope(None, None, "log")
    (bucket,) = await catalog.look(instance, scope, EVERYTHING, 300)
    source = await catalog.read_source(instance, scope, bucket.begin)
    key = f"_schema/log_entries/{uuid.uuid4()}.parquet"
    (intent,) = await catalog.reserve([key], timedelta(minutes=10), "test")
    lease = Lease(instance, bucket.begin, uuid.uuid4())
    assert await catalog.take_lease(lease, "test", timedelta(minutes=10))
    return Swap(
        instance=instance,
        bucket_begin=bucket.begin,
        lease=lease,
        state=source.state,
        replace=True,
        partitions=(NewPartition(0, key, 10, 1, 1, 2, None, (), 0),),
        intents=(intent,),
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


async def test_a_commit_whose_answer_is_lost_has_happened(change: Change) -> None:
    change.proxy.arm(change.mark, "after")

    await change.catalog.commit(change.swap)

    assert change.proxy.broken == 1
    assert [stored.key for stored in await change.partitions()] == [change.swap.partitions[0].key]
    assert await change.intents() == 0


async def test_a_commit_that_never_arrived_has_not_happened_and_may_be_done_again(change: Change) -> None:
    change.proxy.arm(change.mark, "before")

    with pytest.raises(BackendUnavailableError):
        await change.catalog.commit(change.swap)

    assert change.proxy.broken == 1
    assert await change.partitions() == []
    assert await change.intents() == 1

    await change.catalog.commit(change.swap)
    assert len(await change.partitions()) == 1
    assert await change.intents() == 0


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_what_cannot_be_found_out_is_said_to_be_unknown_and_the_intents_tell_later(
    change: Change, moment: Any
) -> None:
    change.proxy.arm(change.mark, moment, then_away=True)

    with pytest.raises(BackendUnavailableError):
        await change.catalog.commit(change.swap)

    happened = moment == "after"
    assert (len(await change.partitions()), await change.intents()) == ((1, 0) if happened else (0, 1))
    change.proxy.is_away = False
    assert len(await change.catalog.all_partitions(change.swap.instance)) == happened


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_sender_that_heard_nothing_of_its_block_sends_it_again_and_it_is_there_once(
    database_url: str, moment: Any
) -> None:
    block = block_request()
    async with proxy_before(database_url) as proxy, asyncpg.create_pool(database_url, min_size=1) as direct:
        rows = BlockRows(proxy.url)
        proxy.arm(uuid.UUID(block.block_id).bytes, moment)

        with pytest.raises(BackendUnavailableError):
            await rows.insert([block], [1])
        assert await direct.fetchval("SELECT count(*) FROM blocks") == (moment == "after")

        assert await rows.insert([block], [1]) == (set() if moment == "after" else {block.block_id})
        assert await direct.fetchval("SELECT count(*) FROM blocks") == 1
        assert proxy.broken == 1
        await rows.close()


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_registration_that_heard_nothing_may_be_repeated(database_url: str, moment: Any) -> None:
    process = process_request(exe="mark-of-this-test")
    async with (
        proxy_before(database_url) as proxy,
        asyncpg.create_pool(database_url, min_size=1) as direct,
        await open_pool(proxy.url, connections_max=1) as pool,
    ):
        proxy.arm(b"mark-of-this-test", moment)

        with pytest.raises(BackendUnavailableError):
            await insert_process(pool, process)

        assert await insert_process(pool, process) == (moment == "before")
        assert await direct.fetchval("SELECT count(*) FROM processes") == 1
        assert proxy.broken == 1
