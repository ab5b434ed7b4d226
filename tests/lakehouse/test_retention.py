"""What is older than it is to be kept goes, what is kept longer than its blocks stays, and no reader notices."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from lakehouse import failpoints
from lakehouse.errors import BackendUnavailableError, UnknownViewError
from lakehouse.model import EVERYTHING, GLOBAL_INSTANCE
from lakehouse.ports import View
from lakehouse.storage.paths import blob_key
from server.maintenance import VERSION_UNUSED_MAX, Maintenance
from server.retention import Kept
from tests.support.materializer_lake import view_of
from tests.support.postgres_lake import PostgresLake, postgres_lake_at
from tests.support.programs import Program

LOGS = view_of("log_entries")
SPANS = view_of("thread_spans")
WEEK = timedelta(days=7)
OLD_H = 24 * 30  # hours


@pytest_asyncio.fixture
async def lake(database_url: str, tmp_path: Path) -> AsyncIterator[PostgresLake]:
    async with postgres_lake_at(database_url, tmp_path) as lake:
        yield lake


@pytest.fixture(autouse=True)
def _disarmed() -> Iterator[None]:
    yield
    failpoints.arm("")


def _maintenance(lake: PostgresLake, kept: Kept, *, grace_s: float = 0.0) -> Maintenance:
    return lake.maintenance(kept=kept, retired_grace_s=grace_s)


async def _program(lake: PostgresLake, *ages_h: int) -> tuple[Program, list[str]]:
    """A program with a log block of each age, which registered when the first one came."""
    program = Program()
    await lake.send(program.registration())
    blocks = []
    for age in ages_h:
        (block,) = await lake.send([program.log_block()])
        await lake.make_older([block], age)
        blocks.append(block)
    for table in ("processes", "streams"):
        await lake.pool.execute(
            f"UPDATE {table} SET insert_time = insert_time - $2 * interval '1 hour' WHERE process_id = $1::uuid",
            program.process_id,
            max(ages_h),
        )
    return program, blocks


async def _lines(lake: PostgresLake, instance: str) -> list[str]:
    return await lake.messages(await lake.materializer().ensure(LOGS, instance, EVERYTHING))


def _said(*blocks: int) -> list[str]:
    """The lines of the blocks with these numbers."""
    return sorted(f"line {3 * block + line}" for block in blocks for line in range(3))


async def _count(lake: PostgresLake, table: str) -> int:
    count: int = await lake.pool.fetchval(f"SELECT count(*) FROM {table}")
    return count


async def test_blocks_that_are_older_than_they_are_kept_go_with_their_payloads_and_partitions(
    lake: PostgresLake,
) -> None:
    program, (old, new) = await _program(lake, OLD_H, 2)
    gone, _ = await _program(lake, OLD_H)
    assert await _lines(lake, program.process_id) == _said(0, 1)

    for _ in range(2):  # what one releases the next deletes
        await _maintenance(lake, Kept(WEEK, WEEK)).round()

    assert await _lines(lake, program.process_id) == _said(1)
    assert await _lines(lake, GLOBAL_INSTANCE) == _said(1)
    assert await lake.store.list("blobs") == [blob_key(program.process_id, program.log_stream, new)]
    assert [str(row["block_id"]) for row in await lake.pool.fetch("SELECT block_id FROM blocks")] == [new]
    assert old != new
    left = await lake.pool.fetch("SELECT process_id FROM processes")
    assert [str(row["process_id"]) for row in left] == [program.process_id]
    assert await _count(lake, "streams") == len(program.registration()) - 1, "a process that lives keeps its streams"
    with pytest.raises(UnknownViewError):
        await lake.materializer().ensure(LOGS, gone.process_id, EVERYTHING)
    assert set(await lake.store.list("_schema")) == await _named(lake)


async def test_nothing_goes_where_everything_is_kept(lake: PostgresLake) -> None:
    program, _ = await _program(lake, 24 * 5_000, 2)

    await _maintenance(lake, Kept()).round()

    assert await _lines(lake, program.process_id) == _said(0, 1)
    assert await _count(lake, "blocks") == 2


async def test_partitions_that_are_kept_longer_than_blocks_hold_all_rows_of_what_somebody_asked_for(
    lake: PostgresLake,
) -> None:
    """Also blocks that came since somebody asked, and those of global views, which nobody has to ask for."""
    program, _ = await _program(lake, OLD_H + 5)
    assert await _lines(lake, program.process_id) == _said(0)
    for age in (OLD_H + 5, OLD_H, 2):
        await lake.make_older(await lake.send([program.log_block()]), age)
    never, _ = await _program(lake, OLD_H)

    await _maintenance(lake, Kept(WEEK, None)).round()

    assert await _count(lake, "blocks") == 1
    assert await _lines(lake, program.process_id) == _said(0, 1, 2, 3)
    assert await _lines(lake, GLOBAL_INSTANCE) == sorted([*_said(0, 1, 2, 3), *_said(0)])
    with pytest.raises(UnknownViewError):  # nothing was made of it
        await lake.materializer().ensure(LOGS, never.process_id, EVERYTHING)


async def test_each_view_set_keeps_its_partitions_for_as_long_as_it_is_told(lake: PostgresLake) -> None:
    program, _ = await _program(lake, OLD_H)
    spans = await lake.send([program.thread_block()])
    await lake.make_older(spans, OLD_H)
    assert (await lake.materializer().ensure(SPANS, program.thread_stream, EVERYTHING)).partitions

    await _maintenance(lake, Kept(WEEK, None, {"thread_spans": WEEK})).round()

    assert await _lines(lake, GLOBAL_INSTANCE) == _said(0)
    assert not (await lake.materializer().ensure(SPANS, program.thread_stream, EVERYTHING)).partitions


async def test_a_lost_file_whose_blocks_are_gone_is_an_error_and_no_fewer_rows(lake: PostgresLake) -> None:
    program, _ = await _program(lake, OLD_H)
    fresh = await lake.materializer().ensure(LOGS, program.process_id, EVERYTHING)
    await _maintenance(lake, Kept(WEEK, None)).round()
    await lake.store.delete([partition.key for partition in fresh.partitions])

    with pytest.raises(BackendUnavailableError, match="restore the files from a backup"):
        await lake.local(lake.materializer(), LOGS, program.process_id)


async def test_an_hour_that_cannot_be_made_keeps_its_blocks_until_it_can(lake: PostgresLake) -> None:
    program, (block,) = await _program(lake, OLD_H)
    key = blob_key(program.process_id, program.log_stream, block)
    payload = await lake.store.get(key)
    await lake.store.delete([key])

    with capture_logs() as logs:
        await _maintenance(lake, Kept(WEEK, None)).round()

    assert await _count(lake, "blocks") == 1
    assert "expire_blocks" in {line["step"] for line in logs if line["event"] == "maintenance.failed"}
    await lake.store.put_blobs([(key, payload)])
    await _maintenance(lake, Kept(WEEK, None)).round()
    assert await _count(lake, "blocks") == 0
    assert await _lines(lake, GLOBAL_INSTANCE) == _said(0)


async def test_what_a_query_may_still_read_is_there_until_it_cannot_be_running(lake: PostgresLake) -> None:
    """A query that looked before an hour went finds its files and its payloads; one that looks after finds neither."""
    program, (block, _) = await _program(lake, OLD_H, 2)
    before = await lake.materializer().ensure(LOGS, program.process_id, EVERYTHING)

    for _ in range(2):
        await _maintenance(lake, Kept(WEEK, WEEK), grace_s=3600).round()

    assert await lake.messages(before) == _said(0, 1)
    assert await lake.store.get(blob_key(program.process_id, program.log_stream, block))
    assert await lake.catalog.find_block(block) is None
    assert await _lines(lake, program.process_id) == _said(1)
    await _maintenance(lake, Kept(WEEK, WEEK)).round()
    assert await _count(lake, "blocks") == 1


async def test_partitions_of_blocks_that_are_kept_longer_are_made_again_and_stay_for_a_while(
    lake: PostgresLake,
) -> None:
    program, _ = await _program(lake, OLD_H)
    await lake.materializer().ensure(LOGS, program.process_id, EVERYTHING)
    maintenance = _maintenance(lake, Kept(None, WEEK))
    await lake.pool.execute("UPDATE lakehouse_buckets SET updated = updated - interval '2 days'")
    await maintenance.retain()
    assert await _named(lake) == set()

    assert await _lines(lake, program.process_id) == _said(0)

    await maintenance.retain()
    assert len(await _named(lake)) == 1


async def test_frozen_rows_stay_readable_when_the_writer_version_is_raised(lake: PostgresLake) -> None:
    program, _ = await _program(lake, OLD_H, 2)
    await lake.materializer().ensure(LOGS, program.process_id, EVERYTHING)
    await _maintenance(lake, Kept(WEEK, None)).round()
    raised = _RaisedVersion(LOGS)

    fresh = await lake.materializer().ensure(raised, program.process_id, EVERYTHING)

    assert await lake.messages(fresh) == _said(0, 1)
    assert fresh.missing_blocks == 0


async def test_frozen_rows_outlive_the_version_that_made_them(lake: PostgresLake) -> None:
    """Nobody asked for them since the version was raised, and the older one is not used any more."""
    program, _ = await _program(lake, OLD_H, 2)
    await lake.materializer().ensure(LOGS, program.process_id, EVERYTHING)
    await _maintenance(lake, Kept(WEEK, None)).round()
    await lake.pool.execute(
        "UPDATE view_instances SET writer_version = -1, used = used - 2 * $1::interval", VERSION_UNUSED_MAX
    )

    for _ in range(2):
        await _maintenance(lake, Kept(WEEK, None)).round()

    assert await _lines(lake, program.process_id) == _said(0, 1)
    assert await lake.pool.fetchval("SELECT count(*) FROM view_instances WHERE writer_version = -1") == 0
    assert set(await lake.store.list("_schema")) == await _named(lake)


async def test_frozen_rows_with_other_columns_count_as_missing_and_are_kept(lake: PostgresLake) -> None:
    program, _ = await _program(lake, OLD_H, 2)
    await lake.materializer().ensure(LOGS, program.process_id, EVERYTHING)
    await _maintenance(lake, Kept(WEEK, None)).round()
    await lake.pool.execute(
        "UPDATE view_instances SET schema_hash = 'another'::bytea, used = used - 2 * $1::interval", VERSION_UNUSED_MAX
    )

    await _maintenance(lake, Kept(WEEK, None)).round()

    fresh = await lake.materializer().ensure(LOGS, program.process_id, EVERYTHING)
    assert await lake.messages(fresh) == _said(1)
    assert fresh.missing_blocks == 1
    assert await lake.pool.fetchval("SELECT count(*) FROM view_instances WHERE schema_hash = 'another'::bytea")


async def test_a_day_that_was_merged_keeps_its_rows_and_what_came_late_for_it(lake: PostgresLake) -> None:
    evening = OLD_H + (datetime.now(UTC).hour - 22) % 24  # the hour from 22:00 of a day
    hours = range(evening, evening + 30)
    program, _ = await _program(lake, *(hours[i] for i in (0, 3, 29)), 2)
    await lake.materializer().ensure(LOGS, program.process_id, EVERYTHING)
    await _maintenance(lake, Kept()).round()
    longest = "SELECT max(bucket_end - bucket_begin) FROM lakehouse_buckets"
    assert await lake.pool.fetchval(longest) > timedelta(hours=1)
    await lake.make_older(await lake.send([program.log_block()]), hours[3])

    await _maintenance(lake, Kept(WEEK, None)).round()

    assert await _count(lake, "blocks") == 1
    assert await _lines(lake, program.process_id) == _said(0, 1, 2, 3, 4)
    assert await _lines(lake, GLOBAL_INSTANCE) == _said(0, 1, 2, 3, 4)
    for _ in range(2):
        await _maintenance(lake, Kept(WEEK, WEEK)).round()
    assert await _lines(lake, program.process_id) == _said(3)
    assert set(await lake.store.list("_schema")) == await _named(lake)


async def test_a_registration_that_comes_after_its_blocks_went_brings_none_of_them_back(lake: PostgresLake) -> None:
    program, _ = await _program(lake, OLD_H, 2)
    late = Program()
    blocks = await lake.send([late.log_block()])
    await lake.make_older(blocks, OLD_H)
    await _maintenance(lake, Kept(WEEK, None), grace_s=3600).round()

    await lake.send(late.registration())

    assert await _lines(lake, late.process_id) == []
    assert await _lines(lake, GLOBAL_INSTANCE) == _said(0, 1)
    assert program.logged == 6


@pytest.mark.parametrize("point", failpoints.RETENTION)
async def test_a_round_ends_what_another_was_broken_off_in(lake: PostgresLake, point: str) -> None:
    program, _ = await _program(lake, OLD_H + 3, OLD_H, 2)
    await lake.materializer().ensure(LOGS, program.process_id, EVERYTHING)
    kept = Kept(WEEK, None, {"log_entries": 2 * WEEK})
    failpoints.arm(f"{point}:raise")
    with capture_logs() as logs:
        await _maintenance(lake, kept).round()
    assert [line for line in logs if line.get("log_level") == "error"], "it was broken off"
    failpoints.arm("")

    for _ in range(2):
        await _maintenance(lake, kept).round()

    assert await _lines(lake, program.process_id) == _said(2)
    assert await _count(lake, "blocks") == 1
    assert len(await lake.store.list("blobs")) == 1
    assert set(await lake.store.list("_schema")) == await _named(lake)


async def test_a_day_can_go_while_queries_read_it(lake: PostgresLake) -> None:
    """None fails, and none is without a row that is kept."""
    program, _ = await _program(lake, *(OLD_H + hour for hour in range(12)), *(4, 3, 2))
    kept_lines, all_lines = set(_said(12, 13, 14)), set(_said(*range(15)))
    done = asyncio.Event()
    answers: list[int] = []

    async def read(instance: str) -> None:
        while not done.is_set():
            async with lake.materializer().ensure_local(LOGS, instance, EVERYTHING) as local:
                await asyncio.sleep(0)
                lines = set(await lake.messages(local.fresh))
            assert kept_lines <= lines <= all_lines
            answers.append(len(lines))

    async with asyncio.timeout(120), asyncio.TaskGroup() as readers:
        for instance in (program.process_id, GLOBAL_INSTANCE, program.process_id):
            readers.create_task(read(instance))
        while len(answers) < 6:  # noqa: ASYNC110 (a list)
            await asyncio.sleep(0.01)
        for _ in range(3):
            await _maintenance(lake, Kept(WEEK, WEEK), grace_s=3600).round()
        asked = len(answers)
        while len(answers) < asked + 6:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        done.set()

    assert (max(answers), answers[-1]) == (len(all_lines), len(kept_lines))


async def _named(lake: PostgresLake) -> set[str]:
    rows = await lake.pool.fetch("SELECT DISTINCT file_path FROM lakehouse_partitions WHERE file_path IS NOT NULL")
    return {row["file_path"] for row in rows}


class _RaisedVersion:
    """A view as the next release has it."""

    def __init__(self, view: View) -> None:
        self._view = view
        self.writer_version = view.writer_version + 1

    def __getattr__(self, name: str) -> Any:
        return getattr(self._view, name)
