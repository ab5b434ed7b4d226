"""Making a view instance fresh: over a real database and a real store, with a builder that can be made to fail."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from lakeflight.wire.envelope import decode_block, encode_block
from lakeflight.wire.transit.types import LOG_TYPES
from lakehouse.buckets.decoding import JobLimits
from lakehouse.buckets.materialize import Freshened
from lakehouse.errors import BackendUnavailableError, LimitExceededError, UnknownViewError
from lakehouse.model import EVERYTHING, TimeRange
from lakehouse.storage.paths import blob_key
from tests.support.fixtures import Request
from tests.support.materializer_lake import Lake, view_of
from tests.support.programs import START_NS, Program

HOUR_NS = 3_600_000_000_000
LOGS = view_of("log_entries")


async def test_new_blocks_of_an_open_bucket_become_one_more_partition(lake: Lake) -> None:
    program = Program()
    materializer = lake.materializer()
    await lake.send([*program.registration(), program.log_block()])
    await materializer.ensure(LOGS, program.process_id, EVERYTHING)
    await lake.send([program.log_block(), program.log_block()])

    fresh = await materializer.ensure(LOGS, program.process_id, EVERYTHING)

    assert lake.builder.sizes == [1, 2]
    assert len(fresh.partitions) == 2
    assert await lake.messages(fresh) == sorted(f"line {number}" for number in range(9))


async def test_what_is_fresh_is_not_built_again(lake: Lake) -> None:
    program = Program()
    await lake.send([*program.registration(), program.log_block()])

    answers = [await lake.materializer().ensure(LOGS, program.process_id, EVERYTHING) for _ in range(3)]

    assert lake.builder.sizes == [1]
    assert answers[0] == answers[1] == answers[2]


@pytest.mark.parametrize("claim", [-(1 << 31), -1, 0, (1 << 31) - 1])
async def test_a_block_may_claim_any_number_of_objects(lake: Lake, claim: int) -> None:
    program = Program()
    thread = decode_block(program.thread_block().body)
    log = decode_block(program.log_block().body)
    await lake.send(program.registration())
    for block in (thread, log):
        await lake.send([Request("/ingestion/insert_block", {}, encode_block(replace(block, nb_objects=claim)))])

    logs = await lake.materializer().ensure(LOGS, program.process_id, EVERYTHING)
    spans = await lake.materializer().ensure(view_of("thread_spans"), program.thread_stream, EVERYTHING)

    assert len(await lake.messages(logs)) == 3
    assert len(spans.partitions) == 1


async def test_many_who_ask_at_once_build_once(lake: Lake) -> None:
    program = Program()
    await lake.send([*program.registration(), program.log_block(), program.log_block()])
    one, other = lake.materializer(), lake.materializer()

    answers = await asyncio.gather(*(asker.ensure(LOGS, program.process_id, EVERYTHING) for asker in [one, other] * 4))

    assert lake.builder.sizes == [2]
    assert len(set(answers)) == 1
    assert len(await lake.object_keys()) == 1


async def test_a_block_that_kills_its_decoder_is_found_and_left_out(lake: Lake) -> None:
    program = Program()
    blocks = await lake.send([*program.registration(), *(program.log_block() for _ in range(8))])
    lake.builder.hostile = {blocks[2], blocks[5]}

    fresh = await lake.materializer().ensure(LOGS, program.process_id, EVERYTHING)

    lost = {f"line {number}" for number in (*range(6, 9), *range(15, 18))}
    assert await lake.messages(fresh) == sorted({f"line {number}" for number in range(24)} - lost)
    assert fresh.missing_blocks == 2
    assert await lake.quarantined() == dict.fromkeys(lake.builder.hostile, "its decoder died: killed by signal 11")


async def test_a_worker_that_others_killed_costs_no_block(lake: Lake) -> None:
    """A system short of memory ends the largest process, whatever it was at."""
    program = Program()
    await lake.send([*program.registration(), program.log_block()])
    lake.builder.deaths = 2

    fresh = await lake.materializer().ensure(LOGS, program.process_id, EVERYTHING)

    assert await lake.messages(fresh) == ["line 0", "line 1", "line 2"]
    assert fresh.missing_blocks == 0
    assert await lake.quarantined() == {}


async def test_a_job_is_handed_what_its_blocks_refer_to_and_no_more(lake: Lake) -> None:
    first, second = Program(), Program()
    await lake.send([*first.registration(), *second.registration(), first.log_block(), second.log_block()])
    materializer = lake.materializer()
    await materializer.ensure(LOGS, "global", EVERYTHING)
    await lake.send([second.log_block()])

    await materializer.ensure(LOGS, "global", EVERYTHING)

    (job,) = lake.builder.jobs[1:]
    assert [process.process_id for process in job.processes] == [second.process_id]
    assert [stream.stream_id for stream in job.streams] == [second.log_stream]


async def test_jobs_are_cut_by_what_their_streams_were_registered_with(lake: Lake) -> None:
    """Many small blocks of large streams would together be more than a worker takes."""
    programs = [Program() for _ in range(4)]
    for program in programs:
        await lake.send([*program.registration(), program.log_block(), program.log_block()])
    whole = len(LOG_TYPES.dependencies_metadata) + len(LOG_TYPES.objects_metadata)

    fresh = await lake.materializer(JobLimits(metadata_bytes_max=2 * whole)).ensure(LOGS, "global", EVERYTHING)

    assert lake.builder.sizes == [2, 2, 2, 2]
    assert len(await lake.messages(fresh)) == 24


async def test_a_block_with_too_large_a_registration_is_left_out_and_no_other(lake: Lake) -> None:
    modest, excessive = Program(), Program()
    await lake.send([*modest.registration(), *excessive.registration(), modest.log_block()])
    await lake.enlarge(excessive.process_id, 100_000)
    (block,) = await lake.send([excessive.log_block()])
    materializer = lake.materializer(JobLimits(block_metadata_bytes_max=100_000))

    fresh = [await materializer.ensure(LOGS, "global", EVERYTHING) for _ in range(2)]

    assert fresh[0] == fresh[1]
    assert fresh[0].missing_blocks == 1
    assert await lake.messages(fresh[0]) == ["line 0", "line 1", "line 2"]
    assert lake.builder.sizes == [1]
    ((set_aside, reason),) = (await lake.quarantined()).items()
    assert set_aside == block
    assert "bytes of properties and type tables, the limit is 100000" in reason


async def test_a_chain_with_too_large_a_registration_is_left_out(lake: Lake) -> None:
    program = Program()
    await lake.send([*program.registration(), program.thread_block(), program.thread_block()])

    fresh = await lake.materializer(JobLimits(block_metadata_bytes_max=10)).ensure(
        view_of("thread_spans"), program.thread_stream, EVERYTHING
    )

    assert fresh == Freshened((), 2)
    assert lake.builder.jobs == []


def _file_of(lake: Lake, tmp_path: Path, fresh: Freshened) -> Path:
    return tmp_path / "store" / fresh.partitions[0].key


async def test_a_partition_file_that_is_lost_is_made_again(lake: Lake, tmp_path: Path) -> None:
    program = Program()
    await lake.send([*program.registration(), program.log_block()])
    materializer = lake.materializer()
    await materializer.ensure(LOGS, program.process_id, EVERYTHING)
    await lake.send([program.log_block()])
    before = (await lake.local(materializer, LOGS, program.process_id)).fresh
    _file_of(lake, tmp_path, before).unlink()

    answers = await asyncio.gather(
        *(lake.local(materializer, LOGS, program.process_id) for _ in range(4)),
        lake.local(lake.materializer(), LOGS, program.process_id),
    )

    assert lake.builder.sizes == [1, 1, 2]
    for local in answers:
        assert await lake.messages(local.fresh) == [f"line {number}" for number in range(6)]
        assert set(local.paths) == {partition.key for partition in local.fresh.partitions}


async def test_a_partition_file_that_was_cut_off_is_made_again(lake: Lake, tmp_path: Path) -> None:
    program = Program()
    await lake.send([*program.registration(), program.log_block()])
    before = (await lake.local(lake.materializer(), LOGS, program.process_id)).fresh
    os.truncate(_file_of(lake, tmp_path, before), 100)

    fresh = (await lake.local(lake.materializer(), LOGS, program.process_id)).fresh

    assert await lake.messages(fresh) == ["line 0", "line 1", "line 2"]
    assert fresh.partitions[0].key != before.partitions[0].key


async def test_a_lost_partition_without_its_blocks_is_an_error_that_says_so(lake: Lake, tmp_path: Path) -> None:
    """Neither fewer rows nor an empty bucket in its place."""
    program = Program()
    block, _ = await lake.send([*program.registration(), program.log_block(), program.log_block()])
    before = (await lake.local(lake.materializer(), LOGS, program.process_id)).fresh
    _file_of(lake, tmp_path, before).unlink()
    await lake.remove_block(block)

    for _ in range(2):
        with pytest.raises(
            BackendUnavailableError,
            match=r"log_entries of .* in the hour or day from 20.*:00 \(UTC\) are lost .*: 1 of the blocks .* not kept",
        ):
            await lake.local(lake.materializer(), LOGS, program.process_id)

    assert sum(await lake.partition_rows()) == 6


async def test_a_lost_partition_whose_payloads_are_gone_is_an_error_that_says_so(lake: Lake, tmp_path: Path) -> None:
    program = Program()
    (block,) = await lake.send([*program.registration(), program.log_block()])
    before = (await lake.local(lake.materializer(), LOGS, program.process_id)).fresh
    _file_of(lake, tmp_path, before).unlink()
    await lake.store.delete([blob_key(program.process_id, program.log_stream, block)])

    with pytest.raises(BackendUnavailableError, match=r"could not be made again: an object is missing in the store"):
        await lake.local(lake.materializer(), LOGS, program.process_id)


async def test_trouble_of_the_store_is_not_taken_for_a_loss(lake: Lake) -> None:
    program = Program()
    await lake.send([*program.registration(), program.log_block()])
    materializer = lake.materializer()
    await lake.local(materializer, LOGS, program.process_id)

    @asynccontextmanager
    async def failing(keys: object) -> AsyncIterator[list[Path]]:
        raise BackendUnavailableError("the object store failed")
        yield

    lake.store.localize = failing  # type: ignore[method-assign]

    with pytest.raises(BackendUnavailableError, match=r"^the object store failed$"):
        await lake.local(materializer, LOGS, program.process_id)
    assert lake.builder.sizes == [1]


async def test_a_payload_that_is_gone_fails_the_query_and_is_not_quarantined(lake: Lake) -> None:
    program = Program()
    (block,) = await lake.send([*program.registration(), program.log_block()])
    await lake.store.delete([blob_key(program.process_id, program.log_stream, block)])

    with pytest.raises(BackendUnavailableError, match="missing in the store"):
        await lake.materializer().ensure(LOGS, program.process_id, EVERYTHING)

    assert await lake.quarantined() == {}
    assert await lake.partition_rows() == []


async def test_a_range_that_no_block_claims_builds_nothing(lake: Lake) -> None:
    program = Program()
    await lake.send([*program.registration(), program.log_block()])

    fresh = await lake.materializer().ensure(LOGS, program.process_id, TimeRange(None, START_NS - HOUR_NS))

    assert fresh == Freshened((), 0)
    assert lake.builder.sizes == []


async def test_more_bytes_than_a_query_may_decode_are_an_error_that_names_the_limit(lake: Lake) -> None:
    program = Program()
    await lake.send([*program.registration(), program.log_block()])

    with pytest.raises(LimitExceededError, match="more than 10 bytes of blocks of log_entries"):
        await lake.materializer(freshen_bytes_max=10).ensure(LOGS, program.process_id, EVERYTHING)


async def test_an_unknown_process_leaves_no_trace(lake: Lake) -> None:
    with pytest.raises(UnknownViewError, match="not found"):
        await lake.materializer().ensure(LOGS, "00000000-0000-4000-8000-000000000001", EVERYTHING)

    assert await lake.instances() == 0


async def test_a_later_estimate_of_an_unknown_clock_makes_a_bucket_anew(lake: Lake) -> None:
    """The first block says one tick is a nanosecond, the second that it is two."""
    program = Program()
    spans = view_of("thread_spans")
    registration = program.registration()
    await lake.send([*registration, program.thread_block()])
    await lake.forget_clocks()
    await lake.materializer().ensure(spans, program.thread_stream, EVERYTHING)
    (before,) = (await lake.materializer().ensure(spans, program.thread_stream, EVERYTHING)).partitions
    assert lake.builder.sizes == [1]

    await lake.send([program.log_block()])  # another stream of the process moves its clock
    await lake.restate(program.log_stream, ticks_factor=4)

    (after,) = (await lake.materializer().ensure(spans, program.thread_stream, EVERYTHING)).partitions

    assert lake.builder.sizes == [1, 1]
    assert after.key != before.key
    assert after.max_event_ns < before.max_event_ns


async def test_a_narrow_range_finds_the_rows_that_a_later_estimate_moves_into_it(lake: Lake) -> None:
    program = Program()
    spans = view_of("thread_spans")
    await lake.send([*program.registration(), program.thread_block()])
    await lake.forget_clocks()
    (before,) = (await lake.materializer().ensure(spans, program.thread_stream, EVERYTHING)).partitions
    later = TimeRange(before.max_event_ns + 1, None)
    assert (await lake.materializer().ensure(spans, program.thread_stream, later)).partitions == ()
    await lake.send([program.log_block()])
    await lake.restate(program.log_stream, later_s=9)

    (after,) = (await lake.materializer().ensure(spans, program.thread_stream, later)).partitions

    assert after.max_event_ns > before.max_event_ns


async def test_what_takes_longer_than_a_write_intent_lasts_is_built_once(lake: Lake) -> None:
    program = Program()
    await lake.send([*program.registration(), program.log_block()])
    renew, renewed = lake.catalog.renew_intents, asyncio.Event()

    async def notice(intents: Sequence[uuid.UUID], lasts: timedelta) -> None:
        await renew(intents, lasts)
        renewed.set()

    lake.catalog.renew_intents = notice  # type: ignore[method-assign]
    gate = lake.builder.close_gate()
    building = asyncio.create_task(lake.materializer(intent_s=4.0).ensure(LOGS, program.process_id, EVERYTHING))
    async with asyncio.timeout(30):
        while not lake.builder.jobs:  # noqa: ASYNC110 (what is waited for is inside of the code under test)
            await asyncio.sleep(0.01)
        for _ in range(2):
            await lake.expire_intents()
            renewed.clear()
            await renewed.wait()
            assert await lake.catalog.claim_expired_intents(10) == []
        gate.set()
        await building

    assert lake.builder.sizes == [1]
    assert await lake.held() == 0


async def test_what_could_not_be_written_is_left_to_the_reaper(lake: Lake) -> None:
    program = Program()
    await lake.send([*program.registration(), program.log_block()])

    async def refuse(key: str, source: Path) -> None:
        raise BackendUnavailableError("the store is not available")

    lake.store.put_file = refuse  # type: ignore[method-assign]
    with pytest.raises(BackendUnavailableError):
        await lake.materializer(intent_s=0.2).ensure(LOGS, program.process_id, EVERYTHING)

    async with asyncio.timeout(30):
        while not await lake.catalog.claim_expired_intents(10):  # noqa: ASYNC110 (time is what it takes)
            await asyncio.sleep(0.01)


async def test_an_intent_that_ran_out_means_building_again_not_a_row_without_a_file(lake: Lake) -> None:
    program = Program()
    await lake.send([*program.registration(), program.log_block()])
    reaped: list[str] = []
    publish = lake.store.put_file

    async def slow_put(key: str, source: Path) -> None:
        await publish(key, source)
        if not reaped:
            await lake.expire_intents()
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
