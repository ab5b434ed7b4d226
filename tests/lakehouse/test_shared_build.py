"""Work that is done together, and jobs that it is cut into."""

from __future__ import annotations

import asyncio
import uuid
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.buckets.model import BucketState, Registration, Source
from lakehouse.buckets.planning import metadata_bytes, split_jobs
from lakehouse.buckets.sharing import together
from lakehouse.model import Block, BlockId, BlockOrder, ProcessId, StreamId

STREAMS = {StreamId(f"s{number}"): Registration(number * 100, b"") for number in range(4)}
PROCESSES = {ProcessId(f"p{number}"): Registration(number * 300, b"") for number in range(3)}


async def test_when_one_fails_the_others_are_over_before_its_error_is_raised() -> None:
    over: list[str] = []

    async def slow() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.02)
            over.append("slow")

    async def failing() -> None:
        await asyncio.sleep(0)
        raise ValueError("no luck")

    with pytest.raises(ValueError, match="no luck"):
        await together([slow(), failing()])

    assert over == ["slow"]


async def test_results_come_in_order_and_only_as_many_run_as_there_are_places() -> None:
    running = most = 0

    async def work(number: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001 * (5 - number))
        running -= 1
        return number

    assert await together((work(number) for number in range(5)), asyncio.Semaphore(2)) == [0, 1, 2, 3, 4]
    assert most == 2


async def test_what_never_had_its_turn_is_no_leak() -> None:
    begun: list[int] = []

    async def work(number: int) -> None:
        begun.append(number)
        await asyncio.sleep(0.001)
        raise ValueError("no luck")

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match="no luck"):
            await together((work(number) for number in range(50)), asyncio.Semaphore(1))

    assert len(begun) < 50


def _block(number: int, stream: str, process: str, size: int) -> Block:
    return Block(
        block_id=BlockId(f"b{number}"),
        stream_id=StreamId(stream),
        process_id=ProcessId(process),
        begin_time_ns=0,
        begin_ticks=0,
        end_time_ns=0,
        end_ticks=0,
        nb_objects=1,
        object_offset=0,
        payload_size=size,
        insert_time_ns=number * 1000,
    )


@given(
    drawn=st.lists(
        st.tuples(st.sampled_from(sorted(STREAMS)), st.sampled_from(sorted(PROCESSES)), st.integers(1, 150)),
        max_size=60,
    ),
    bytes_max=st.integers(1, 400),
    blocks_max=st.integers(1, 10),
    metadata_bytes_max=st.integers(0, 2000),
)
def test_jobs_neither_lose_nor_repeat_a_block_and_keep_their_limits(
    drawn: list[tuple[str, str, int]], bytes_max: int, blocks_max: int, metadata_bytes_max: int
) -> None:
    blocks = [_block(number, *values) for number, values in enumerate(drawn)]
    source = Source(BucketState(uuid.UUID(int=0), True, 0, 0, None), tuple(blocks), STREAMS, PROCESSES, {}, {})

    runs = list(
        split_jobs(
            source,
            blocks,
            BlockOrder.INSERT_TIME,
            bytes_max=bytes_max,
            blocks_max=blocks_max,
            metadata_bytes_max=metadata_bytes_max,
        )
    )

    assert [block for run in runs for block in run] == blocks
    for run in runs:
        registered = sum(PROCESSES[id_].size_bytes for id_ in {block.process_id for block in run})
        registered += sum(STREAMS[id_].size_bytes for id_ in {block.stream_id for block in run})
        assert len(run) <= blocks_max
        assert len(run) == 1 or sum(block.payload_size for block in run) <= bytes_max
        assert registered <= max(metadata_bytes_max, metadata_bytes(source, run[0]) if len(run) == 1 else 0)
