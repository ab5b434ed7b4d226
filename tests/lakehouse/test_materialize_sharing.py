"""Queries that need the same buckets, or the same few places to build them: who waits for whom, and who pays."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import timedelta

import pytest

from lakehouse.buckets.decoding import JobLimits
from lakehouse.buckets.materialize import Materializer
from lakehouse.buckets.model import Lease
from lakehouse.buckets.sharing import Progress
from lakehouse.errors import BackendUnavailableError, InternalError, LimitExceededError
from lakehouse.jobs.build import BuildJob
from lakehouse.model import EVERYTHING, TimeRange
from tests.support.materializer_lake import Lake, view_of
from tests.support.programs import Program

LOGS = view_of("log_entries")


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 (what is waited for is inside of the code under test)
            await asyncio.sleep(0.005)


async def idle(materializer: Materializer) -> None:
    await until(lambda: materializer.under_way == 0)


async def made_up(lake: Lake, hours: int) -> tuple[Program, list[str]]:
    """A program that sent one block in each of the last hours."""
    program = Program()
    blocks = await lake.send([*program.registration(), *(program.log_block() for _ in range(hours))])
    await lake.spread(blocks)
    return program, blocks


async def test_what_a_cancelled_query_still_waits_for_is_not_built(lake: Lake) -> None:
    program, _ = await made_up(lake, 10)
    gate = lake.builder.close_gate()
    materializer = lake.materializer(buckets_at_once=2)
    query = asyncio.create_task(materializer.ensure(LOGS, program.process_id, EVERYTHING))
    await until(lambda: len(lake.builder.jobs) == 2)

    query.cancel()
    begin = time.monotonic()
    await asyncio.gather(query, return_exceptions=True)
    gone_s = time.monotonic() - begin
    gate.set()
    await idle(materializer)

    assert gone_s < 0.5
    assert lake.builder.sizes == [1, 1]
    # What was under way is kept: a client that gives up and asks again gets on.
    assert len(await lake.partition_rows()) == 2


@pytest.mark.parametrize("leaves", ["before the other comes", "while the other waits"])
async def test_what_nobody_waits_for_any_more_makes_room_for_what_somebody_does(lake: Lake, leaves: str) -> None:
    left, _ = await made_up(lake, 1)
    wanted, _ = await made_up(lake, 1)
    lake.builder.close_gate()
    materializer = lake.materializer(buckets_at_once=2)  # more than there may be workers
    first = asyncio.create_task(materializer.ensure(LOGS, left.process_id, EVERYTHING))
    await until(lambda: len(lake.builder.jobs) == 1)
    if leaves == "before the other comes":
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)

    other = asyncio.create_task(materializer.ensure(LOGS, wanted.process_id, EVERYTHING))
    await until(lambda: len(lake.builder.jobs) == 2)
    first.cancel()

    await until(lambda: len(list(lake.scratch.iterdir())) == 1)
    assert not other.done()
    lake.builder.gate.set()
    await other


async def test_what_nobody_waits_for_any_more_has_a_limit(lake: Lake) -> None:
    program, (block,) = await made_up(lake, 1)
    lake.builder.close_gate(block)
    materializer = lake.materializer(abandoned_s_max=0.2)
    query = asyncio.create_task(materializer.ensure(LOGS, program.process_id, EVERYTHING))
    await until(lambda: len(lake.builder.jobs) == 1)

    query.cancel()
    await asyncio.gather(query, return_exceptions=True)

    assert materializer.under_way
    await idle(materializer)
    await until(lambda: list(lake.scratch.iterdir()) == [])


async def test_the_search_for_a_block_that_kills_its_decoder_ends_whoever_leaves(lake: Lake) -> None:
    """Were it given up, the next query would begin it again, and the hour could never be read."""
    program = Program()
    blocks = await lake.send([*program.registration(), *(program.log_block() for _ in range(8))])
    lake.builder.hostile = {blocks[5]}
    lake.builder.pause = lambda job: asyncio.sleep(0.05)
    materializer = lake.materializer(abandoned_s_max=0.0)
    query = asyncio.create_task(materializer.ensure(LOGS, program.process_id, EVERYTHING))
    await until(lambda: len(lake.builder.jobs) > 2)

    query.cancel()
    await asyncio.gather(query, return_exceptions=True)
    await idle(materializer)

    jobs = len(lake.builder.jobs)
    fresh = await lake.materializer().ensure(LOGS, program.process_id, EVERYTHING)
    assert fresh.missing_blocks == 1
    assert len(lake.builder.jobs) == jobs


async def test_who_comes_back_finds_the_build_that_was_left(lake: Lake) -> None:
    program, (block,) = await made_up(lake, 1)
    gate = lake.builder.close_gate(block)
    materializer = lake.materializer(abandoned_s_max=0.3)
    for _ in range(3):
        query = asyncio.create_task(materializer.ensure(LOGS, program.process_id, EVERYTHING))
        await until(lambda: len(lake.builder.jobs) == 1)
        await asyncio.sleep(0.02)
        query.cancel()
        await asyncio.gather(query, return_exceptions=True)
    again = asyncio.create_task(materializer.ensure(LOGS, program.process_id, EVERYTHING))
    await asyncio.sleep(0.5)
    gate.set()

    await again

    assert lake.builder.sizes == [1]


async def test_a_query_of_many_instances_takes_no_more_places_than_one_of_a_single_one(lake: Lake) -> None:
    programs = [(await made_up(lake, 1))[0] for _ in range(6)]
    other, _ = await made_up(lake, 1)
    gate = lake.builder.close_gate()
    materializer = lake.materializer(buckets_at_once=2)
    allowance = materializer.allowance(Progress())
    many = asyncio.gather(
        *(materializer.ensure(LOGS, program.process_id, EVERYTHING, allowance) for program in programs)
    )
    await until(lambda: len(lake.builder.jobs) == 2)
    single = asyncio.create_task(materializer.ensure(LOGS, other.process_id, EVERYTHING))
    await asyncio.sleep(0.1)

    gate.set()
    await single

    assert not many.done()
    assert [job.instance for job in lake.builder.jobs].index(other.process_id) <= 3
    await many


async def test_a_query_that_runs_out_of_time_leaves_no_queue_behind(lake: Lake) -> None:
    program, _ = await made_up(lake, 10)
    gate = lake.builder.close_gate()
    materializer = lake.materializer(buckets_at_once=2, freshen_s_max=0.5)

    with pytest.raises(LimitExceededError, match=r"took more than 0\.5 s"):
        await materializer.ensure(LOGS, program.process_id, EVERYTHING)
    gate.set()
    await idle(materializer)

    assert len(lake.builder.jobs) <= 2


async def test_a_query_for_one_bucket_does_not_wait_for_all_of_another(lake: Lake) -> None:
    many, _ = await made_up(lake, 12)
    one, _ = await made_up(lake, 1)
    gate = lake.builder.close_gate()
    materializer = lake.materializer(buckets_at_once=2)
    long = asyncio.create_task(materializer.ensure(LOGS, many.process_id, EVERYTHING))
    await until(lambda: len(lake.builder.jobs) == 2)
    short = asyncio.create_task(materializer.ensure(LOGS, one.process_id, EVERYTHING))
    await asyncio.sleep(0.1)

    gate.set()
    await short

    assert not long.done()
    assert [job.instance for job in lake.builder.jobs].index(one.process_id) <= 4
    await long


async def test_a_bucket_that_another_server_builds_keeps_no_place_from_others(lake: Lake) -> None:
    slow, (block,) = await made_up(lake, 1)
    quick, _ = await made_up(lake, 1)
    gate = lake.builder.close_gate(block)
    here, there = lake.materializer(buckets_at_once=1), lake.materializer(buckets_at_once=1)
    building = asyncio.create_task(there.ensure(LOGS, slow.process_id, EVERYTHING))
    await until(lambda: len(lake.builder.jobs) == 1)
    waiting = asyncio.create_task(here.ensure(LOGS, slow.process_id, EVERYTHING))
    await asyncio.sleep(0.1)

    async with asyncio.timeout(10):
        await here.ensure(LOGS, quick.process_id, EVERYTHING)
    gate.set()

    assert await waiting == await building
    assert lake.builder.sizes == [1, 1]


async def test_a_query_that_waits_for_another_server_is_gone_when_it_is_cancelled(lake: Lake) -> None:
    program, _ = await made_up(lake, 1)
    gate = lake.builder.close_gate()
    here, there = lake.materializer(), lake.materializer()
    building = asyncio.create_task(there.ensure(LOGS, program.process_id, EVERYTHING))
    await until(lambda: len(lake.builder.jobs) == 1)
    waiting = asyncio.create_task(here.ensure(LOGS, program.process_id, EVERYTHING))
    await asyncio.sleep(0.1)

    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert not here.under_way

    gate.set()
    await building
    await idle(there)


@pytest.mark.parametrize("lost", ["query", "answer"])
async def test_a_bucket_whose_holder_never_heard_of_it_is_not_held(lake: Lake, lost: str) -> None:
    """The query is cancelled, or the connection breaks, when a lease is taken and the answer is on its way."""
    program, _ = await made_up(lake, 1)
    materializer = lake.materializer(lease_s=600.0)
    take_lease, taken = lake.catalog.take_lease, asyncio.Event()

    async def take_and_say_nothing(lease: Lease, owner: str, lasts: timedelta) -> bool:
        await take_lease(lease, owner, lasts)
        taken.set()
        if lost == "answer":
            raise BackendUnavailableError("the database is not available: no connection")
        return await asyncio.Event().wait()

    lake.catalog.take_lease = take_and_say_nothing  # type: ignore[method-assign]
    query = asyncio.create_task(materializer.ensure(LOGS, program.process_id, EVERYTHING))
    await taken.wait()
    if lost == "query":
        query.cancel()
    await asyncio.gather(query, return_exceptions=True)
    lake.catalog.take_lease = take_lease  # type: ignore[method-assign]

    async with asyncio.timeout(20):
        await materializer.ensure(LOGS, program.process_id, EVERYTHING)

    assert await lake.held() == 0


async def test_whoever_may_not_ask_for_more_is_told_and_the_others_get_it(lake: Lake) -> None:
    """Both wait for the same bucket, for one of them it is the second."""
    program, blocks = await made_up(lake, 2)
    gate = lake.builder.close_gate(blocks[0])
    materializer = lake.materializer(buckets_at_once=1, freshen_bytes_max=max(await lake.payload_sizes()) + 1)
    greedy = asyncio.create_task(materializer.ensure(LOGS, program.process_id, EVERYTHING))
    await until(lambda: len(lake.builder.jobs) == 1)
    recent = TimeRange(begin_ns=time.time_ns() - 1_200_000_000_000)
    modest = asyncio.create_task(materializer.ensure(LOGS, program.process_id, recent))
    await asyncio.sleep(0.1)
    gate.set()

    answers = await asyncio.gather(greedy, modest, return_exceptions=True)

    assert isinstance(answers[0], LimitExceededError)
    assert not isinstance(answers[1], BaseException)
    assert lake.builder.sizes == [1, 1]


async def test_nobody_writes_into_a_folder_that_is_gone(lake: Lake) -> None:
    """A job that fails takes those beside it along before the folder of both is removed."""
    program = Program()
    bad, good = await lake.send([*program.registration(), program.log_block(), program.log_block()])
    had_folder: list[bool] = []
    both = asyncio.Event()

    async def pause(job: BuildJob) -> None:
        if job.blocks[0].block_id == bad:
            await both.wait()
            raise InternalError("no luck")
        try:
            both.set()
            await asyncio.sleep(2)
        finally:
            had_folder.append(all(folder.exists() for folder in lake.builder.outputs))

    lake.builder.pause = pause
    materializer = lake.materializer(JobLimits(blocks_max=1))

    with pytest.raises(InternalError, match="no luck"):
        await materializer.ensure(LOGS, program.process_id, EVERYTHING)

    assert good in {job.blocks[0].block_id for job in lake.builder.jobs}
    assert had_folder == [True]
    assert list(lake.scratch.iterdir()) == []


async def test_a_cancel_at_any_moment_leaves_no_rubbish_and_no_lock(lake: Lake) -> None:
    program = Program()
    await lake.send(program.registration())
    materializer = lake.materializer()
    for step in range(25):
        await lake.send([program.log_block(1)])
        query = asyncio.create_task(materializer.ensure(LOGS, program.process_id, EVERYTHING))
        await asyncio.sleep(step * 0.002)
        query.cancel()
        await asyncio.gather(query, return_exceptions=True)
    await idle(materializer)

    fresh = await materializer.ensure(LOGS, program.process_id, EVERYTHING)

    assert await lake.messages(fresh) == sorted(f"line {number}" for number in range(25))
    assert await lake.held() == 0
    assert list(lake.scratch.iterdir()) == []
    assert set(await lake.store.list("_schema")) == await lake.object_keys()
