"""What is rare, wrong or large, sent and asked for like everything else: what each yields is written down in docs/views.md."""

from __future__ import annotations

import math
import struct
import time
import uuid
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lakeflight.wire.envelope import StreamRequest, decode_block, encode_block, encode_stream
from lakeflight.wire.otlp.resources import LOGS, METRICS, TRACES
from lakeflight.wire.transit.types import LOG_TYPES, METRIC_TYPES, SPAN_TYPES
from lakeflight.wire.transit.writer import (
    EncodedBlock,
    LogBlockBuilder,
    LogMetadata,
    MetricBlockBuilder,
    MetricMetadata,
    NamedSpan,
    SpanBlockBuilder,
    SpanLocation,
    SpanMetadata,
)
from tests.support import blocks, otlp
from tests.support.fixtures import Request
from tests.support.programs import SECOND_NS, START_NS, Program
from tests.support.serving import Server
from tests.support.sizes import size

A, B = SpanMetadata("A", "test"), SpanMetadata("B", "test")
HOUR_NS = 3_600 * SECOND_NS
PROTOBUF = {"Content-Type": "application/x-protobuf"}
JSON = {"Content-Type": "application/json"}


def tuples(server: Server, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in server.query(sql, parameters or None).to_pylist()]


def started(server: Server, start_ns: int = START_NS) -> Program:
    program = Program(start_ns)
    server.replay(program.registration())
    return program


def spans_of(server: Server, program: Program, columns: str = 'name, depth, epoch_ns(begin), epoch_ns("end")') -> Any:
    sql = f"SELECT {columns} FROM view_instance('thread_spans', '{program.thread_stream}') ORDER BY begin, depth"
    return [
        (name, depth, begin - program.start_ns, end - program.start_ns)
        for name, depth, begin, end in tuples(server, sql)
    ]


def thread_block(*events: tuple[bool, SpanMetadata, int]) -> EncodedBlock:
    builder = SpanBlockBuilder()
    for begins, span, ticks in events:
        (builder.begin if begins else builder.end)(span, ticks)
    return builder.finish()


def log_block(*messages: str) -> EncodedBlock:
    builder = LogBlockBuilder()
    for number, message in enumerate(messages):
        builder.message(LogMetadata("test", 4), number, message)
    return builder.finish()


# --- who sends --------------------------------------------------------------------------------------------------------


def test_two_instrumentations_of_one_process_are_told_apart_by_their_streams(server: Server) -> None:
    """Two libraries in one program have type tables, streams, and threads of their own, which may be called the same."""
    program = started(server)
    other_stream = str(uuid.uuid4())
    other = StreamRequest(program.process_id, other_stream, *blocks.LOG_TABLES, tags=("log",), properties={})
    spans, same_thread = program.stream(SPAN_TYPES, **{"thread-name": "Main", "thread-id": "1"})
    server.replay(
        [
            Request("/ingestion/insert_stream", {}, encode_stream(other)),
            same_thread,
            program.log_block(lines=2),
            program.block(EncodedBlock(blocks.LOG_DEPENDENCIES, blocks.LOG_OBJECTS, 5), other_stream),
            program.thread_block(frames=1),
            program.block(thread_block((True, A, 100), (False, A, 200)), spans),
        ]
    )

    lines = tuples(
        server,
        f"SELECT stream_id, msg FROM log_entries WHERE process_id = '{program.process_id}' ORDER BY stream_id, time",
    )
    threads = tuples(
        server,
        f"""SELECT stream_id, thread_name, string_agg(name, ' ' ORDER BY begin, depth)
            FROM process_spans('{program.process_id}', 'thread') GROUP BY ALL""",
    )

    assert [msg for stream, msg in lines if stream == program.log_stream] == ["line 0", "line 1"]
    assert [msg for stream, msg in lines if stream == other_stream] == [
        "static msg",
        "dyn",
        "interop msg",
        "m3",
        "tagged",
    ]
    assert set(threads) == {
        (program.thread_stream, "Main-1", "Main-1 Frame Work"),
        (spans, "Main-1", "Main-1 A"),
    }


def test_a_process_may_send_natively_and_by_opentelemetry(server: Server) -> None:
    request = LOGS.request()
    resource = request.resource_logs.add()
    resource.resource.attributes.add(key="service.name").value.string_value = f"both-{uuid.uuid4()}"
    resource.scope_logs.add().log_records.add(time_unix_nano=START_NS).body.string_value = "by OpenTelemetry"
    assert server.post("/v1/logs", request.SerializeToString(), PROTOBUF) == 200
    exe = resource.resource.attributes[0].value.string_value
    ((process_id,),) = tuples(server, f"SELECT process_id FROM processes WHERE exe = '{exe}'")
    program = Program(START_NS, process_id=process_id)
    _, *streams = program.registration()
    builder = LogBlockBuilder()
    builder.message(
        LogMetadata("native", 3), START_NS + 5, "natively"
    )  # ticks of such a process are nanoseconds since 1970

    server.replay([*streams, program.block(builder.finish(), program.log_stream)])

    assert tuples(
        server,
        f"SELECT epoch_ns(time), target, level, msg, exe FROM log_entries WHERE process_id = '{process_id}' ORDER BY time",
    ) == [(START_NS, "", 4, "by OpenTelemetry", exe), (START_NS + 5, "native", 3, "natively", exe)]


def test_a_process_without_streams_has_no_rows_and_is_listed_with_its_first_block(server: Server) -> None:
    program = Program()
    server.replay(program.registration()[:1])
    listed = f"SELECT exe FROM processes WHERE process_id = '{program.process_id}'"

    assert tuples(server, listed) == []
    for view_set in ("log_entries", "measures", "async_events", "net_spans", "otel_spans", "images", "log_stats"):
        found = server.query(f"SELECT * FROM view_instance('{view_set}', '{program.process_id}')")
        assert found.num_rows == 0 and found.num_columns > 4
    assert server.query(f"SELECT * FROM process_spans('{program.process_id}', 'both')").num_rows == 0
    trace = f"SELECT count(*) FROM perfetto_trace_chunks('{program.process_id}', 'both', '2000-01-01T00:00:00Z', now())"
    assert tuples(server, trace) == [(1,)]  # it says who the process is
    server.replay([*program.registration()[1:], program.log_block()])
    assert tuples(server, listed) == [("made-up",)]


def test_streams_without_blocks_have_no_rows_and_are_listed_with_their_first_block(server: Server) -> None:
    program = started(server)
    listed = f"SELECT stream_id FROM streams WHERE process_id = '{program.process_id}'"

    assert tuples(server, listed) == []
    assert spans_of(server, program) == []
    assert tuples(server, f"SELECT count(*) FROM process_spans('{program.process_id}', 'both')") == [(0,)]
    server.replay([program.thread_block(frames=1)])
    assert tuples(server, listed) == [(program.thread_stream,)]
    assert [name for name, *_ in spans_of(server, program)] == ["Main-1", "Frame", "Work"]


# --- when blocks come -------------------------------------------------------------------------------------------------


def test_blocks_that_overlap_are_one_tree(server: Server) -> None:
    program = started(server)
    first = thread_block((True, A, 100))
    second = thread_block((True, B, 250), (False, B, 280), (False, A, 400))

    server.replay(
        [
            program.block(first, program.thread_stream, 0, 0, 300),
            program.block(second, program.thread_stream, 200, 1, 500),
        ]
    )

    assert spans_of(server, program) == [("Main-1", 0, 0, 500), ("A", 1, 100, 400), ("B", 2, 250, 280)]


def test_blocks_that_come_late_out_of_order_and_twice_are_the_same_rows(server: Server) -> None:
    program = started(server)
    parts = [
        program.block(thread_block((True, A, 100), (True, B, 150)), program.thread_stream, 0, 0, 200),
        program.block(thread_block((False, B, 250)), program.thread_stream, 200, 2, 300),
        program.block(thread_block((False, A, 350)), program.thread_stream, 300, 3, 400),
    ]

    server.replay([parts[2]])
    assert spans_of(server, program) == [("Main-1", 0, 300, 400), ("A", 1, 300, 350)]  # its begin has not come
    server.replay([parts[0], parts[2]])
    assert spans_of(server, program) == [  # with a gap between them
        *(("A", 0, 100, 200), ("B", 1, 150, 200)),
        *(("Main-1", 0, 300, 400), ("A", 1, 300, 350)),
    ]
    server.replay([parts[1], *parts])
    assert spans_of(server, program) == [("Main-1", 0, 0, 400), ("A", 1, 100, 350), ("B", 2, 150, 250)]


def test_of_two_blocks_with_one_id_the_first_stands(server: Server) -> None:
    program = started(server)
    first, second = (program.block(log_block(text), program.log_stream) for text in ("first", "second"))
    again = replace(decode_block(second.body), block_id=decode_block(first.body).block_id)

    server.replay([first, replace(second, body=encode_block(again))])

    assert tuples(server, f"SELECT msg FROM log_entries WHERE process_id = '{program.process_id}'") == [("first",)]


@pytest.mark.parametrize("ahead_ns", [2 * HOUR_NS, 3_650 * 24 * HOUR_NS], ids=["hours", "years"])
def test_a_block_from_the_future_has_its_own_times_and_is_found_by_them(server: Server, ahead_ns: int) -> None:
    """A sender's clock may be wrong. Its rows are not moved, and what is asked for up to now has none of them."""
    start_ns = time.time_ns() // 1_000 * 1_000 + ahead_ns
    program = started(server, start_ns)
    server.replay([program.log_block(lines=2), program.thread_block(frames=1)])
    of_it = f"FROM log_entries WHERE process_id = '{program.process_id}'"

    assert tuples(server, f"SELECT msg, epoch_ns(time) {of_it} ORDER BY time") == [
        ("line 0", start_ns),
        ("line 1", start_ns + 1_000),
    ]
    assert tuples(server, f"SELECT count(*) {of_it} AND time <= now()") == [(0,)]
    assert tuples(server, f"SELECT count(*) {of_it} AND time > now() + INTERVAL 1 HOUR") == [(2,)]
    assert tuples(server, f"SELECT count(*) {of_it} AND insert_time BETWEEN now() - INTERVAL 1 HOUR AND now()") == [
        (2,)
    ]
    assert [name for name, *_ in spans_of(server, program)] == ["Main-1", "Frame", "Work"]
    counted = f"SELECT sum(count) FROM log_stats WHERE process_id = '{program.process_id}' AND time_bin > now()"
    assert tuples(server, counted) == [(2,)]


# --- spans that are not whole -----------------------------------------------------------------------------------------


def test_spans_never_closed_end_with_their_blocks_and_ends_never_begun_begin_with_them(server: Server) -> None:
    program = started(server)
    block = thread_block((False, B, 100), (True, A, 200), (True, B, 300), (False, B, 400), (True, B, 500))

    server.replay([program.block(block, program.thread_stream, 0, 0, 1_000)])

    assert spans_of(server, program) == [
        *(("Main-1", 0, 0, 1_000), ("B", 1, 0, 100)),
        *(("A", 1, 200, 1_000), ("B", 2, 300, 400), ("B", 2, 500, 1_000)),
    ]


def test_halves_of_async_spans_are_events_and_no_spans(server: Server) -> None:
    program = started(server)
    builder = SpanBlockBuilder()
    builder.begin_async(A, 100, span_id=1)
    builder.end_async(B, 200, span_id=2)
    server.replay(program.stream_of_one_block(SPAN_TYPES, builder.finish()))

    events = (
        f"SELECT name, event_type, span_id FROM view_instance('async_events', '{program.process_id}') ORDER BY time"
    )
    assert tuples(server, events) == [("A", "begin", 1), ("B", "end", 2)]
    assert tuples(server, f"SELECT count(*) FROM process_spans('{program.process_id}', 'async')") == [(0,)]


def test_async_spans_cross_threads_and_blocks(server: Server) -> None:
    program = started(server)
    begins, ends = SpanBlockBuilder(), SpanBlockBuilder()
    begins.begin_async(A, 100, span_id=7)
    begins.begin_async(B, 150, span_id=8, parent_span_id=7, depth=1)
    ends.end_async(B, SECOND_NS + 10, span_id=8, parent_span_id=7, depth=1)
    ends.end_async(A, SECOND_NS + 20, span_id=7)
    one, first = program.stream(SPAN_TYPES)
    two, second = program.stream(SPAN_TYPES)

    server.replay([second, program.block(ends.finish(), two, SECOND_NS), first, program.block(begins.finish(), one)])

    pairs = f"SELECT name, parent, depth, duration FROM process_spans('{program.process_id}', 'async') ORDER BY begin"
    assert tuples(server, pairs) == [("A", 0, 0, SECOND_NS - 80), ("B", 7, 1, SECOND_NS - 140)]
    events = f"""SELECT event_type, stream_id FROM view_instance('async_events', '{program.process_id}')
                 WHERE span_id = 7 ORDER BY time"""
    assert tuples(server, events) == [("begin", one), ("end", two)]


# --- values -----------------------------------------------------------------------------------------------------------

FLOATS = (math.nan, math.inf, -math.inf, -0.0, 0.0, 5e-324, 1.7976931348623157e308)
INTEGERS = (0, 1, (1 << 53) + 1, (1 << 63) - 1, 1 << 63, (1 << 63) + 1, (1 << 64) - 1)


def bits(values: Any) -> list[str]:
    return [struct.pack("<d", math.nan if math.isnan(value) else value).hex() for value in values]


def test_numbers_that_are_none_and_numbers_above_int64_are_measured(server: Server) -> None:
    program = started(server)
    builder = MetricBlockBuilder()
    for number, value in enumerate(FLOATS):
        builder.add_float(MetricMetadata("float", "x"), number, value)
    for number, value in enumerate(INTEGERS):
        builder.add_integer(MetricMetadata("integer", "x"), number, value)
    server.replay(program.stream_of_one_block(METRIC_TYPES, builder.finish()))
    of_it = f"FROM measures WHERE process_id = '{program.process_id}' AND name"

    found = {name: tuples(server, f"SELECT value {of_it} = '{name}' ORDER BY time") for name in ("float", "integer")}

    assert bits(value for (value,) in found["float"]) == bits(FLOATS)
    assert [value for (value,) in found["integer"]] == [float(value) for value in INTEGERS]
    # NaN is greater than any number to the engine, also where files are left out by what they hold
    assert tuples(server, f"SELECT count(*), count(*) FILTER (isnan(value)) {of_it} = 'float' AND value > 5") == [
        (3, 1)
    ]
    assert tuples(server, f"SELECT count(*) {of_it} = 'float' AND value = 0") == [(2,)]
    assert tuples(server, f"SELECT count(*) {of_it} = 'integer' AND value >= 9223372036854775808") == [(4,)]


def test_the_same_numbers_by_opentelemetry(server: Server) -> None:
    request = METRICS.request()
    resource = request.resource_metrics.add()
    resource.resource.attributes.add(key="service.name").value.string_value = exe = f"numbers-{uuid.uuid4()}"
    metrics = resource.scope_metrics.add().metrics
    points = metrics.add(name="float").gauge.data_points
    for number, value in enumerate(FLOATS):
        points.add(time_unix_nano=START_NS + number, as_double=value)
    counts = metrics.add(name="wait").summary.data_points
    counts.add(time_unix_nano=START_NS, count=(1 << 64) - 1, sum=math.nan)
    assert server.post("/v1/metrics", request.SerializeToString(), PROTOBUF) == 200
    assert server.post("/v1/metrics", otlp.as_json(request), JSON) == 200

    rows = tuples(server, f"SELECT name, value FROM measures WHERE exe = '{exe}' ORDER BY name, time")

    assert bits(value for name, value in rows if name == "float") == bits(FLOATS)
    assert [(name, repr(value)) for name, value in rows if name != "float"] == [
        ("wait_count", repr(float((1 << 64) - 1))),
        ("wait_sum", "nan"),
    ]


def test_ids_of_spans_above_int64_keep_their_bits(server: Server) -> None:
    program = started(server)
    builder = SpanBlockBuilder()
    builder.begin_async(A, 100, span_id=(1 << 64) - 1)
    builder.begin_async(B, 150, span_id=1 << 63, parent_span_id=(1 << 64) - 1, depth=1)
    builder.end_async(B, 200, span_id=1 << 63, parent_span_id=(1 << 64) - 1, depth=1)
    builder.end_async(A, 300, span_id=(1 << 64) - 1)
    server.replay(program.stream_of_one_block(SPAN_TYPES, builder.finish()))

    spans = f"SELECT name, id, parent FROM process_spans('{program.process_id}', 'async') ORDER BY begin"
    assert tuples(server, spans) == [("A", -1, 0), ("B", -(1 << 63), -1)]


# --- text -------------------------------------------------------------------------------------------------------------


def every_plane() -> str:
    """Characters of all 17 planes, the first and the last of each, noncharacters among them, and of controls all."""
    points = [*range(0x100), *range(0x100, 0x110000, 251)]
    points += [plane << 16 | end for plane in range(17) for end in (0, 1, 0xFFFD, 0xFFFE, 0xFFFF)]
    return "".join(chr(point) for point in points if not 0xD800 <= point <= 0xDFFF)


def wide(text: str) -> bytes:
    """A message in UTF-16, as game engines send it."""
    data = text.encode("utf-16-le", "surrogatepass")
    return blocks.dyn_string(data, codec=1)


def test_every_plane_of_unicode_arrives_in_every_kind_of_text(server: Server) -> None:
    text = every_plane()
    assert {ord(character) >> 16 for character in text} == set(range(17))
    program = started(server)
    builder = LogBlockBuilder()
    builder.tagged(LogMetadata(f"target {text}", 4), 0, text, {f"key {text}": text})
    spans = SpanBlockBuilder()
    spans.begin(NamedSpan(text, SpanLocation("t")), 10)
    spans.end(NamedSpan(text, SpanLocation("t")), 20)
    metrics = MetricBlockBuilder()
    metrics.add_float(MetricMetadata(text, text), 0, 1.0)
    stream_id = str(uuid.uuid4())
    of_utf16 = StreamRequest(program.process_id, stream_id, *blocks.LOG_TABLES, tags=("log",), properties={})
    described = blocks.LOG_OBJECTS[1:9]
    in_utf16 = blocks.record(1, described + struct.pack("<q", 2_000) + wide(text), dynamic=True)
    server.replay(
        [
            program.block(builder.finish(), program.log_stream),
            program.block(spans.finish(), program.thread_stream),
            *program.stream_of_one_block(METRIC_TYPES, metrics.finish()),
            Request("/ingestion/insert_stream", {}, encode_stream(of_utf16)),
            program.block(EncodedBlock(blocks.LOG_DEPENDENCIES, in_utf16, 1), stream_id),
        ]
    )
    lines = f"FROM log_entries WHERE process_id = '{program.process_id}'"

    assert tuples(server, f"SELECT msg, target {lines} ORDER BY time") == [(text, f"target {text}"), (text, "tgt")]
    assert tuples(server, f"SELECT count(*) {lines} AND msg = ?", text) == [(2,)]
    assert tuples(server, f"SELECT DISTINCT length(msg) {lines}") == [(len(text),)]
    assert tuples(
        server, f"SELECT key, jsonb_as_string(value) FROM jsonb_each((SELECT properties {lines} AND target <> 'tgt'))"
    ) == [(f"key {text}", text)]
    assert [name for name, *_ in spans_of(server, program)] == ["Main-1", text]
    assert tuples(server, f"SELECT name, unit FROM measures WHERE process_id = '{program.process_id}'") == [
        (text, text)
    ]


@pytest.mark.parametrize("headers", [PROTOBUF, JSON], ids=["protobuf", "json"])
def test_every_plane_of_unicode_arrives_by_opentelemetry(server: Server, headers: dict[str, str]) -> None:
    text, exe = every_plane(), f"planes-{uuid.uuid4()}"
    request = TRACES.request()
    resource = request.resource_spans.add()
    resource.resource.attributes.add(key="service.name").value.string_value = exe
    span = resource.scope_spans.add().spans.add(trace_id=b"t" * 16, span_id=b"s" * 8, name=text)
    span.start_time_unix_nano, span.end_time_unix_nano = START_NS, START_NS + 1
    span.attributes.add(key=text).value.string_value = text
    body = otlp.as_json(request) if headers is JSON else request.SerializeToString()
    assert server.post("/v1/traces", body, headers) == 200
    ((process_id,),) = tuples(server, f"SELECT process_id FROM processes WHERE exe = '{exe}'")

    found = tuples(server, f"SELECT name, properties ->> ? FROM view_instance('otel_spans', '{process_id}')", text)

    assert found[0][0] == text
    ((key, value),) = tuples(
        server,
        f"""SELECT key, jsonb_as_string(value)
            FROM jsonb_each((SELECT properties FROM view_instance('otel_spans', '{process_id}')))""",
    )
    assert (key, value) == (text, text)


def test_a_nul_in_a_text_is_a_character_like_others(server: Server) -> None:
    program = started(server)
    server.replay([program.block(log_block("before\0after", "before", "\0"), program.log_stream)])
    lines = f"FROM log_entries WHERE process_id = '{program.process_id}'"

    assert tuples(server, f"SELECT msg, length(msg) {lines} ORDER BY time") == [
        *(("before\0after", 12), ("before", 6), ("\0", 1)),
    ]
    assert tuples(server, f"SELECT count(*) {lines} AND msg = 'before' || chr(0) || 'after'") == [(1,)]
    assert tuples(server, f"SELECT count(*) {lines} AND msg LIKE 'before%'") == [(2,)]


def test_what_is_no_text_becomes_replacement_characters(server: Server) -> None:
    """Bytes that are no UTF-8, and halves of surrogate pairs, which UTF-16 and JSON can write alone."""
    program = started(server)
    described = blocks.LOG_OBJECTS[1:9]
    stream_id = str(uuid.uuid4())
    stream = StreamRequest(program.process_id, stream_id, *blocks.LOG_TABLES, tags=("log",), properties={})
    texts = [blocks.dyn_string(b"a\xff\xe2\x82z"), wide("b\ud83dz"), wide("c\udc00\ud83d\ude00")]
    objects = b"".join(
        blocks.record(1, described + struct.pack("<q", 2_000 + number) + text, dynamic=True)
        for number, text in enumerate(texts)
    )
    server.replay(
        [
            Request("/ingestion/insert_stream", {}, encode_stream(stream)),
            program.block(EncodedBlock(blocks.LOG_DEPENDENCIES, objects, len(texts)), stream_id),
        ]
    )

    lines = f"SELECT msg FROM log_entries WHERE process_id = '{program.process_id}' ORDER BY time"
    assert tuples(server, lines) == [("a\ufffd\ufffdz",), ("b\ufffdz",), ("c\ufffd\U0001f600",)]


def test_half_of_a_surrogate_pair_loses_no_request_in_json(server: Server) -> None:
    exe = f"halves-{uuid.uuid4()}"
    body = (
        '{"resourceLogs":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"%s"}}]},'
        '"scopeLogs":[{"logRecords":[{"timeUnixNano":"%d","body":{"stringValue":"cut \\ud83d"},'
        '"attributes":[{"key":"\\udc00k","value":{"stringValue":"\\ud83d\\ude00 whole"}}]}]}]}]}'
    )
    assert server.post("/v1/logs", (body % (exe, START_NS)).encode(), JSON) == 200

    assert tuples(server, f"SELECT msg, properties FROM log_entries WHERE exe = '{exe}'") == [
        ("cut \ufffd", '{"\ufffdk":"\U0001f600 whole"}')
    ]


# --- much -------------------------------------------------------------------------------------------------------------


def test_messages_of_a_megabyte_arrive_whole(server: Server) -> None:
    program = started(server)
    unit = 'ünïcode "quoted" \\ \t \U0001f600 '
    messages = [f"{number} " + unit * ((1 << 20) // len(unit.encode())) for number in range(12)]
    server.replay([program.block(log_block(*messages), program.log_stream)])
    exe = f"long-{uuid.uuid4()}"
    request = LOGS.request()
    resource = request.resource_logs.add()
    resource.resource.attributes.add(key="service.name").value.string_value = exe
    for number, message in enumerate(messages[:3]):
        resource.scope_logs.add().log_records.add(time_unix_nano=START_NS + number).body.string_value = message
    assert server.post("/v1/logs", request.SerializeToString(), PROTOBUF) == 200

    native = f"SELECT msg FROM log_entries WHERE process_id = '{program.process_id}' ORDER BY time"
    assert [msg for (msg,) in tuples(server, native)] == messages
    assert [
        msg for (msg,) in tuples(server, f"SELECT msg FROM log_entries WHERE exe = '{exe}' ORDER BY time")
    ] == messages[:3]
    found = (
        f"SELECT count(*) FROM log_entries WHERE process_id = '{program.process_id}' AND contains(msg, '\U0001f600')"
    )
    assert tuples(server, found) == [(12,)]


def names_of_threads(program: Program, many: int) -> tuple[list[Request], str, str]:
    builder = SpanBlockBuilder()
    scopes = [NamedSpan(f"name {number}", SpanLocation("t")) for number in range(many)]
    codes = np.repeat(np.arange(many), 2)
    builder.extend(scopes, np.tile([0, 1], many), codes, np.arange(2 * many) * 100)
    block = program.block(builder.finish(), program.thread_stream)
    return [block], f"view_instance('thread_spans', '{program.thread_stream}') WHERE depth = 1 AND", "name"


def names_of_async_spans(program: Program, many: int) -> tuple[list[Request], str, str]:
    builder = SpanBlockBuilder()
    scopes = [NamedSpan(f"name {number}", SpanLocation("t")) for number in range(many)]
    codes, zeros = np.arange(many), np.zeros(many, np.int64)
    builder.extend_async(scopes, zeros, codes, codes, codes + 1, zeros, zeros)
    requests = program.stream_of_one_block(SPAN_TYPES, builder.finish())
    return requests, f"view_instance('async_events', '{program.process_id}') WHERE", "name"


def names_of_metrics(program: Program, many: int) -> tuple[list[Request], str, str]:
    builder = MetricBlockBuilder()
    metrics = [MetricMetadata(f"name {number}", "x") for number in range(many)]
    builder.extend(metrics, np.arange(many), np.arange(many), np.ones(many))
    requests = program.stream_of_one_block(METRIC_TYPES, builder.finish())
    return requests, f"measures WHERE process_id = '{program.process_id}' AND", "name"


def targets_of_lines(program: Program, many: int) -> tuple[list[Request], str, str]:
    builder = LogBlockBuilder()
    for number in range(many):
        builder.static(LogMetadata(f"name {number}", 4), number)
    requests = program.stream_of_one_block(LOG_TYPES, builder.finish())
    return requests, f"log_entries WHERE process_id = '{program.process_id}' AND", "target"


@pytest.mark.parametrize(
    ("made", "many"),
    [
        (names_of_threads, 1_000_000),
        *((made, size(200_000, 1_000_000)) for made in (names_of_async_spans, names_of_metrics, targets_of_lines)),
    ],
)
def test_a_block_may_have_a_million_distinct_names(server: Server, made: Any, many: int) -> None:
    program = started(server)
    requests, view, column = made(program, many)
    server.replay(requests)

    counted = f"SELECT count(*), count(DISTINCT {column}) FROM {view} {column} LIKE 'name %'"
    assert tuples(server, counted) == [(many, many)]
    assert tuples(server, f"SELECT count(*) FROM {view} {column} = 'name {many - 1}'") == [(1,)]
    set_aside = f"SELECT count(*) FROM quarantined_blocks WHERE process_id = '{program.process_id}'"
    assert tuples(server, set_aside) == [(0,)]
