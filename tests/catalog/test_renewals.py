"""Leases and write intents are renewed however busy the database's connections are, and whatever one of them waits for."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest_asyncio

from lakehouse.buckets.model import Lease
from lakehouse.catalog.connect import open_pool
from lakehouse.catalog.partitions import PartitionCatalog
from lakehouse.model import ViewKey
from tests.catalog.test_freshness import VERSION

CONNECTIONS = 2
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
SOON_S = 8.0  # less than a statement waits for a connection or a lock


@dataclass
class Held:
    """Two leases and two intents that last a minute."""

    catalog: PartitionCatalog
    pool: Any
    leases: Sequence[Lease]
    intents: Sequence[uuid.UUID]

    async def renew(self) -> None:
        async with asyncio.timeout(SOON_S):
            await self.catalog.renew_leases(self.leases, HOUR)
            await self.catalog.renew_intents(self.intents, HOUR)

    async def renewed(self) -> list[Any]:
        found = await self.pool.fetch(
            "SELECT token AS held FROM lakehouse_leases WHERE expires_at > clock_timestamp() + interval '2 min'"
            " UNION ALL"
            " SELECT staged_id FROM staged_writes WHERE lease_expires_at > clock_timestamp() + interval '2 min'"
        )
        return [row["held"] for row in found]


@pytest_asyncio.fixture
async def held(database_url: str) -> AsyncIterator[Held]:
    async with (
        await open_pool(database_url, connections_max=CONNECTIONS) as pool,
        await open_pool(database_url, connections_max=1) as renewing,
    ):
        catalog = PartitionCatalog(pool, "memory://", renewing)
        instance = await catalog.add_instance(ViewKey("log_entries", str(uuid.uuid4())), VERSION)
        leases = [Lease(instance, datetime(2026, 1, 1, hour, tzinfo=UTC), uuid.uuid4()) for hour in range(2)]
        for lease in leases:
            assert await catalog.take_lease(lease, "test", MINUTE)
        yield Held(catalog, pool, leases, await catalog.reserve(["a", "b"], MINUTE, "test"))


async def test_they_are_renewed_while_all_other_connections_are_in_use(held: Held) -> None:
    async with AsyncExitStack() as busy:
        for _ in range(CONNECTIONS):
            await busy.enter_async_context(held.pool.acquire())

        await held.renew()

    assert {*await held.renewed()} == {*(lease.token for lease in held.leases), *held.intents}


async def test_one_that_is_just_being_committed_does_not_keep_the_others_from_it(held: Held) -> None:
    async with held.pool.acquire() as committing, committing.transaction():
        await committing.execute("SELECT FROM lakehouse_leases WHERE token = $1 FOR UPDATE", held.leases[0].token)
        await committing.execute("DELETE FROM staged_writes WHERE staged_id = $1", held.intents[0])

        await held.renew()

    assert await held.renewed() == [held.leases[1].token, held.intents[1]]
