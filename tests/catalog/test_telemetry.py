"""Rows of processes, streams and blocks: nothing is lost on the way, and the first registration stands."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from lakehouse.catalog.connect import INGEST_LIMITS, Limits, connect, database_errors, open_pool
from lakehouse.catalog.telemetry import BlockRows, insert_process, insert_stream
from lakehouse.errors import BackendUnavailableError
from tests.support.ingestion import START_NS, block_request, new_id, process_request, stream_request
from tests.support.ports import REFUSED


@pytest_asyncio.fixture
async def pool(database_url: str) -> AsyncIterator[Any]:
    pool = await open_pool(database_url, connections_max=3, limits=INGEST_LIMITS)
    yield pool
    await pool.close()


@pytest_asyncio.fixture
async def rows(database_url: str) -> AsyncIterator[BlockRows]:
    rows = BlockRows(database_url)
    yield rows
    await rows.close()


async def test_a_process_comes_back_as_it_was_sent(pool: Any) -> None:
    properties = {"z": "1", "a": "é\ufffd\U0001f600", "": "", 'quote"': "back\\slash\n"}
    process = process_request(
        exe="x" * 100_000, tsc_frequency=-1, start_ticks=-(1 << 63), parent_process_id=new_id(), properties=properties
    )

    assert await insert_process(pool, process)

    row = await pool.fetchrow("SELECT * FROM processes")
    assert str(row["process_id"]) == process.process_id
    assert str(row["parent_process_id"]) == process.parent_process_id
    assert (row["exe"], row["tsc_frequency"], row["start_ticks"]) == (process.exe, -1, -(1 << 63))
    assert list(json.loads(row["properties"]).items()) == list(properties.items())  # the order too


async def test_times_are_floored_to_microseconds_also_before_1970(pool: Any) -> None:
    late, early = process_request(start_time_ns=1_999), process_request(start_time_ns=-1)

    await insert_process(pool, late)
    await insert_process(pool, early)

    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    found = {str(row[0]): row[1] for row in await pool.fetch("SELECT process_id, start_time FROM processes")}
    assert found[late.process_id] == epoch + timedelta(microseconds=1)
    assert found[early.process_id] == epoch - timedelta(microseconds=1)


@pytest.mark.parametrize("time_ns", [-(1 << 63), (1 << 63) - 1])
async def test_every_time_that_nanoseconds_can_say_is_kept(pool: Any, rows: BlockRows, time_ns: int) -> None:
    block = block_request(begin_time_ns=time_ns, end_time_ns=time_ns)

    assert await rows.insert([block], [1]) == {block.block_id}

    kept = await pool.fetchval("SELECT begin_time FROM blocks")
    assert kept == datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time_ns // 1000)


async def test_the_first_registration_of_an_id_stands(pool: Any) -> None:
    first = process_request(exe="first")
    stream = stream_request(first.process_id, tags=("log",))

    assert await insert_process(pool, first)
    assert not await insert_process(pool, process_request(process_id=first.process_id, exe="second"))
    assert await insert_stream(pool, stream)
    assert not await insert_stream(pool, stream_request(first.process_id, stream_id=stream.stream_id, tags=("cpu",)))

    assert await pool.fetchval("SELECT exe FROM processes") == "first"
    assert await pool.fetchval("SELECT tags FROM streams") == ["log"]


async def test_a_group_reports_only_its_new_blocks(rows: BlockRows, pool: Any) -> None:
    old, new = block_request(), block_request(begin_time_ns=START_NS + 999)
    await rows.insert([old], [5])

    inserted = await rows.insert([old, new, new], [6, 7, 8])

    assert inserted == {new.block_id}
    sizes = {str(row[0]): row[1] for row in await pool.fetch("SELECT block_id, payload_size FROM blocks")}
    assert sizes == {old.block_id: 5, new.block_id: 7}


async def test_rows_know_their_transaction_and_the_clock_of_the_database(rows: BlockRows, pool: Any) -> None:
    horizon = await pool.fetchval("SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint")

    await rows.insert([block_request()], [1])

    row = await pool.fetchrow(
        "SELECT ingest_xid::text::bigint AS xid, clock_timestamp() - insert_time AS age FROM blocks"
    )
    assert row["xid"] >= horizon
    assert timedelta(0) <= row["age"] < timedelta(seconds=10)


async def test_kept_connections_survive_their_own_death(rows: BlockRows, pool: Any) -> None:
    await rows.insert([block_request()], [1])
    await pool.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%INTO blocks%' AND pid <> pg_backend_pid()"
    )
    await asyncio.sleep(0.05)

    assert len(await rows.insert([block_request()], [1])) == 1


async def test_a_statement_is_cut_and_says_so_without_details(database_url: str) -> None:
    connection = await connect(database_url, Limits(statement_timeout_s=0.05), serves=False)

    with pytest.raises(BackendUnavailableError, match="is not available: a statement ran into its timeout"):
        with database_errors():
            await connection.execute("SELECT pg_sleep(5)")
    await connection.close()


async def test_mistakes_of_ours_are_not_called_an_outage(pool: Any) -> None:
    with pytest.raises(asyncpg.UndefinedTableError), database_errors():
        await pool.execute("SELECT * FROM no_such_table")


async def test_an_absent_database_is_unavailable() -> None:
    with pytest.raises(BackendUnavailableError, match="no connection"):
        await connect(f"postgresql://nobody@{REFUSED}/none")
