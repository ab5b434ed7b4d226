"""Network spans: the examples of the rules, every sequence of events against a plain rendering, damage, and gaps."""

from __future__ import annotations

import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakeflight.wire.errors import CorruptPayloadError
from lakeflight.wire.transit.net import CONNECTION_BEGIN
from lakeflight.wire.transit.writer import EncodedBlock
from lakehouse.jobs.build import BuildResult
from tests.support.buckets import PROCESS_ID, START_TICKS, START_TIME_NS, Lake, add_block, add_stream, made_up_lake
from tests.support.net_tree import COLUMNS, net_spans
from tests.support.rare_blocks import (
    CONNECTION,
    CONNECTION_END,
    NET_TYPES,
    OBJECT,
    OBJECT_END,
    OTHER,
    PROPERTY,
    RPC,
    RPC_END,
    NetEvent,
    net_block,
)
from tests.support.rows import read_files
from tests.support.sizes import SEED, size
from views import net_tree
from views.net_spans import SCHEMA, NetSpans
from views.net_tree import NetTree

STREAM = "cccccccc-0000-4000-8000-000000000001"
OTHER_STREAM = "cccccccc-0000-4000-8000-000000000002"
WORDS = {
    "C": CONNECTION, "/C": CONNECTION_END, "O": OBJECT, "/O": OBJECT_END, "P": PROPERTY, "R": RPC, "/R": RPC_END,
    "?": OTHER,
}  # fmt: skip


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    lake = made_up_lake(tmp_path)
    add_stream(lake, NET_TYPES, STREAM)
    return lake


def build(lake: Lake) -> tuple[BuildResult, pa.Table]:
    result = lake.build(NetSpans(), lake.job(NetSpans(), PROCESS_ID))
    return result, read_files([file.path for file in result.files], SCHEMA)


def parse(text: str, first_tick: int = 0) -> list[NetEvent]:
    """``C:host:1 O:Hero P:Health:8 /O::32``: type, name, number; one tick apart."""
    events = []
    for tick, word in enumerate(text.split(), first_tick):
        kind, name, number = [*word.split(":"), "", ""][:3]
        events.append(NetEvent(WORDS[kind], START_TICKS + tick, name, int(number or 0)))
    return events


def rows(table: pa.Table, *names: str) -> list[tuple[Any, ...]]:
    """Times since the process started."""
    taken = []
    for name in names:
        column = table.column(name)
        if pa.types.is_timestamp(column.type):
            column = pa.array(np.array(column.cast(pa.int64())) - START_TIME_NS)
        taken.append(column.to_pylist())
    return list(zip(*taken, strict=True))


def add(lake: Lake, text: str, *, offset: int, begin: int, end: int, stream: str = STREAM) -> None:
    block = net_block(parse(text, begin))
    add_block(lake, stream, block, begin_ticks=begin, end_ticks=end, offset=offset)


def test_objects_and_properties_of_a_connection(lake: Lake) -> None:
    add(
        lake,
        "C:127.0.0.1:0 O:ObjA P:PropA1:8 P:PropA2:16 /O::32 O:ObjB P:PropB:4 /O::6 /C::40",
        offset=1,
        begin=0,
        end=9,
    )

    result, table = build(lake)

    names = ("name", "kind", "span_id", "parent_span_id", "depth", "begin_bits", "end_bits", "bit_size")
    assert rows(table, *names) == [
        ("PropA1", "property", 3, 2, 2, 0, 8, 8),
        ("PropA2", "property", 4, 2, 2, 8, 24, 16),
        ("ObjA", "object", 2, 1, 1, 0, 32, 32),
        ("PropB", "property", 7, 6, 2, 0, 4, 4),
        ("ObjB", "object", 6, 1, 1, 32, 38, 6),
        ("127.0.0.1", "connection", 1, -1, 0, 0, 40, 40),
    ]
    assert set(rows(table, "process_id", "stream_id", "connection_name", "is_outgoing")) == {
        (PROCESS_ID, STREAM, "127.0.0.1", False)
    }
    assert rows(table, "begin_time", "end_time")[-1] == (0, 8)
    assert rows(table, "begin_time", "end_time")[0] == (2, 2)
    assert result.quarantined == ()


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        (
            "C:host O:outer O:inner P:p:12 /O::12 /O::20 /C::30",
            [("p", 2, 3, 0), ("inner", 1, 2, 0), ("outer", 0, 1, 0), ("host", -1, 0, 0)],
        ),
        ("C:host R:call /R::64", [("call", 0, 1, 0)]),
        ("C:host O:a /C::9 /O::3", [("a", 0, 1, 0)]),  # an end of another kind is ignored, the right one still closes
        ("/C::1 /O::2 /R::3", []),
        ("C:host P:p:4", [("p", 0, 1, 0)]),  # what never ends has no row
        ("P:alone:7", [("alone", -1, 0, 0)]),
        ("O:a P:p:7 /O::9", [("p", 0, 1, 0), ("a", -1, 0, 0)]),  # no connection is needed
        ("? C:host ? P:p:1 /C::1", [("p", 1, 1, 0), ("host", -1, 0, 0)]),  # unknown events count
    ],
)
def test_what_a_span_is(lake: Lake, events: str, expected: list[tuple[str, int, int, int]]) -> None:
    add(lake, events, offset=0, begin=0, end=10)

    _, table = build(lake)

    assert rows(table, "name", "parent_span_id", "depth", "begin_bits") == expected


def test_a_connection_in_a_connection_is_a_tree_of_its_own_and_counts_for_the_first(lake: Lake) -> None:
    add(lake, "C:first:1 C:second:0 P:p:3 /C::5 P:q:2 /C::9", offset=0, begin=0, end=10)

    _, table = build(lake)

    names = ("name", "parent_span_id", "depth", "connection_name", "is_outgoing", "begin_bits")
    assert rows(table, *names) == [
        ("p", 1, 1, "first", True, 0),
        ("second", -1, 0, "first", True, 0),
        ("q", 0, 1, "first", True, 5),
        ("first", -1, 0, "first", True, 0),
    ]


def test_a_connection_over_several_blocks_is_one_row_whatever_the_order_of_arrival(lake: Lake) -> None:
    add(lake, "P:b:8 /C::24", offset=3, begin=1000, end=2001)
    add(lake, "C:host P:a:16 ?", offset=0, begin=0, end=1000)

    _, table = build(lake)

    assert rows(table, "name", "span_id", "parent_span_id", "begin_bits", "end_bits", "begin_time", "end_time") == [
        ("a", 1, 0, 0, 16, 1, 1),
        ("b", 3, 0, 16, 24, 1000, 1000),
        ("host", 0, -1, 0, 24, 0, 1001),
    ]


def test_what_is_open_where_events_may_be_missing_has_no_row(lake: Lake) -> None:
    add(lake, "C:host P:a:16", offset=0, begin=0, end=10)
    add(lake, "P:b:8 /C::24", offset=2, begin=20, end=30)

    _, table = build(lake)

    assert rows(table, "name", "parent_span_id") == [("a", 0), ("b", -1)]


def test_no_span_is_paired_across_a_block_that_cannot_be_decoded(lake: Lake) -> None:
    add(lake, "C:first", offset=0, begin=0, end=10)
    add_block(lake, STREAM, b"junk", begin_ticks=10, end_ticks=20)  # it may have ended the first and begun a second
    add(lake, "P:late:1 /C::9 C:third /C::1", offset=3, begin=20, end=30)

    result, table = build(lake)

    assert len(result.quarantined) == 1
    assert rows(table, "name", "connection_name") == [("late", ""), ("third", "third")]


def test_two_traces_of_one_process_are_kept_apart(lake: Lake) -> None:
    """Two instrumentations in one program; the original refuses to answer."""
    add_stream(lake, NET_TYPES, OTHER_STREAM)
    add(lake, "C:a P:x:1", offset=0, begin=0, end=10)
    add(lake, "C:b P:y:1 /C::7", offset=0, begin=1, end=9, stream=OTHER_STREAM)
    add(lake, "/C::5", offset=2, begin=10, end=20)

    _, table = build(lake)

    assert sorted(rows(table, "stream_id", "name", "bit_size")) == [
        (STREAM, "a", 5),
        (STREAM, "x", 1),
        (OTHER_STREAM, "b", 7),
        (OTHER_STREAM, "y", 1),
    ]


def test_more_bits_than_32_add_up(lake: Lake) -> None:
    most = 2**32 - 1
    add(lake, f"C:c P:p:{most} P:q:{most} P:r:{most} /C::{most}", offset=0, begin=0, end=10)

    _, table = build(lake)

    assert rows(table, "begin_bits", "end_bits") == [
        (0, most),
        (most, 2 * most),
        (2 * most, 3 * most),
        (0, most),
    ]


events_of_a_trace = st.lists(
    st.tuples(st.sampled_from(sorted(WORDS)), st.sampled_from(["", "a", "b", "ü"]), st.integers(0, 3)), max_size=40
)


@given(events=events_of_a_trace, cuts=st.sets(st.integers(0, 40), max_size=4))
@settings(max_examples=size(150, 2000), deadline=None)
def test_any_events_in_any_blocks_give_the_rows_of_the_plain_rules(
    events: list[tuple[str, str, int]], cuts: set[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    lake = made_up_lake(tmp_path_factory.mktemp("trace"))
    add_stream(lake, NET_TYPES, STREAM)
    trace = [NetEvent(WORDS[kind], START_TICKS + tick, name, n) for tick, (kind, name, n) in enumerate(events)]
    borders = sorted({0, len(trace), *(cut for cut in cuts if cut < len(trace))})
    pieces = list(pairwise(borders))
    random.Random(SEED).shuffle(pieces)
    for begin, end in pieces:
        add_block(lake, STREAM, net_block(trace[begin:end]), begin_ticks=begin, end_ticks=end, offset=begin)

    result, table = build(lake)

    expected = [(*row[:10], row[10] - START_TICKS, row[11] - START_TICKS) for row in net_spans(enumerate(trace))]
    assert rows(table, *COLUMNS) == expected
    assert result.quarantined == ()


@given(damage=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=4))
@settings(max_examples=size(60, 1000), deadline=None)
def test_damaged_bytes_give_rows_or_a_reason_and_nothing_else(
    damage: list[tuple[int, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    lake = made_up_lake(tmp_path_factory.mktemp("damage"))
    add_stream(lake, NET_TYPES, STREAM)
    sound = net_block(parse("C:host O:Hero P:Health:8 /O::8 R:Jump /R::3 /C::20"))
    dependencies, objects = bytearray(sound.dependencies), bytearray(sound.objects)
    for position, value in damage:
        half = objects if position % 2 else dependencies
        half[position // 2 % len(half)] = value
    broken = EncodedBlock(bytes(dependencies), bytes(objects), sound.nb_objects)
    add_block(lake, STREAM, broken, begin_ticks=0, end_ticks=100)

    result, table = build(lake)

    assert all("decoder failed" not in reason for _, reason in result.quarantined)
    assert table.num_rows == 0 or not result.quarantined


def test_every_cut_of_a_block_is_decoded_or_quarantined(lake: Lake) -> None:
    sound = net_block(parse("C:host O:Hero P:Health:8 /O::8 /C::20"))
    for length in range(len(sound.objects)):
        cut = EncodedBlock(sound.dependencies, sound.objects[:length], sound.nb_objects)
        add_block(lake, STREAM, cut, begin_ticks=1000 * length, end_ticks=1000 * length + 1)

    result, table = build(lake)

    borders = {0, 33, 58, 91, 108, 125}  # where a record ends
    assert len(result.quarantined) == len([n for n in range(len(sound.objects)) if n not in borders])
    assert all("decoder failed" not in reason for _, reason in result.quarantined)
    assert rows(table, "name") == [("Health",), ("Health",), ("Hero",)]  # of the cuts behind the third and fourth


def test_spans_that_nothing_ends_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(net_tree, "OPEN_SPANS_MAX", 128)
    tree = NetTree()

    def begin(spans: int) -> None:
        tree.add(np.full(spans, CONNECTION_BEGIN, np.uint8), *(np.zeros(spans, np.int64) for _ in range(4)))

    begin(100)
    begin(28)

    with pytest.raises(CorruptPayloadError, match="more than 128 spans are open at once"):
        begin(1)


def test_a_clock_that_makes_no_sense_quarantines_every_block(tmp_path: Path) -> None:
    lake = made_up_lake(tmp_path, frequency=0)
    add_stream(lake, NET_TYPES, STREAM)
    add(lake, "P:a:1", offset=0, begin=0, end=0)

    result, table = build(lake)

    assert table.num_rows == 0
    assert [reason[:17] for _, reason in result.quarantined] == ["invalid frequency"]
