"""What is looked up in a catalog with a long history is found by an index, and costs what is found."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from benchmarks.history import History, pad, write
from lakehouse.buckets.freshen import MaterializerLimits
from lakehouse.catalog.queries import load
from lakehouse.model import EVERYTHING
from tests.support.postgres_lake import PostgresLake, postgres_lake_at
from views.log_entries import LogEntries

pytestmark = pytest.mark.asyncio

LOGS = LogEntries()
BEGINS, ENDS = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 29, tzinfo=UTC)
FLEET = History("fleet", 200, 8, timedelta(minutes=30), BEGINS, ENDS, lines=1)
WEEKS = History("weeks", 1, 200, timedelta(hours=1), BEGINS, ENDS, lines=1)


@pytest_asyncio.fixture
async def lake(database_url: str, tmp_path: Path) -> AsyncIterator[PostgresLake]:
    """A fleet with some thousand partitions, and one process of two hundred hours, an hour a bucket."""
    async with postgres_lake_at(database_url, tmp_path) as lake:
        await write(FLEET, database_url, tmp_path / "store", [0])
        await write(WEEKS, database_url, tmp_path / "store")
        for process_id in (FLEET.process_id(0), WEEKS.process_id(0)):
            await lake.materializer(buckets_at_once=8).ensure(LOGS, process_id, EVERYTHING)
        await pad(FLEET, "log_entries", database_url, range(1, FLEET.processes))
        yield lake


@pytest.mark.parametrize("hours", [10, WEEKS.blocks])
async def test_a_look_up_reads_what_it_finds_and_no_more(lake: PostgresLake, hours: int) -> None:
    begin = WEEKS.started(0) + (WEEKS.blocks - hours) // 2 * WEEKS.every
    key = await lake.pool.fetchrow("SELECT * FROM view_instances WHERE instance_id = $1", WEEKS.process_id(0))

    nodes = await _plan(
        lake.pool,
        "fetch_buckets",
        *(key["vid"], key["schema_hash"], key["writer_version"], key["view_set"], key["instance_id"]),
        *(_ns(begin), _ns(begin + (hours - 1) * WEEKS.every), MaterializerLimits().margin_s),
    )

    tables = [node for node in nodes if node.get("Relation Name", "").startswith("lakehouse_")]
    assert tables and not [node for node in tables if node["Node Type"] == "Seq Scan"]
    for node in tables:
        read = (
            node["Actual Rows"] + node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
        )
        assert read <= hours + 2, node
    for node in nodes:  # nor is one thing that is found compared with each of the others
        assert node.get("Rows Removed by Join Filter", 0) <= hours, node


def _ns(moment: datetime) -> int:
    return int(moment.timestamp()) * 1_000_000_000


async def _plan(pool: asyncpg.Pool, name: str, *arguments: Any) -> list[dict[str, Any]]:
    """The nodes of the plan that a statement of looks.sql has been carried out with."""
    sql = load("looks")
    text = sql[name].replace("{seen}", sql["seen"])
    (found,) = await pool.fetchrow(f"EXPLAIN (ANALYZE, FORMAT JSON) {text}", *arguments)
    return list(_nodes(json.loads(found)[0]["Plan"]))


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", ()):
        yield from _nodes(below)
