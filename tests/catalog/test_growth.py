"""What is looked up in a catalog with a long history is found by an index, and costs what is found."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from benchmarks.history import History, pad, write
from lakehouse.buckets.freshen import MaterializerLimits
from lakehouse.catalog.looks import LOOK_BEHIND_MAX, LOOK_ROWS_MAX, look_statements
from lakehouse.catalog.queries import load
from lakehouse.model import EVERYTHING
from tests.support.postgres_lake import PostgresLake, postgres_lake_at
from views.log_entries import LogEntries

pytestmark = pytest.mark.asyncio

LOGS = LogEntries()
BEGINS, ENDS = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 29, tzinfo=UTC)
FLEET = History("fleet", 200, 8, timedelta(minutes=30), BEGINS, ENDS, lines=1)
BUSY = History("busy", 1, 300, timedelta(seconds=5), BEGINS, ENDS, lines=1)
OTHERS = History("others", 40, 50, timedelta(seconds=5), BEGINS, ENDS, lines=1)
THRONG = History("throng", LOOK_ROWS_MAX + 1, 1, timedelta(seconds=5), BEGINS, ENDS, lines=1)
BEFORE, SINCE = range(OTHERS.processes // 2), range(OTHERS.processes // 2, OTHERS.processes)
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

    sql = load("looks")
    nodes = await _plan(
        lake.pool,
        sql["fetch_buckets"].replace("{seen}", sql["seen"]),
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


@pytest_asyncio.fixture
async def looked_at(database_url: str, tmp_path: Path) -> AsyncIterator[PostgresLake]:
    """A process with hundreds of blocks among others, which a query has seen all of."""
    async with postgres_lake_at(database_url, tmp_path) as lake:
        await write(BUSY, database_url, tmp_path / "store")
        await write(OTHERS, database_url, tmp_path / "store", BEFORE)
        await lake.materializer().ensure(LOGS, BUSY.process_id(0), EVERYTHING)
        yield lake


@pytest.mark.parametrize("kind", ["process", "stream"])
@pytest.mark.parametrize("analyzed", [False, True])
async def test_a_look_reads_what_came_since_the_last_one_and_no_more(
    looked_at: PostgresLake, tmp_path: Path, database_url: str, kind: str, analyzed: bool
) -> None:
    """Whatever the planner believes of the tables: it has counted nothing, or what was there before others registered."""
    if analyzed:
        await looked_at.pool.execute("ANALYZE")
    await write(OTHERS, database_url, tmp_path / "store", SINCE)

    nodes = await _look(looked_at.pool, kind)

    came = len(SINCE) * (2 + OTHERS.blocks)  # a process, its stream and its blocks
    assert _rows_read(nodes) <= came + LOOK_ROWS_MAX + 10  # some are counted as well


async def test_what_others_sent_is_not_read_again_at_each_look(
    looked_at: PostgresLake, tmp_path: Path, database_url: str
) -> None:
    await write(THRONG, database_url, tmp_path / "store")

    await looked_at.materializer().ensure(LOGS, BUSY.process_id(0), EVERYTHING)

    assert _rows_read(await _look(looked_at.pool, "process")) <= 10


async def _look(pool: asyncpg.Pool, kind: str) -> list[dict[str, Any]]:
    """The plan of a look at what the busy process, or its stream, has sent since the last one."""
    key = await pool.fetchrow(
        "SELECT vid, schema_hash, writer_version, view_set, instance_id FROM view_instances WHERE instance_id = $1",
        BUSY.process_id(0),
    )
    entity, tag = (BUSY.process_id(0), LOGS.stream_tag) if kind == "process" else (BUSY.stream_id(0), None)
    arguments = (*key, uuid.UUID(entity), tag, LOOK_BEHIND_MAX, LOOK_ROWS_MAX)
    return await _plan(pool, look_statements(kind)["has_fresh"], *arguments)


_GROWING = ("blocks", "streams", "processes", "lakehouse_buckets", "lakehouse_partitions", "view_instances")


def _rows_read(nodes: Sequence[dict[str, Any]]) -> int:
    """Of tables and their indexes."""
    counts = ("Actual Rows", "Rows Removed by Filter", "Rows Removed by Index Recheck")
    scans = [node for node in nodes if "Scan" in node["Node Type"]]
    of_tables = [one for one in scans if one.get("Relation Name", one.get("Index Name", "")).startswith(_GROWING)]
    return round(sum(float(one["Actual Loops"] * one.get(count, 0)) for one in of_tables for count in counts))


def _ns(moment: datetime) -> int:
    return int(moment.timestamp()) * 1_000_000_000


async def _plan(pool: asyncpg.Pool, text: str, *arguments: Any) -> list[dict[str, Any]]:
    """The nodes of the plan that a statement has been carried out with."""
    (found,) = await pool.fetchrow(f"EXPLAIN (ANALYZE, FORMAT JSON) {text}", *arguments)
    return list(_nodes(json.loads(found)[0]["Plan"]))


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", ()):
        yield from _nodes(below)
