"""What is to be done about a bucket, decided without a database."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from lakeflight.wire.ticks import TickClock, frequency
from lakehouse.buckets.model import BucketState, EstimatedBucket, Registration, Source, UnknownClock
from lakehouse.buckets.planning import (
    TIMING_SHIFT_NS_MAX,
    Action,
    is_stale_by_timing,
    plan_bucket,
    source_digest,
    split_jobs,
)
from lakehouse.model import EVERYTHING, Block, BlockId, BlockOrder, LastTiming, ProcessId, StreamId, TimeRange

HOUR = datetime(2024, 5, 1, 10, 0, tzinfo=UTC)
START_NS = int(HOUR.timestamp()) * 1_000_000_000
SECOND_NS = 1_000_000_000
PROCESS, STREAM = ProcessId("00000000-0000-4000-8000-000000000001"), StreamId("00000000-0000-4000-8000-000000000002")
DELTAS_MAX = 4

block_numbers = st.sets(st.integers(0, 30), max_size=12)
timings = st.builds(LastTiming, st.integers(1, 10**14), st.integers(START_NS + 1000, START_NS + 10**15))


def _block(number: int) -> Block:
    block = BlockId(f"00000000-0000-4000-9000-{number:012d}")
    return Block(block, STREAM, PROCESS, START_NS, 0, START_NS, 0, 1, 0, 10, START_NS + number)


def _source(
    present: Collection[int], included: Mapping[int, Collection[int]] | None = None, digest: bytes | None = None
) -> Source:
    registration = Registration(10, bytes(32))
    return Source(
        state=BucketState(uuid.UUID(int=0), dirty=True, marks=1, generation=1, digest=digest),
        blocks=tuple(map(_block, sorted(present))),
        streams={STREAM: registration},
        processes={PROCESS: registration},
        timings={},
        included={
            ordinal: frozenset(_block(number).block_id for number in numbers)
            for ordinal, numbers in (included or {}).items()
        },
    )


@given(present=block_numbers, included=st.dictionaries(st.integers(0, 6), block_numbers, max_size=6))
@pytest.mark.parametrize("order", BlockOrder)
def test_afterwards_the_bucket_holds_its_blocks_each_once(
    order: BlockOrder, present: set[int], included: dict[int, set[int]]
) -> None:
    taken: set[int] = set()
    for numbers in included.values():  # partitions never share a block
        numbers -= taken
        taken |= numbers
    source = _source(present, included, source_digest(_source(taken), 1, order))

    plan = plan_bucket(source, order, 1, DELTAS_MAX)

    built = {block.block_id for block in plan.blocks}
    kept = set() if plan.action is Action.REPLACE else set().union(*source.included.values())
    assert built | kept == {block.block_id for block in source.blocks}
    assert not built & kept
    if plan.action is Action.EXTEND:
        assert plan.first_ordinal not in source.included
        assert len(source.included) < DELTAS_MAX
        assert order.stands_alone


@given(present=block_numbers.filter(bool), more=block_numbers)
@pytest.mark.parametrize("order", BlockOrder)
def test_a_bucket_that_lost_some_of_its_partitions_is_made_whole(
    order: BlockOrder, present: set[int], more: set[int]
) -> None:
    """Several partitions can have rows of one block, so that those which are left do not say what they lack."""
    source = _source(present | more, {0: present}, digest=None)

    assert plan_bucket(source, order, 1, DELTAS_MAX).action is Action.REPLACE


@given(present=block_numbers, extra=st.integers(31, 40))
def test_a_digest_tells_every_difference_and_no_order(present: set[int], extra: int) -> None:
    def digest(source: Source, version: int = 1, order: BlockOrder = BlockOrder.EVENT_TIME) -> bytes:
        return source_digest(source, version, order)

    source = _source(present)
    estimated, otherwise = (replace(source, timings={PROCESS: LastTiming(ticks, START_NS)}) for ticks in (1, 2))
    another = ProcessId("00000000-0000-4000-8000-000000000009")
    of_two = replace(source, timings={PROCESS: LastTiming(1, START_NS), another: LastTiming(1, START_NS)})

    assert digest(source) == digest(_source(sorted(present, reverse=True)))
    assert len({digest(s) for s in (source, _source({*present, extra}), estimated, otherwise, of_two)}) == 5
    assert digest(source) != digest(source, version=2)
    assert digest(source, order=BlockOrder.INSERT_TIME) == digest(estimated, order=BlockOrder.INSERT_TIME)
    assert digest(source, order=BlockOrder.ONE_CLOCK) != digest(estimated, order=BlockOrder.ONE_CLOCK)


@given(present=block_numbers.filter(bool), more=block_numbers)
def test_blocks_by_one_clock_are_added_if_it_is_known_and_timed_anew_together_if_it_is_not(
    present: set[int], more: set[int]
) -> None:
    order = BlockOrder.ONE_CLOCK
    new = len(more - present)
    grown = _source(present | more, {0: present}, source_digest(_source(present), 1, order))
    before = replace(_source(present), timings={PROCESS: LastTiming(1, START_NS)})
    estimated = replace(
        _source(present | more, {0: present}, source_digest(before, 1, order)),
        timings={PROCESS: LastTiming(2, START_NS)},
    )

    assert plan_bucket(grown, order, 1, DELTAS_MAX).action is (Action.EXTEND if new else Action.KEEP)
    assert plan_bucket(estimated, order, 1, DELTAS_MAX).action is Action.REPLACE


@given(present=block_numbers, included=block_numbers)
@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("order", BlockOrder)
def test_a_frozen_bucket_keeps_its_rows_whatever_its_blocks_are(
    order: BlockOrder, whole: bool, present: set[int], included: set[int]
) -> None:
    """Retention takes the rows of its blocks; those that came too late for it are counted."""
    source = _source(present, {0: included}, digest=bytes(16))
    source = replace(source, state=replace(source.state, frozen=True))

    plan = plan_bucket(source, order, 1, DELTAS_MAX, whole=whole)

    assert (plan.action, plan.blocks, plan.missing_blocks) == (Action.KEEP, (), len(present - included))


@given(drawn=st.lists(st.tuples(st.integers(0, 5), st.integers(1, 150)), max_size=40), bytes_max=st.integers(1, 400))
def test_chains_of_many_streams_go_to_several_jobs_and_none_is_cut(
    drawn: list[tuple[int, int]], bytes_max: int
) -> None:
    """A process's async events come in as many streams as it has threads, and its clock is one."""
    blocks = [
        replace(_block(number), stream_id=StreamId(f"s{stream}"), payload_size=size)
        for number, (stream, size) in enumerate(drawn)
    ]
    registration = Registration(10, bytes(32))
    source = replace(_source([]), streams={StreamId(f"s{number}"): registration for number in range(6)})

    runs = list(
        split_jobs(
            source, blocks, BlockOrder.EVENT_TIME, bytes_max=bytes_max, blocks_max=1000, metadata_bytes_max=1 << 20
        )
    )

    assert sorted(block.block_id for run in runs for block in run) == [block.block_id for block in blocks]
    streams = [{block.stream_id for block in run} for run in runs]
    assert sum(map(len, streams)) == len(set().union(*streams))
    for run, named in zip(runs, streams, strict=True):
        assert [
            block for stream in dict.fromkeys(b.stream_id for b in run) for block in blocks if block.stream_id == stream
        ] == list(run)
        assert len(named) == 1 or sum(block.payload_size for block in run) <= bytes_max


def _row_ns(ticks: int, timing: LastTiming) -> int:
    return TickClock(0, START_NS, frequency(0, START_NS, timing.end_ticks, timing.end_time_ns)).relative_ns(ticks)


@given(
    then=timings,
    now=timings,
    ticks=st.lists(st.integers(0, 10**13), min_size=1, max_size=5),
    wanted_s=st.tuples(st.integers(-10, 10**5), st.integers(0, 10**4)),
)
@example(  # a nanosecond of the first estimate is seven milliseconds of the second
    then=LastTiming(7, START_NS + 1_000),
    now=LastTiming(837, START_NS + 1_673_333_332_596),
    ticks=[204],
    wanted_s=(204, 0),
)
def test_no_row_is_missed_or_wrong_by_more_than_the_limit(
    then: LastTiming, now: LastTiming, ticks: list[int], wanted_s: tuple[int, int]
) -> None:
    """A bucket that is taken as it is gives a reader the rows of the range, in the right place."""
    hz_then, hz_now = (round(timing.end_ticks * SECOND_NS / (timing.end_time_ns - START_NS)) for timing in (then, now))
    assume(hz_then >= 1 and hz_now >= 1)  # the estimate gives a frequency
    before, after = ([_row_ns(tick, timing) for tick in ticks] for timing in (then, now))
    assume(min(before + after) >= START_NS and max(before + after) < 2**62)  # a file can hold the times
    rounding_ns = 2 + hz_then // hz_now  # what is known of a row is its time in whole nanoseconds
    begin_ns = START_NS + wanted_s[0] * SECOND_NS
    wanted = TimeRange(begin_ns, begin_ns + wanted_s[1] * SECOND_NS)
    bucket = EstimatedBucket(HOUR, False, then, TimeRange(min(before), max(before)))

    if not is_stale_by_timing(bucket, UnknownClock(START_NS, now), wanted):
        for old_ns, new_ns in zip(before, after, strict=True):
            is_read = any(begin_ns <= at <= begin_ns + wanted_s[1] * SECOND_NS for at in (old_ns, new_ns))
            assert not is_read or abs(old_ns - new_ns) <= TIMING_SHIFT_NS_MAX + rounding_ns


def _moved(then_ticks: int, now_ticks: int, wanted: TimeRange, events: TimeRange | None) -> bool:
    end_ns = START_NS + 10 * SECOND_NS
    clock = UnknownClock(START_NS, LastTiming(now_ticks, end_ns))
    return is_stale_by_timing(EstimatedBucket(HOUR, False, LastTiming(then_ticks, end_ns), events), clock, wanted)


def test_it_matters_to_readers_of_where_the_rows_are_and_of_where_they_belong() -> None:
    events = TimeRange(START_NS + 4 * SECOND_NS, START_NS + 6 * SECOND_NS)  # and with half the frequency at 8 to 12 s
    seconds = {at: TimeRange(START_NS + at * SECOND_NS, START_NS + at * SECOND_NS) for at in (1, 5, 7, 9, 13)}

    assert {at: _moved(10**10, 5 * 10**9, wanted, events) for at, wanted in seconds.items()} == {
        1: False,
        5: True,
        7: False,
        9: True,
        13: False,
    }


def test_an_estimate_that_gives_no_frequency_is_another_only_once_it_gives_one() -> None:
    assert _moved(-1, 10**10, EVERYTHING, None)
    assert _moved(10**10, -1, EVERYTHING, None)
    assert not _moved(-1, -2, EVERYTHING, None)
    assert not _moved(10**10, 10**9, EVERYTHING, None), "there is no row to move"
