"""Async events: of every thread of a process, unpaired; what pairs them is a join, checked against a plain model."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakeflight.wire.transit.spans import scope_hash
from lakeflight.wire.transit.types import SPAN_TYPES
from lakeflight.wire.transit.writer import EncodedBlock, NamedSpan, SpanBlockBuilder, SpanLocation, SpanMetadata
from lakehouse.jobs.build import BuildResult
from lakehouse.model import Block
from tests.support.buckets import (
    LOG_STREAM_ID,
    PROCESS_ID,
    SPANS_STREAM_ID,
    START_TICKS,
    START_TIME_NS,
    Lake,
    add_block,
    add_stream,
    made_up_lake,
)
from tests.support.rows import read_files
from tests.support.sizes import size
from views.async_events import SCHEMA, AsyncEvents

SECOND_THREAD = "bbbbbbbb-0000-4000-8000-000000000013"
THREADS = (SPANS_STREAM_ID, SECOND_THREAD)
REQUEST = SpanMetadata("request", "web", file="web.py", line=7)
QUERY = NamedSpan("SELECT 1", SpanLocation("db", file="db.py", line=9))
SECOND = 1_000_000_000


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    lake = made_up_lake(tmp_path)
    add_stream(lake, SPAN_TYPES, SECOND_THREAD)
    return lake


def build(lake: Lake) -> tuple[BuildResult, pa.Table]:
    result = lake.build(AsyncEvents(), lake.job(AsyncEvents(), PROCESS_ID))
    return result, read_files([file.path for file in result.files], SCHEMA)


def rows(table: pa.Table, *names: str) -> list[tuple[Any, ...]]:
    taken = []
    for name in names:
        column = table.column(name)
        if pa.types.is_timestamp(column.type):
            column = pa.array(np.array(column.cast(pa.int64())) - START_TIME_NS)
        taken.append(column.to_pylist())
    return list(zip(*taken, strict=True))


def test_begin_and_end_of_a_span_come_from_whatever_threads_they_were_on(lake: Lake) -> None:
    first, second = SpanBlockBuilder(), SpanBlockBuilder()
    first.begin_async(REQUEST, START_TICKS + 10, span_id=1)
    first.begin(REQUEST, START_TICKS + 11)  # a span of the thread is none of ours
    first.begin_async(QUERY, START_TICKS + 12, span_id=2, parent_span_id=1, depth=1)
    first.end(REQUEST, START_TICKS + 13)
    second.end_async(QUERY, START_TICKS + 20, span_id=2, parent_span_id=1, depth=1)
    second.end_async(REQUEST, START_TICKS + 30, span_id=1)
    blocks = [
        add_block(lake, stream, builder.finish(), begin_ticks=0, end_ticks=50)
        for stream, builder in zip(THREADS, (first, second), strict=True)
    ]

    result, table = build(lake)

    names = ("time", "event_type", "span_id", "parent_span_id", "depth", "name", "filename", "target", "line")
    assert sorted(rows(table, *names)) == [
        (10, "begin", 1, 0, 0, "request", "web.py", "web", 7),
        (12, "begin", 2, 1, 1, "SELECT 1", "db.py", "db", 9),
        (20, "end", 2, 1, 1, "SELECT 1", "db.py", "db", 9),
        (30, "end", 1, 0, 0, "request", "web.py", "web", 7),
    ]
    assert set(rows(table, "stream_id", "block_id")) == {(block.stream_id, block.block_id) for block in blocks}
    assert set(rows(table, "name", "hash")) == {
        ("request", scope_hash("request", "web.py", "web", 7)),
        ("SELECT 1", scope_hash("SELECT 1", "db.py", "db", 9)),
    }
    assert result.quarantined == ()


def test_events_stand_as_they_were_sent_whether_they_have_a_pair_or_not(lake: Lake) -> None:
    builder = SpanBlockBuilder()
    builder.end_async(REQUEST, START_TICKS - 5, span_id=7)  # before the process began, and nobody saw it begin
    builder.begin_async(REQUEST, START_TICKS + 1, span_id=8)
    builder.begin_async(REQUEST, START_TICKS + 1, span_id=8)  # twice
    builder.begin_async(REQUEST, START_TICKS + 2, span_id=2**64 - 1, parent_span_id=2**63, depth=2**32 - 1)
    add_block(lake, SPANS_STREAM_ID, builder.finish(), begin_ticks=0, end_ticks=10)

    _, table = build(lake)

    assert rows(table, "time", "event_type", "span_id", "parent_span_id", "depth") == [
        (-5, "end", 7, 0, 0),
        (1, "begin", 8, 0, 0),
        (1, "begin", 8, 0, 0),
        (2, "begin", -1, -(2**63), 2**32 - 1),  # ids have 64 bits; the upper half is negative
    ]


def test_names_are_of_any_alphabet(lake: Lake) -> None:
    names = ["", "straße", "日本語", "🛰 orbit", "\U0010ffff", "a\0b", "x" * 100_000]
    builder = SpanBlockBuilder()
    for number, name in enumerate(names, 1):
        builder.begin_async(NamedSpan(name, SpanLocation("t")), START_TICKS + number, span_id=number)
    add_block(lake, SPANS_STREAM_ID, builder.finish(), begin_ticks=0, end_ticks=10)

    _, table = build(lake)

    assert table.column("name").to_pylist() == names


def test_as_many_names_as_spans(lake: Lake) -> None:
    count = size(20_000, 1_000_000)
    builder = SpanBlockBuilder()
    codes = np.arange(count)
    builder.extend_async(
        [NamedSpan(f"task {number}", SpanLocation("t")) for number in range(count)],
        np.zeros(count, np.int64), codes, START_TICKS + codes, codes + 1, np.zeros(count, np.int64),
        np.zeros(count, np.int64),
    )  # fmt: skip
    add_block(lake, SPANS_STREAM_ID, builder.finish(), begin_ticks=0, end_ticks=count)

    result, table = build(lake)

    assert result.quarantined == ()
    assert table.column("name").to_pylist() == [f"task {number}" for number in range(count)]


def test_an_unknown_clock_is_estimated_from_the_whole_process(tmp_path: Path) -> None:
    """Otherwise the end of a span might lie before its begin, because the blocks of two threads were timed apart."""
    lake = made_up_lake(tmp_path, frequency=0)
    add_stream(lake, SPAN_TYPES, SECOND_THREAD)
    for stream, seconds in zip(THREADS, (1, 2), strict=True):
        builder = SpanBlockBuilder()
        builder.begin_async(REQUEST, START_TICKS + 500, span_id=seconds)
        block = add_block(lake, stream, builder.finish(), begin_ticks=0, end_ticks=1000)
        lake.blocks[block.block_id] = _ending(block, START_TIME_NS + seconds * SECOND)

    _, table = build(lake)

    assert rows(table, "span_id", "time") == [(1, SECOND), (2, SECOND)]  # 1,000 ticks in 2 s


def test_a_clock_that_makes_no_sense_quarantines_every_block(tmp_path: Path) -> None:
    lake = made_up_lake(tmp_path, frequency=0)
    builder = SpanBlockBuilder()
    builder.begin_async(REQUEST, START_TICKS, span_id=1)
    add_block(lake, SPANS_STREAM_ID, builder.finish(), begin_ticks=0, end_ticks=0)

    result, table = build(lake)

    assert table.num_rows == 0
    assert [reason[:17] for _, reason in result.quarantined] == ["invalid frequency"]


def test_blocks_of_other_kinds_and_empty_ones_have_no_rows(lake: Lake) -> None:
    builder = SpanBlockBuilder()
    builder.begin(REQUEST, START_TICKS)
    add_block(lake, SPANS_STREAM_ID, builder.finish(), begin_ticks=0, end_ticks=1)
    add_block(lake, SPANS_STREAM_ID, SpanBlockBuilder().finish(), begin_ticks=1, end_ticks=1)
    add_block(lake, LOG_STREAM_ID, b"not looked at", begin_ticks=1, end_ticks=1)

    result, table = build(lake)

    assert (table.num_rows, result.files, result.quarantined) == (0, (), ())


def test_every_cut_of_a_block_is_decoded_or_quarantined(lake: Lake) -> None:
    builder = SpanBlockBuilder()
    builder.begin_async(REQUEST, START_TICKS, span_id=1)
    builder.end_async(QUERY, START_TICKS, span_id=1)
    sound = builder.finish()
    for length in range(len(sound.objects)):
        cut = EncodedBlock(sound.dependencies, sound.objects[:length], sound.nb_objects)
        add_block(lake, SPANS_STREAM_ID, cut, begin_ticks=length, end_ticks=length)

    result, table = build(lake)

    assert len(result.quarantined) == len(sound.objects) - 2  # cut before the first event, or between the two
    assert all("decoder failed" not in reason for _, reason in result.quarantined)
    assert rows(table, "event_type", "name") == [("begin", "request")]


@given(damage=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=4))
@settings(max_examples=size(60, 1000), deadline=None)
def test_damaged_bytes_give_rows_or_a_reason_and_nothing_else(
    damage: list[tuple[int, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    lake = made_up_lake(tmp_path_factory.mktemp("damage"))
    builder = SpanBlockBuilder()
    builder.begin_async(REQUEST, START_TICKS, span_id=1)
    builder.begin_async(QUERY, START_TICKS, span_id=2)
    builder.end_async(QUERY, START_TICKS, span_id=2)
    sound = builder.finish()
    dependencies, objects = bytearray(sound.dependencies), bytearray(sound.objects)
    for position, value in damage:
        half = objects if position % 2 else dependencies
        half[position // 2 % len(half)] = value
    broken = EncodedBlock(bytes(dependencies), bytes(objects), sound.nb_objects)
    add_block(lake, SPANS_STREAM_ID, broken, begin_ticks=0, end_ticks=100)

    result, table = build(lake)

    assert all("decoder failed" not in reason for _, reason in result.quarantined)
    assert table.num_rows in ((0,) if result.quarantined else (2, 3))  # a changed type may make an event none of ours


async_spans = st.lists(
    st.tuples(
        st.integers(0, 60), st.none() | st.integers(0, 60),  # begin, end
        st.sampled_from(THREADS), st.sampled_from(THREADS),  # where each happened
        st.booleans(),
    ),
    max_size=25,
)  # fmt: skip


@given(spans=async_spans, chance=st.randoms(use_true_random=False), blocks=st.integers(1, 6))
@settings(max_examples=size(60, 1000), deadline=None)
def test_pairs_are_those_of_a_plain_model_however_events_lie_in_blocks(
    spans: list[tuple[int, int | None, str, str, bool]],
    chance: random.Random,
    blocks: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    lake = made_up_lake(tmp_path_factory.mktemp("pairs"))
    add_stream(lake, SPAN_TYPES, SECOND_THREAD)
    events: list[tuple[int, str, bool, int, bool]] = []
    for span_id, (begin, end, begin_thread, end_thread, named) in enumerate(spans, 1):
        events.append((begin, begin_thread, True, span_id, named))
        if end is not None:
            events.append((end, end_thread, False, span_id, named))
    chance.shuffle(events)
    builders = {(thread, number): SpanBlockBuilder() for thread in THREADS for number in range(blocks)}
    for tick, thread, begins, span_id, named in events:
        builder = builders[thread, chance.randrange(blocks)]
        record = builder.begin_async if begins else builder.end_async
        record(QUERY if named else REQUEST, START_TICKS + tick, span_id=span_id)
    for (thread, _), builder in builders.items():
        add_block(lake, thread, builder.finish(), begin_ticks=0, end_ticks=100)

    _, table = build(lake)

    begins, ends = (table.filter(pa.compute.equal(table["event_type"], kind)) for kind in ("begin", "end"))
    joined = begins.join(ends, "span_id", right_suffix="_end", join_type="inner")
    expected = [
        (span_id, begin, end, "SELECT 1" if named else "request")
        for span_id, (begin, end, _, _, named) in enumerate(spans, 1)
        if end is not None
    ]
    assert sorted(rows(joined, "span_id", "time", "time_end", "name")) == expected
    assert table.num_rows == len(events)


def _ending(block: Block, end_time_ns: int) -> Block:
    return Block(
        block.block_id, block.stream_id, block.process_id, block.begin_time_ns, block.begin_ticks, end_time_ns,
        block.end_ticks, block.nb_objects, block.object_offset, block.payload_size, block.insert_time_ns,
    )  # fmt: skip
