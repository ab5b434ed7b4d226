"""Which server does the steps of maintenance, how often, and what the daily one finds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest_asyncio
from structlog.testing import capture_logs

from lakehouse.model import EVERYTHING
from server.maintenance import DAY_S, SILENT_S_MAX, Maintenance
from tests.support.materializer_lake import view_of
from tests.support.postgres_lake import PostgresLake, postgres_lake_at
from tests.support.programs import Program

LOGS = view_of("log_entries")
QUIET_S = 1.0  # rounds pause for far less


@pytest_asyncio.fixture
async def lake(database_url: str, tmp_path: Path) -> AsyncIterator[PostgresLake]:
    async with postgres_lake_at(database_url, tmp_path) as lake:
        yield lake


class Follower:
    """Asked whether it leads, it never does."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()

    async def leads(self, task: str) -> bool:
        if task == "audit":
            self.asked.set()
        return False


def _maintenance(lake: PostgresLake) -> Maintenance:
    return lake.maintenance(interval_s=0.01)


async def _run_until(lake: PostgresLake, maintenance: Maintenance, condition: str) -> None:
    running = asyncio.create_task(maintenance.run())
    try:
        async with asyncio.timeout(60):
            while not await lake.pool.fetchval(f"SELECT {condition}"):  # noqa: ASYNC110 (a table)
                await asyncio.sleep(0.02)
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


async def test_a_step_that_another_server_leads_is_left_to_it(lake: PostgresLake) -> None:
    follower = Follower()
    await lake.catalog.task_done("audit", "the leader")
    running = asyncio.create_task(replace(_maintenance(lake), leadership=follower).run())
    async with asyncio.timeout(60):
        await follower.asked.wait()
        await asyncio.sleep(QUIET_S)
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running

    assert await lake.pool.fetchval("SELECT count(*) FROM lakehouse_tasks WHERE owner <> 'the leader'") == 0
    assert await lake.pool.fetchval("SELECT count(*) FROM view_instances") == 0


async def test_a_step_whose_leader_is_stopped_is_done_by_another(lake: PostgresLake) -> None:
    """As one that is paused: its session and its lock live on."""
    await lake.catalog.task_done("retain", "paused")
    await lake.pool.execute("UPDATE lakehouse_tasks SET done_at = done_at - $1 * interval '1 s'", SILENT_S_MAX + 60.0)

    with capture_logs() as logs:
        maintenance = replace(_maintenance(lake), leadership=Follower())
        await _run_until(lake, maintenance, "count(*) = 1 FROM lakehouse_tasks WHERE owner <> 'paused'")

    assert "retain" in {line["step"] for line in logs if line["event"] == "maintenance.leader_silent"}


async def test_days_that_were_missed_are_made_up_for_by_one_round(lake: PostgresLake) -> None:
    await lake.catalog.task_done("audit", "before")
    await lake.pool.execute("UPDATE lakehouse_tasks SET done_at = done_at - $1 * interval '1 s'", 10 * DAY_S)

    await _run_until(lake, _maintenance(lake), "owner <> 'before' FROM lakehouse_tasks WHERE task = 'audit'")

    first = await lake.pool.fetchval("SELECT done_at FROM lakehouse_tasks WHERE task = 'audit'")
    await _run_until(lake, _maintenance(lake), f"clock_timestamp() > '{first}'::timestamptz + interval '{QUIET_S} s'")
    assert await lake.pool.fetchval("SELECT done_at FROM lakehouse_tasks WHERE task = 'audit'") == first


async def test_a_bucket_that_differs_from_what_was_sent_is_found_and_made_again(lake: PostgresLake) -> None:
    program = Program()
    await lake.send(program.registration())
    blocks = await lake.send([program.log_block(), program.log_block()])
    await lake.make_older(blocks, 30)
    materializer = lake.materializer()
    await materializer.ensure(LOGS, program.process_id, EVERYTHING)
    await lake.send([program.log_block()])
    (late,) = await lake.send([program.log_block()])
    await materializer.ensure(LOGS, program.process_id, EVERYTHING)
    await lake.make_older([late], 30)  # behind the back of every look, as rows that are copied by hand

    with capture_logs() as logs:
        await _maintenance(lake).round()

    (found,) = [line for line in logs if line["event"] == "audit.differs" and line["view_set"] == "log_entries"
                and line["instance"] == program.process_id]  # fmt: skip
    assert (found["made_of"], found["blocks"]) == (2, 3)
    lines = await lake.messages(await materializer.ensure(LOGS, program.process_id, EVERYTHING))
    assert set(lines) == {f"line {number}" for number in range(12)}
