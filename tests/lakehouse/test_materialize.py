"""Making a view instance fresh: over a real database and a real store, with a builder that can be made to fail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pyarrow.parquet as pq
import pytest
import pytest_asyncio

from lakehouse.build import BuildJob, build_bucket
from lakehouse.catalog.partitions import PartitionCatalog
from lakehouse.catalog.telemetry import BlockRows, insert_process, insert_stream
from lakehouse.errors import BackendUnavailableError, LimitExceededError, UnknownViewError
from lakehouse.materialize import Freshened, Materializer, MaterializerLimits, WorkerCrashedError
from lakehouse.model import EVERYTHING, TimeRange
from lakehouse.ports import View
from lakehouse.registry import MetadataView
from lakehouse.storage import LocalStore
from lakehouse.storage.paths import blob_key
from tests.support.fixtures import Request
from tests.support.programs import START_NS, Program
from views import default_registry
from wire.envelope import decode_block, decode_process, decode_stream

HOUR_NS = 3_600_000_000_000


class Builder:
    """Builds in this process; ``hostile`` blocks kill it, as they would kill a worker."""

    def __init__(self) -> None:
        self.hostile: set[str] = set()
        self.jobs: list[int] = []
        self.before: Callable[[], None] = lambda: None

    async def build(self, job: dict[str, Any], deadline_s: float) -> dict[str, Any]:
        self.before()
        decoded = BuildJob.from_message(job)
        self.jobs.append(len(decoded.blocks))
        if self.hostile & {block.block_id for block in decoded.blocks}:
            raise WorkerCrashedError("killed by signal 11")
        paths = {block.block_id: Path(path) for block, path in zip(decoded.blocks, job["paths"], strict=True)}
        view = default_registry().find(decoded.view_set)
        assert not isinstance(view, MetadataView)
        result = await asyncio.to_thread(build_bucket, view, decoded, lambda block: paths[block.block_id])
        return result.to_message()


class Lake:
    """Everything a materializer needs, and a way to send to it."""

    def __init__(self, pool: Any, locks: Any, url: str, folder: Path) -> None:
        self.pool, self.rows, self.builder = pool, BlockRows(url), Builder()
        self.store = LocalStore(folder / "store")
        self.catalog = PartitionCatalog(pool, locks, self.store.name)
        self.scratch = folder / "scratch"
        self.scratch.mkdir()
        self._locks = locks

    def materializer(self, **limits: Any) -> Materializer:
        return Materializer(self.catalog, self.store, self.builder, self.scratch, MaterializerLimits(**limits))

    async def send(self, requests: list[Request]) -> list[str]:
        """Ingest; the ids of blocks."""
        blocks = []
        for request in requests:
            match request.path.rsplit("_", 1)[-1]:
                case "process":
                    await insert_process(self.pool, decode_process(request.body))
                case "stream":
                    await insert_stream(self.pool, decode_stream(request.body))
                case _:
                    block = decode_block(request.body)
                    key = blob_key(block.process_id, block.stream_id, block.block_id)
                    sizes = await self.store.put_blobs([(key, block.payload)])
                    await self.rows.insert([block], sizes)
                    blocks.append(block.block_id)
        return blocks

    async def messages(self, fresh: Freshened) -> list[str]:
        paths = await self.store.localize([partition.key for partition in fresh.partitions])
        return sorted(text for path in paths for text in pq.read_table(path, columns=["msg"]).column(0).to_pylist())


@pytest_asyncio.fixture
async def lake(database_url: str, tmp_path: Path) -> AsyncIterator[Lake]:
    async with (
        asyncpg.create_pool(database_url, min_size=0, max_size=8) as pool,
        asyncpg.create_pool(database_url, min_size=0, max_size=4) as locks,
    ):
        made = Lake(pool, locks, database_url, tmp_path)
        yield made
        await made.rows.close()
        await made.store.close()


def view_of(name: str) -> View:
    view = default_registry().find(name)
    assert not isinstance(view, MetadataView)
    return view


LOGS = view_of("log_entries")


async def test_new_blocks_of_an_open_bucket_become_one_more_partition(lake: Lake) -> None:
    program = Program()
    materializer = lake.materializer()
    await lake.send([*program.registration(), program.log_block()])
    await materializer.ensure(LOGS, program.process_id, EVERYTHING)
    await lake.send([program.log_block(), program.log_block()])

    fresh = await materializer.ensure(LOGS, program.process_id, EVERYTHING)

    assert lake.builder.jobs == [1, 2]
    assert len(fresh.partitions) == 2
    assert await lake.messages(fresh) == sorted(f"line {number}" for number in range(9))


async def test_what_is_fresh_is_not_built_again(lake: Lake) -> None:
    program = Program()
    await lake.send([*program.registration(), program.log_block()])

    answers = [await lake.materializer().ensure(LOGS, program.process_id, EVERYTHING) for _ in range(3)]

    assert lake.builder.jobs == [1]
    assert answers[0] == answers[1] == answers[2]


async def test_many_who_ask_at_once_build_once(lake: Lake) -> None:
    program = Program()
    await lake.send([*program.registration(), program.log_block(), program.log_block()])
    one, other = lake.materializer(), lake.materializer()

    answers = await asyncio.gather(*(asker.ensure(LOGS, program.process_id, EVERYTHING) for asker in [one, other] * 4))

    assert lake.builder.jobs == [2]
    assert len(set(answers)) == 1
    assert await lake.pool.fetchval("SELECT count(*) FROM lake_objects") == 1


async def test_a_block_that_kills_its_decoder_is_found_and_left_out(lake: Lake) -> None:
    program = Program()
    blocks = await lake.send([*program.registration(), *(program.log_block() for _ in range(8))])
    lake.builder.hostile = {blocks[2], blocks[5]}

    fresh = await lake.materializer().ensure(LOGS, program.process_id, EVERYTHING)

    lost = {f"line {number}" for number in (*range(6, 9), *range(15, 18))}
    assert await lake.messages(fresh) == sorted({f"line {number}" for number in range(24)} - lost)
    assert fresh.missing_blocks == 2
    rows = await lake.pool.fetch("SELECT block_id, error FROM quarantined_blocks")
    assert {(str(row[0]), row[1]) for row in rows} == {
        (block, "its decoder died: killed by signal 11") for block in lake.builder.hostile
    }


async def test_a_payload_that_is_gone_fails_the_query_and_is_not_quarantined(lake: Lake) -> None:
    program = Program()
    (block,) = await lake.send([*program.registration(), program.log_block()])
    await lake.store.delete([blob_key(program.process_id, program.log_stream, block)])

    with pytest.raises(BackendUnavailableError, match="missing in the store"):
        await lake.materializer().ensure(LOGS, program.process_id, EVERYTHING)

    assert await lake.pool.fetchval("SELECT count(*) FROM quarantined_blocks") == 0
    assert await lake.pool.fetchval("SELECT count(*) FROM lakehouse_partitions") == 0


async def test_a_range_that_no_block_claims_builds_nothing(lake: Lake) -> None:
    program = Program()
    await lake.send([*program.registration(), program.log_block()])

    fresh = await lake.materializer().ensure(LOGS, program.process_id, TimeRange(None, START_NS - HOUR_NS))

    assert fresh == Freshened((), 0)
    assert lake.builder.jobs == []


async def test_more_bytes_than_a_query_may_decode_are_an_error_that_names_the_limit(lake: Lake) -> None:
    program = Program()
    await lake.send([*program.registration(), program.log_block()])

    with pytest.raises(LimitExceededError, match="more than 10 bytes of blocks of log_entries"):
        await lake.materializer(freshen_bytes_max=10).ensure(LOGS, program.process_id, EVERYTHING)


async def test_an_unknown_process_leaves_no_trace(lake: Lake) -> None:
    with pytest.raises(UnknownViewError, match="not found"):
        await lake.materializer().ensure(LOGS, "00000000-0000-4000-8000-000000000001", EVERYTHING)

    assert await lake.pool.fetchval("SELECT count(*) FROM view_instances") == 0


async def test_a_later_estimate_of_an_unknown_clock_makes_a_bucket_anew(lake: Lake) -> None:
    """The first block says one tick is a nanosecond, the second that it is two."""
    program = Program()
    spans = view_of("thread_spans")
    registration = program.registration()
    await lake.send([*registration, program.thread_block()])
    await lake.pool.execute("UPDATE processes SET tsc_frequency = 0")
    await lake.materializer().ensure(spans, program.thread_stream, EVERYTHING)
    (before,) = (await lake.materializer().ensure(spans, program.thread_stream, EVERYTHING)).partitions
    assert lake.builder.jobs == [1]

    await lake.send([program.log_block()])  # another stream of the process moves its clock
    await lake.pool.execute(
        "UPDATE blocks SET end_ticks = 4 * end_ticks WHERE stream_id = $1::uuid", program.log_stream
    )

    (after,) = (await lake.materializer().ensure(spans, program.thread_stream, EVERYTHING)).partitions

    assert lake.builder.jobs == [1, 1]
    assert after.key != before.key
    assert after.max_event_ns < before.max_event_ns


async def test_a_narrow_range_finds_the_rows_that_a_later_estimate_moves_into_it(lake: Lake) -> None:
    program = Program()
    spans = view_of("thread_spans")
    await lake.send([*program.registration(), program.thread_block()])
    await lake.pool.execute("UPDATE processes SET tsc_frequency = 0")
    (before,) = (await lake.materializer().ensure(spans, program.thread_stream, EVERYTHING)).partitions
    later = TimeRange(before.max_event_ns + 1, None)
    assert (await lake.materializer().ensure(spans, program.thread_stream, later)).partitions == ()
    await lake.send([program.log_block()])
    await lake.pool.execute(
        "UPDATE blocks SET end_time = end_time + interval '9 s' WHERE stream_id = $1::uuid", program.log_stream
    )

    (after,) = (await lake.materializer().ensure(spans, program.thread_stream, later)).partitions

    assert after.max_event_ns > before.max_event_ns


async def test_an_intent_that_ran_out_means_building_again_not_a_row_without_a_file(lake: Lake) -> None:
    program = Program()
    await lake.send([*program.registration(), program.log_block()])
    reaped: list[str] = []
    publish = lake.store.put_file

    async def slow_put(key: str, source: Path) -> None:
        await publish(key, source)
        if not reaped:
            await lake.pool.execute("UPDATE staged_writes SET lease_expires_at = clock_timestamp() - interval '1 s'")
            claimed = await lake.catalog.claim_expired_intents(10)
            reaped.extend(path for _, path in claimed)
            await lake.store.delete(reaped)

    lake.store.put_file = slow_put  # type: ignore[method-assign]

    fresh = await lake.materializer().ensure(LOGS, program.process_id, EVERYTHING)

    assert len(reaped) == 1
    assert await lake.messages(fresh) == ["line 0", "line 1", "line 2"]
    assert [partition.key for partition in fresh.partitions] != reaped


async def test_objects_of_replaced_partitions_go_after_their_grace(lake: Lake) -> None:
    program = Program()
    spans = view_of("thread_spans")
    materializer = lake.materializer()
    await lake.send([*program.registration(), program.thread_block()])
    first = await materializer.ensure(spans, program.thread_stream, EVERYTHING)
    await lake.send([program.thread_block()])
    second = await materializer.ensure(spans, program.thread_stream, EVERYTHING)

    assert await lake.catalog.condemn_unreferenced(timedelta(hours=1), 10) == []
    condemned = await lake.catalog.condemn_unreferenced(timedelta(0), 10)

    assert [path for _, path in condemned] == [partition.key for partition in first.partitions]
    assert await lake.store.size(second.partitions[0].key) == second.partitions[0].size_bytes
