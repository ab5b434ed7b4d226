"""Async events: blocks of many threads that stand alone and are timed by the one clock of their process."""

from __future__ import annotations

from lakehouse.model import EVERYTHING
from tests.support.materializer_lake import Lake, view_of
from tests.support.programs import Program

ASYNC = view_of("async_events")


async def test_a_bucket_grows_by_what_is_new_where_the_clock_is_known(lake: Lake) -> None:
    program = Program()
    await lake.send([*program.registration(), *program.async_requests()])
    await lake.materializer().ensure(ASYNC, program.process_id, EVERYTHING)
    await lake.send([*program.async_requests(), *program.async_requests(), program.log_block()])

    fresh = await lake.materializer().ensure(ASYNC, program.process_id, EVERYTHING)

    assert lake.builder.sizes == [1, 2]  # a thread each; what the process logs is nothing to async events
    assert sorted(partition.rows for partition in fresh.partitions) == [4, 8]


async def test_all_is_timed_anew_when_another_stream_moves_a_clock_that_is_an_estimate(lake: Lake) -> None:
    program = Program()
    await lake.send([*program.registration(), *program.async_requests(), *program.async_requests()])
    await lake.forget_clocks()
    (before,) = (await lake.materializer().ensure(ASYNC, program.process_id, EVERYTHING)).partitions
    await lake.send([program.log_block()])
    await lake.restate(program.log_stream, later_s=9_999_999)

    (after,) = (await lake.materializer().ensure(ASYNC, program.process_id, EVERYTHING)).partitions

    assert lake.builder.sizes == [2, 2]
    assert after.max_event_ns > before.max_event_ns


async def test_a_process_without_streams_or_with_streams_without_blocks_has_no_rows(lake: Lake) -> None:
    bare, silent = Program(), Program()
    await lake.send([bare.registration()[0], *silent.registration()])

    for program in (bare, silent):
        for name in ("async_events", "net_spans", "images"):
            fresh = await lake.materializer().ensure(view_of(name), program.process_id, EVERYTHING)
            assert (fresh.partitions, fresh.missing_blocks) == ((), 0)


async def test_blocks_of_one_view_are_nothing_to_another(lake: Lake) -> None:
    program = Program()
    await lake.send([*program.registration(), *program.net_requests(), *program.image_requests()])

    counted = {
        name: sum(
            p.rows for p in (await lake.materializer().ensure(view_of(name), program.process_id, EVERYTHING)).partitions
        )
        for name in ("async_events", "net_spans", "images", "log_entries")
    }

    assert counted == {"async_events": 0, "net_spans": 3, "images": 1, "log_entries": 0}
