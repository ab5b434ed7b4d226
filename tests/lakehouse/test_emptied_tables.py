"""Partitions are a cache: whatever an operator removes of their tables is made again, by a server that goes on running."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import pytest
import pytest_asyncio

from lakehouse.model import EVERYTHING, GLOBAL_INSTANCE
from tests.support.materializer_lake import view_of
from tests.support.postgres_lake import PostgresLake, postgres_lake_at
from tests.support.programs import Program


@pytest_asyncio.fixture
async def lake(database_url: str, tmp_path: Path) -> AsyncIterator[PostgresLake]:
    async with postgres_lake_at(database_url, tmp_path) as lake:
        yield lake


LOGS = view_of("log_entries")
LINES = sorted(f"line {number}" for number in range(6))


async def _until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(5):
        while not await condition():  # noqa: ASYNC110 (what is waited for is inside of the code under test)
            await asyncio.sleep(0.02)


async def _is_building(lake: PostgresLake) -> bool:
    return bool(lake.builder.jobs)


async def _has_buckets(lake: PostgresLake) -> bool:
    return bool(await lake.pool.fetchval("SELECT count(*) FROM lakehouse_buckets"))


@pytest.mark.parametrize(
    "removal",
    [
        ["TRUNCATE lakehouse_partitions"],
        ["DELETE FROM lakehouse_partitions"],
        ["TRUNCATE lakehouse_buckets CASCADE"],
        ["DELETE FROM lakehouse_buckets"],
        ["TRUNCATE view_instances CASCADE"],
        ["TRUNCATE view_instances RESTART IDENTITY CASCADE"],
        ["DELETE FROM view_instances"],
        ["TRUNCATE lakehouse_partitions, lakehouse_buckets, view_instances, lake_objects CASCADE"],
        [
            f"DELETE FROM {table}"
            for table in ("lakehouse_partitions", "lakehouse_buckets", "view_instances", "lake_objects")
        ],
        [f"DELETE FROM {table}" for table in ("view_instances", "lake_objects")],
    ],
    ids=lambda statements: "; ".join(statements),
)
@pytest.mark.parametrize("scope", ["global", "process"])
async def test_a_server_that_runs_makes_again_what_an_operator_removed(
    lake: PostgresLake, removal: list[str], scope: str
) -> None:
    program, other = Program(), Program()
    await lake.send([*program.registration(), program.log_block(), program.log_block()])
    instance = GLOBAL_INSTANCE if scope == "global" else program.process_id
    materializer = lake.materializer()
    assert await lake.messages(await materializer.ensure(LOGS, instance, EVERYTHING)) == LINES

    for statement in removal:
        await lake.pool.execute(statement)
    await lake.send(other.registration())
    await materializer.ensure(LOGS, other.process_id, EVERYTHING)  # takes the number that was given before, if it can

    for _ in range(2):
        assert await lake.messages(await materializer.ensure(LOGS, instance, EVERYTHING)) == LINES
    assert lake.builder.sizes == [2, 2]


@pytest.mark.parametrize(
    "removal", ["TRUNCATE lakehouse_buckets, lakehouse_partitions", "TRUNCATE view_instances RESTART IDENTITY CASCADE"]
)
async def test_what_was_removed_while_it_was_made_has_the_blocks_of_its_own_instance_and_all_of_them(
    lake: PostgresLake, removal: str
) -> None:
    one, two = Program(), Program()
    await lake.send([*one.registration(), one.log_block()])
    await lake.send([*two.registration(), two.log_block(), two.log_block()])
    first, second = lake.materializer(), lake.materializer()
    gate = lake.builder.close_gate()
    fresh = asyncio.create_task(first.ensure(LOGS, one.process_id, EVERYTHING))
    await _until(lambda: _is_building(lake))

    await lake.pool.execute(removal)
    others = asyncio.create_task(second.ensure(LOGS, two.process_id, EVERYTHING))
    await _until(lambda: _has_buckets(lake))
    gate.set()

    assert await lake.messages(await fresh) == LINES[:3]
    assert await lake.messages(await others) == LINES
    for process, lines in ((one, LINES[:3]), (two, LINES)):
        for materializer in (first, second):
            assert await lake.messages(await materializer.ensure(LOGS, process.process_id, EVERYTHING)) == lines


async def test_blocks_come_while_the_bucket_that_is_made_is_removed(lake: PostgresLake) -> None:
    program = Program()
    await lake.send([*program.registration(), program.log_block()])
    first, second = lake.materializer(), lake.materializer()
    gate = lake.builder.close_gate()
    fresh = asyncio.create_task(first.ensure(LOGS, program.process_id, EVERYTHING))
    await _until(lambda: _is_building(lake))

    await lake.pool.execute("TRUNCATE lakehouse_buckets, lakehouse_partitions")
    await lake.send([program.log_block()])
    later = asyncio.create_task(second.ensure(LOGS, program.process_id, EVERYTHING))
    await _until(lambda: _has_buckets(lake))
    gate.set()

    assert await lake.messages(await later) == LINES
    assert await lake.messages(await fresh) == LINES


async def test_a_block_that_is_missing_is_counted_once_when_one_of_its_hour_s_partitions_was_removed(
    lake: PostgresLake,
) -> None:
    program = Program()
    materializer = lake.materializer()
    (bad,) = await lake.send([*program.registration(), program.log_block()])
    lake.builder.hostile.add(bad)
    await materializer.ensure(LOGS, program.process_id, EVERYTHING)
    await lake.send([program.log_block()])
    assert (await materializer.ensure(LOGS, program.process_id, EVERYTHING)).missing_blocks == 1

    await lake.pool.execute("DELETE FROM lakehouse_partitions WHERE ordinal = 0")

    fresh = await materializer.ensure(LOGS, program.process_id, EVERYTHING)
    assert fresh.missing_blocks == 1
    assert await lake.messages(fresh) == LINES[3:]


@pytest.mark.parametrize("ordinal", [0, 1])
async def test_one_of_two_files_of_the_same_blocks_is_made_again_and_its_rows_are_there_once(
    lake: PostgresLake, ordinal: int
) -> None:
    """Blocks are named by the first partition of those that they are in."""
    program = Program()
    materializer = lake.materializer()
    for _ in range(2):
        await lake.send([*program.registration(), program.log_block()])
        await materializer.ensure(LOGS, program.process_id, EVERYTHING)
    await lake.pool.execute(  # as if both blocks had been decoded at once, into two files
        "UPDATE lakehouse_partitions SET block_ids = CASE ordinal"
        " WHEN 0 THEN (SELECT array_agg(block_id) FROM blocks) ELSE '{}' END"
    )

    await lake.pool.execute("DELETE FROM lakehouse_partitions WHERE ordinal = $1", ordinal)

    assert await lake.messages(await materializer.ensure(LOGS, program.process_id, EVERYTHING)) == LINES


async def test_queries_that_run_keep_the_files_whose_partitions_were_truncated(lake: PostgresLake) -> None:
    program = Program()
    await lake.send([*program.registration(), program.log_block()])
    fresh = await lake.materializer().ensure(LOGS, program.process_id, EVERYTHING)
    await lake.pool.execute("UPDATE lake_objects SET touched_at = clock_timestamp() - interval '2 hours'")

    await lake.pool.execute("TRUNCATE lakehouse_partitions")

    assert await lake.catalog.condemn_unreferenced(timedelta(hours=1), 10) == []
    condemned = await lake.catalog.condemn_unreferenced(timedelta(0), 10)
    assert [path for _, path in condemned] == [partition.key for partition in fresh.partitions]
