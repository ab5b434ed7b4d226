"""One server at a time leads a task of maintenance, and another takes over when it goes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import asyncpg
import pytest_asyncio

from lakehouse.catalog.partitions import PartitionCatalog
from lakehouse.catalog.tasks import SessionLeadership


@pytest_asyncio.fixture
async def servers(database_url: str) -> AsyncIterator[tuple[SessionLeadership, SessionLeadership]]:
    both = SessionLeadership(database_url), SessionLeadership(database_url)
    yield both
    for server in both:
        await server.close()


async def _leads_soon(server: SessionLeadership, task: str) -> bool:
    """The database notices within moments that a session has ended."""
    async with asyncio.timeout(30):
        while not await server.leads(task):  # noqa: ASYNC110 (a lock)
            await asyncio.sleep(0.02)
    return True


async def test_each_task_is_led_by_one_server_for_as_long_as_it_lives(
    servers: tuple[SessionLeadership, SessionLeadership],
) -> None:
    one, other = servers
    assert [await one.leads("retain"), await one.leads("retain"), await other.leads("retain")] == [True, True, False]
    assert await other.leads("audit"), "tasks are led one by one"

    await one.close()

    assert await _leads_soon(other, "retain")
    assert not await one.leads("audit"), "a server that comes back begins anew"


async def test_a_server_whose_session_ended_leads_nothing_until_it_is_its_turn(
    servers: tuple[SessionLeadership, SessionLeadership], database_url: str
) -> None:
    one, other = servers
    assert await one.leads("retain")
    connection = await asyncpg.connect(database_url)
    await connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2 AND database ="
        " (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    await connection.close()

    assert await _leads_soon(other, "retain")

    try:
        led = await one.leads("retain")
    except Exception:  # its session is found to be gone
        led = await one.leads("retain")
    assert not led


async def test_when_a_task_was_last_done_is_known_to_all(database_url: str) -> None:
    async with asyncpg.create_pool(database_url, min_size=0, max_size=2) as pool:
        catalog: Any = PartitionCatalog(pool, "store")
        assert await catalog.task_age("retain") is None

        await catalog.task_done("retain", "one")
        await pool.execute("UPDATE lakehouse_tasks SET done_at = done_at - interval '1 hour'")

        assert timedelta(hours=1) < await catalog.task_age("retain") < timedelta(hours=1, minutes=10)
        await catalog.task_done("retain", "other")
        assert await catalog.task_age("retain") < timedelta(minutes=10)
