"""Builders: columns give the bytes that single events give, and every block stands alone."""

from __future__ import annotations

import cbor2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakeflight.wire.compression import BLOCK_DECODED_BYTES_MAX, decompress
from lakeflight.wire.envelope import decode_block, decode_payload, decode_stream, encode_block, encode_stream
from lakeflight.wire.transit.types import LOG_TYPES, METRIC_TYPES, SPAN_TYPES, StreamTypes
from lakeflight.wire.transit.writer import (
    NO_PROPERTIES,
    LogBlockBuilder,
    LogMetadata,
    MetricBlockBuilder,
    MetricMetadata,
    NamedSpan,
    Scope,
    SpanBlockBuilder,
    SpanLocation,
    SpanMetadata,
    describe_stream,
)
from tests.support.fixtures import native_cases

PROCESS = "33333333-3333-4333-8333-333333333333"
STREAM = "22222222-2222-4222-8222-222222222222"
BLOCK = "11111111-1111-4111-8111-111111111111"

PLACE = SpanLocation("app", "app.main", "main.py", 7)
SCOPES: list[Scope] = [
    SpanMetadata("load", "app", "app.main", "main.py", 1),
    NamedSpan("level-1", PLACE),
    SpanMetadata("save", "app", "app.main", "main.py", 2),
    NamedSpan("Straße", PLACE),
]
U64 = st.integers(0, (1 << 64) - 1)
TICKS = st.integers(-(1 << 63), (1 << 63) - 1)


@pytest.mark.parametrize("types", [LOG_TYPES, METRIC_TYPES, SPAN_TYPES], ids=lambda types: types.tag)
def test_type_tables_are_those_of_recorded_streams(types: StreamTypes) -> None:
    recorded = [
        decode_stream(request.body)
        for case in native_cases()
        if case.name.startswith(("game", "generator"))
        for request in case.requests
        if request.path.endswith("insert_stream")
    ]
    alike = [stream for stream in recorded if stream.tags == (types.tag,)]
    if not alike:
        pytest.skip(f"no recorded stream with the tag {types.tag!r}")

    for stream in alike:
        for ours, theirs in (
            (types.dependencies_metadata, stream.dependencies_metadata),
            (types.objects_metadata, stream.objects_metadata),
        ):
            # the original appends secondary types in no fixed order
            assert sorted(cbor2.loads(ours), key=repr) == sorted(cbor2.loads(theirs), key=repr)


def test_stream_and_block_survive_their_envelopes() -> None:
    builder = SpanBlockBuilder()
    builder.begin(SCOPES[0], 10)
    builder.end(SCOPES[0], 20)
    encoded = builder.finish()
    times = {"begin_time_ns": 1_700_000_000_000_000_001, "end_time_ns": 1_700_000_000_000_000_999}

    stream = describe_stream(SPAN_TYPES, process_id=PROCESS, stream_id=STREAM, properties={"thread-id": "1"})
    block = encoded.request(
        block_id=BLOCK, stream_id=STREAM, process_id=PROCESS, begin_ticks=-1, end_ticks=99, object_offset=7, **times
    )

    assert decode_stream(encode_stream(stream)) == stream
    assert decode_block(encode_block(block)) == block
    halves = [decompress(half, limit_bytes=BLOCK_DECODED_BYTES_MAX) for half in decode_payload(block.payload)]
    assert halves == [encoded.dependencies, encoded.objects]
    assert (block.nb_objects, block.object_offset) == (2, 7)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, len(SCOPES) - 1), TICKS), max_size=40))
def test_columns_of_thread_spans_give_the_objects_of_single_events(events: list[tuple[int, int, int]]) -> None:
    kinds, codes, ticks = (list(column) for column in zip(*events, strict=True)) if events else ([], [], [])
    single = SpanBlockBuilder()
    for code in sorted(set(codes)):  # columns describe scopes in the order of their codes
        single.begin(SCOPES[code], 0)
    warm = single.finish()
    for kind, code, tick in events:
        (single.end if kind else single.begin)(SCOPES[code], tick)

    columns = SpanBlockBuilder()
    columns.extend(SCOPES, np.array(kinds, np.uint8), np.array(codes, np.int32), np.array(ticks, np.int64))

    assert columns.finish().dependencies == single.finish().dependencies
    assert columns.finish().objects == single.finish().objects[len(warm.objects) :]
    assert columns.finish().nb_objects == len(events)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 1), st.integers(0, len(SCOPES) - 1), TICKS, U64, U64, st.integers(0, (1 << 32) - 1)),
        max_size=30,
    )
)
def test_columns_of_async_spans_give_the_objects_of_single_events(
    events: list[tuple[int, int, int, int, int, int]],
) -> None:
    single = SpanBlockBuilder()
    for code in sorted({event[1] for event in events}):
        single.begin(SCOPES[code], 0)
    warm = single.finish()
    for kind, code, tick, span_id, parent, depth in events:
        emit = single.end_async if kind else single.begin_async
        emit(SCOPES[code], tick, span_id=span_id, parent_span_id=parent, depth=depth)

    columns = SpanBlockBuilder()
    kinds, codes, ticks, spans, parents, depths = (
        (list(column) for column in zip(*events, strict=True)) if events else ([], [], [], [], [], [])
    )
    columns.extend_async(
        SCOPES,
        np.array(kinds, np.uint8),
        np.array(codes, np.int32),
        np.array(ticks, np.int64),
        np.array(spans, np.uint64),
        np.array(parents, np.uint64),
        np.array(depths, np.uint32),
    )

    assert columns.finish().dependencies == single.finish().dependencies
    assert columns.finish().objects == single.finish().objects[len(warm.objects) :]


METRICS = [MetricMetadata("frame", "ms", "app"), MetricMetadata("memory", "bytes", "app", "main.py", 3, 1)]
SETS = [{"scene": "menu"}, {"scene": "game", "level": "2"}]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 1),
            TICKS,
            st.one_of(U64, st.floats(allow_nan=False)),
            st.sampled_from([NO_PROPERTIES, 0, 1]),
        ),
        max_size=40,
    )
)
def test_columns_of_metrics_give_the_objects_of_single_events(
    events: list[tuple[int, int, int | float, int]],
) -> None:
    single = MetricBlockBuilder()
    for code in sorted({event[0] for event in events}):
        single.add_integer(METRICS[code], 0, 0)
    for chosen in sorted({event[3] for event in events} - {NO_PROPERTIES}):
        single.add_integer(METRICS[events[0][0]], 0, 0, SETS[chosen])
    warm = single.finish()
    for code, tick, value, chosen in events:
        properties = None if chosen == NO_PROPERTIES else SETS[chosen]
        if isinstance(value, int):
            single.add_integer(METRICS[code], tick, value, properties)
        else:
            single.add_float(METRICS[code], tick, value, properties)

    columns = MetricBlockBuilder()
    bits = [value if isinstance(value, int) else int(np.float64(value).view(np.uint64)) for _, _, value, _ in events]
    columns.extend(
        METRICS,
        np.array([event[0] for event in events], np.int32),
        np.array([event[1] for event in events], np.int64),
        np.array(bits, np.uint64),
        integer=np.array([isinstance(event[2], int) for event in events], np.bool_),
        property_sets=SETS,
        property_codes=np.array([event[3] for event in events], np.int32),
    )

    assert columns.finish().dependencies == single.finish().dependencies
    assert columns.finish().objects == single.finish().objects[len(warm.objects) :]


def test_metric_columns_tell_integers_from_floats_by_their_type() -> None:
    integers, floats = MetricBlockBuilder(), MetricBlockBuilder()
    codes, ticks = np.array([0]), np.array([5])

    integers.extend(METRICS, codes, ticks, np.array([3]))
    floats.extend(METRICS, codes, ticks, np.array([3.0]))

    assert integers.finish().objects[0] == METRIC_TYPES.object_index("IntegerMetricEvent")
    assert floats.finish().objects[0] == METRIC_TYPES.object_index("FloatMetricEvent")


STATEMENTS = [LogMetadata("app", 4, "", "app.main", "main.py", 3), LogMetadata("app.db", 2)]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), TICKS, st.text(st.characters(exclude_categories=["Cs"]))), max_size=30))
def test_columns_of_messages_give_the_objects_of_single_events(events: list[tuple[int, int, str]]) -> None:
    single = LogBlockBuilder()
    for code in sorted({event[0] for event in events}):
        single.static(STATEMENTS[code], 0)
    warm = single.finish()
    for code, tick, message in events:
        single.message(STATEMENTS[code], tick, message)

    texts = [message.encode() for _, _, message in events]
    columns = LogBlockBuilder()
    columns.extend(
        STATEMENTS,
        np.array([event[0] for event in events], np.int32),
        np.array([event[1] for event in events], np.int64),
        b"".join(texts),
        np.cumsum([0, *map(len, texts)]),
    )

    assert columns.finish().dependencies == single.finish().dependencies
    assert columns.finish().objects == single.finish().objects[len(warm.objects) :]


def test_a_lone_surrogate_is_replaced_because_readers_demand_utf_8() -> None:
    builder = LogBlockBuilder()

    builder.interop("tar\udc80get", 4, 1, "mess\ud800age")
    block = builder.finish()

    assert b"tar?get" in block.dependencies
    assert b"mess?age" in block.objects


def test_the_same_text_is_one_dependency_whichever_way_it_came() -> None:
    builder = LogBlockBuilder()

    builder.static_interop("shared", 4, 1, "shared")
    builder.interop("shared", 4, 2, "x")
    builder.tagged(LogMetadata("shared", 4), 3, "y", {"shared": "shared"})

    assert builder.finish().dependencies.count(b"shared") == 1


def test_codes_beyond_their_table_are_refused() -> None:
    builder = SpanBlockBuilder()

    with pytest.raises(ValueError, match=r"scope codes must lie in \[0, 4\)"):
        builder.extend(SCOPES, np.array([0], np.uint8), np.array([4]), np.array([1]))
    with pytest.raises(ValueError, match=r"scope codes must lie in \[0, 4\)"):
        builder.extend(SCOPES, np.array([0], np.uint8), np.array([-1]), np.array([1]))
    with pytest.raises(ValueError, match="columns must have one length"):
        builder.extend(SCOPES, np.array([0], np.uint8), np.array([1, 2]), np.array([1]))


def test_an_empty_block_is_two_empty_buffers() -> None:
    block = SpanBlockBuilder().finish()

    assert (block.dependencies, block.objects, block.nb_objects) == (b"", b"", 0)
    assert len(block.payload()) > 2 * 11  # two frames all the same: readers refuse zero bytes
