"""Buckets that nothing is added to any more become few and long, and no row of any view changes by it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from lakehouse import failpoints
from lakehouse.buckets.materialize import Materializer
from lakehouse.buckets.merging import MERGED_BYTES_MAX
from lakehouse.buckets.model import InstanceId
from lakehouse.buckets.planning import version_of
from lakehouse.failpoints import FailpointError
from lakehouse.model import EVERYTHING, GLOBAL_INSTANCE, ViewKey
from lakehouse.ports import View
from tests.support.fixtures import Request
from tests.support.lake_rows import rows_of
from tests.support.materializer_lake import Lake, view_of
from tests.support.programs import Program
from views import default_registry

LOGS, SPANS = view_of("log_entries"), view_of("thread_spans")
HOURS = 4
VIEWS = [view.view_set for view in default_registry().views]


async def sent_at(lake: Lake, hour: int, *requests: Request) -> list[str]:
    """Blocks that came in an hour of a day that is closed."""
    blocks = await lake.send(requests)
    await lake.make_older(blocks, hours=48 + datetime.now(UTC).hour - hour)
    return blocks


async def a_day(lake: Lake, *, hours: int = HOURS) -> Program:
    """Of logs and spans."""
    program = Program()
    await lake.send(program.registration())
    for hour in range(hours):
        await sent_at(lake, hour, program.log_block(lines=5 + hour), program.thread_block())
    return program


async def closed(lake: Lake, view: View, instance: str) -> Materializer:
    """All that there is of it is made, and sealed."""
    materializer = lake.materializer()
    await materializer.ensure(view, instance, EVERYTHING)
    await lake.catalog.seal_buckets()
    return materializer


async def merge(lake: Lake, materializer: Materializer, *views: View) -> int:
    """What maintenance does; how many days it found worth it."""
    by_version = {version_of(view): view for view in views or default_registry().views}
    days = await lake.catalog.mergeable_days(list(by_version), MERGED_BYTES_MAX, 100)
    for instance, day in days:
        await materializer.merge_day(by_version[instance.version], instance, day)
    return len(days)


async def merged_day(lake: Lake, view: View, instance: str) -> Materializer:
    materializer = await closed(lake, view, instance)
    assert await merge(lake, materializer, view) == 1
    assert await files(lake, view, instance) == 1
    return materializer


async def files(lake: Lake, view: View, instance: str) -> int:
    return len((await lake.materializer().ensure(view, instance, EVERYTHING)).partitions)


async def instance_of(lake: Lake, view: View, instance: str) -> InstanceId:
    found = await lake.catalog.find_instance(ViewKey(view.view_set, instance), version_of(view))
    assert found is not None
    return found


def instance_name(program: Program, view: View) -> str:
    return program.process_id if view.stream_tag is not None else program.thread_stream


@pytest.mark.parametrize("instance", ["process", "global"])
async def test_the_hours_of_a_closed_day_become_one_file_with_the_same_rows(lake: Lake, instance: str) -> None:
    program = await a_day(lake)
    name = program.process_id if instance == "process" else GLOBAL_INSTANCE
    materializer = await closed(lake, LOGS, name)
    before = await rows_of(lake, LOGS, name)
    built = len(lake.builder.jobs)

    assert await merge(lake, materializer, LOGS) == 1

    assert await files(lake, LOGS, name) == 1
    assert await rows_of(lake, LOGS, name) == before
    assert len(lake.builder.jobs) == built, "no block is decoded for it"
    assert await merge(lake, materializer, LOGS) == 0
    assert await lake.held() == 0


@pytest.mark.parametrize("view_set", VIEWS)
async def test_rows_of_every_view_are_the_same_before_and_after(lake: Lake, view_set: str) -> None:
    view, program = view_of(view_set), await a_day(lake, hours=2)
    for hour in (2, 3):
        await sent_at(lake, hour, *program.async_requests(), *program.net_requests(), *program.image_requests())
    name = program.process_id if view.instance_kind.value == "process" else program.thread_stream
    materializer = await closed(lake, view, name)
    before = await rows_of(lake, view, name)

    await merge(lake, materializer, view)

    assert await files(lake, view, name) <= 1
    after = await rows_of(lake, view, name)
    if view_set == "log_stats":
        assert (len(before), before.total(), len(after), after.total()) == (2, 2, 1, 1), (
            "parts of one minute are one part"
        )
        assert sum(row[-1] for row in after) == sum(row[-1] for row in before) == 5 + 6
    else:
        assert after == before


async def test_a_block_that_comes_late_is_added_to_the_merged_day(lake: Lake) -> None:
    program = await a_day(lake)
    await merged_day(lake, LOGS, program.process_id)
    before = await rows_of(lake, LOGS, program.process_id)
    (late,) = await sent_at(lake, 2, program.log_block(lines=2))
    hour_without = await sent_at(lake, HOURS + 1, program.log_block(lines=3))

    after = await rows_of(lake, LOGS, program.process_id)

    assert (after - before).total() == 5 and before <= after
    assert lake.builder.sizes[-1] == 2, "the two blocks, and no other"
    assert await files(lake, LOGS, program.process_id) == 2
    assert late and hour_without
    assert await rows_of(lake, LOGS, program.process_id) == await _from_blocks(lake, LOGS, program.process_id)


async def test_chains_still_end_at_the_hours_when_a_merged_day_is_made_again(lake: Lake) -> None:
    program = await a_day(lake)
    await merged_day(lake, SPANS, program.thread_stream)
    await sent_at(lake, 2, program.thread_block())

    after = await rows_of(lake, SPANS, program.thread_stream)

    assert after == await _from_blocks(lake, SPANS, program.thread_stream)


@pytest.mark.parametrize("view_set", ["log_entries", "thread_spans"])
@pytest.mark.parametrize("damage", ["lost", "changed"])
async def test_a_merged_file_that_is_lost_or_damaged_is_made_again_of_all_its_hours(
    lake: Lake, view_set: str, damage: str
) -> None:
    view, program = view_of(view_set), await a_day(lake)
    name = instance_name(program, view)
    materializer = await merged_day(lake, view, name)
    before = await rows_of(lake, view, name)
    (partition,) = (await materializer.ensure(view, name, EVERYTHING)).partitions
    if damage == "lost":
        await lake.store.delete([partition.key])
    else:
        async with lake.store.localize([partition.key]) as (path,):
            path.write_bytes(bytes(path.stat().st_size))

    await lake.local(lake.materializer(), view, name)

    assert await rows_of(lake, view, name) == before
    instance = await instance_of(lake, view, name)
    fragmented = await lake.catalog.fragmented_buckets([version_of(view)], 1, 10)
    assert [found for found, _ in fragmented] == ([instance] if view_set == "thread_spans" else [])
    for found, begin in fragmented:
        await materializer.compact(view, found, begin)
    assert await files(lake, view, name) == 1
    assert await rows_of(lake, view, name) == before


async def test_a_damaged_file_is_not_merged_but_made_again(lake: Lake) -> None:
    program = await a_day(lake)
    materializer = await closed(lake, LOGS, program.process_id)
    before = await rows_of(lake, LOGS, program.process_id)
    partitions = (await materializer.ensure(LOGS, program.process_id, EVERYTHING)).partitions
    async with lake.store.localize([partitions[1].key]) as (path,):
        content = bytearray(path.read_bytes())
        content[8] ^= 0xFF
        path.write_bytes(content)

    await merge(lake, materializer, LOGS)

    assert await files(lake, LOGS, program.process_id) == HOURS
    assert await rows_of(lake, LOGS, program.process_id) == before
    await lake.catalog.seal_buckets()
    await merge(lake, materializer, LOGS)
    assert await files(lake, LOGS, program.process_id) == 1
    assert await rows_of(lake, LOGS, program.process_id) == before


async def test_what_is_frozen_keeps_its_rows_when_it_is_merged_after_its_blocks_are_gone(lake: Lake) -> None:
    program = await a_day(lake)
    materializer = await closed(lake, LOGS, program.process_id)
    before = await rows_of(lake, LOGS, program.process_id)
    instance = await instance_of(lake, LOGS, program.process_id)
    begins = [bucket.begin for bucket in await lake.look(LOGS, instance)]
    for begin in begins[:-1]:
        assert await lake.catalog.freeze(instance, begin)
    assert await merge(lake, materializer, LOGS) == 0, "what could be made again would become what cannot"
    assert await lake.catalog.freeze(instance, begins[-1])
    for block in [block for job in lake.builder.jobs for block in job.blocks]:
        await lake.remove_block(block.block_id)

    assert await merge(lake, materializer, LOGS) == 1

    assert await files(lake, LOGS, program.process_id) == 1
    assert await rows_of(lake, LOGS, program.process_id) == before
    await sent_at(lake, 1, program.log_block())
    fresh = await lake.materializer().ensure(LOGS, program.process_id, EVERYTHING)
    assert fresh.missing_blocks == 1, "it is never made from blocks again"
    assert await rows_of(lake, LOGS, program.process_id) == before


async def test_hours_with_different_estimates_of_a_clock_become_a_day_with_one(lake: Lake) -> None:
    program = Program()
    await lake.send(program.registration())
    await lake.forget_clocks()
    for hour in range(HOURS):
        await sent_at(lake, hour, program.thread_block())
        materializer = await closed(lake, SPANS, program.thread_stream)

    assert await merge(lake, materializer, SPANS) == 1

    merged = await rows_of(lake, SPANS, program.thread_stream)
    assert merged == await _from_blocks(lake, SPANS, program.thread_stream)
    assert merged.total() > HOURS


@pytest.mark.parametrize("name", ["reserve", "write", "seal", "commit"])
async def test_a_crash_anywhere_leaves_the_hours_or_the_day(lake: Lake, name: str) -> None:
    program = await a_day(lake)
    materializer = await closed(lake, LOGS, program.process_id)
    before = await rows_of(lake, LOGS, program.process_id)
    failpoints.arm(f"{name}:raise")
    try:
        with pytest.raises(FailpointError):
            await merge(lake, materializer, LOGS)
    finally:
        failpoints.arm("")

    assert await files(lake, LOGS, program.process_id) == (1 if name == "commit" else HOURS)
    assert await rows_of(lake, LOGS, program.process_id) == before
    await merge(lake, materializer, LOGS)
    assert await files(lake, LOGS, program.process_id) == 1
    assert await rows_of(lake, LOGS, program.process_id) == before
    await lake.expire_intents()
    assert len(await lake.catalog.claim_expired_intents(10)) == (0 if name == "commit" else 1)


async def test_two_servers_that_merge_the_same_day_make_one_set_of_files(lake: Lake) -> None:
    program = await a_day(lake)
    await closed(lake, LOGS, program.process_id)
    before = await rows_of(lake, LOGS, program.process_id)

    await asyncio.gather(*(merge(lake, lake.materializer(), LOGS) for _ in range(2)))

    assert await files(lake, LOGS, program.process_id) == 1
    assert await rows_of(lake, LOGS, program.process_id) == before
    assert len(lake.builder.merges) == 1
    await lake.catalog.condemn_unreferenced(timedelta(seconds=-1), 100)
    assert await lake.held() == 0


async def test_a_block_that_comes_while_its_day_is_merged_is_found(lake: Lake) -> None:
    program = await a_day(lake)
    materializer = await closed(lake, LOGS, program.process_id)
    before = await rows_of(lake, LOGS, program.process_id)
    lake.builder.merge_gate.clear()
    merging = asyncio.create_task(merge(lake, materializer, LOGS))
    while not lake.builder.merges:  # noqa: ASYNC110 (a list)
        await asyncio.sleep(0.01)
    await sent_at(lake, 1, program.log_block(lines=2))
    during = await rows_of(lake, LOGS, program.process_id)
    lake.builder.merge_gate.set()
    await merging

    assert (during - before).total() == 2 and before <= during
    assert await rows_of(lake, LOGS, program.process_id) == during
    await lake.catalog.seal_buckets()
    await merge(lake, materializer, LOGS)
    assert await files(lake, LOGS, program.process_id) == 1
    assert await rows_of(lake, LOGS, program.process_id) == during


async def test_a_day_of_one_bucket_or_of_many_bytes_is_looked_at_once(lake: Lake) -> None:
    small, large = Program(), await a_day(lake)
    await lake.send(small.registration())
    await sent_at(lake, 0, small.log_block())
    for program in (small, large):
        await closed(lake, LOGS, program.process_id)
    versions = [version_of(LOGS)]

    assert await lake.catalog.mergeable_days(versions, 1, 10) == []

    assert await lake.catalog.mergeable_days(versions, MERGED_BYTES_MAX, 10) == [], "both are settled"
    await sent_at(lake, 1, small.log_block())
    await closed(lake, LOGS, small.process_id)
    found = await lake.catalog.mergeable_days(versions, MERGED_BYTES_MAX, 10)
    assert [instance.key.instance for instance, _ in found] == [small.process_id]


async def test_today_is_left_alone(lake: Lake) -> None:
    program = Program()
    blocks = await lake.send([*program.registration(), program.log_block(), program.log_block()])
    await lake.spread(blocks)
    materializer = await closed(lake, LOGS, program.process_id)

    merged = await merge(lake, materializer, LOGS)

    assert merged == 0


async def _from_blocks(lake: Lake, view: View, instance: str) -> object:
    """The rows that there would be if nothing had ever been merged."""
    await lake.empty_buckets()
    return await rows_of(lake, view, instance)
