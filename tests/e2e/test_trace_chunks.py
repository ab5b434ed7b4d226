"""``perfetto_trace_chunks``: the spans of a process as a trace, read back by Perfetto's own messages and, where it is, its tool."""

from __future__ import annotations

import shutil
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from lakeflight.wire.perfetto import track_uuid
from lakeflight.wire.transit.types import SPAN_TYPES
from lakeflight.wire.transit.writer import SpanBlockBuilder, SpanMetadata
from tests.support.fixtures import Case, native_cases
from tests.support.perfetto_traces import DecodedTrace, decode
from tests.support.programs import START_NS, Program
from tests.support.serving import Server

NOWHERE = "00000000-0000-4000-8000-00000000dead"
ALWAYS = "TIMESTAMP '2000-01-01', TIMESTAMP '2100-01-01'"
AN_HOUR = "TIMESTAMP '2024-01-01T00:00:00Z', TIMESTAMP '2024-01-01T01:00:00Z'"


@pytest.fixture(scope="module")
def program(server: Server) -> Program:
    sent = Program()
    server.replay([*sent.registration(), sent.thread_block(frames=2), *sent.async_requests()])
    return sent


def trace_of(server: Server, call: str, values: tuple[Any, ...] = ()) -> bytes:
    table = server.query(f"SELECT chunk_id, chunk_data FROM perfetto_trace_chunks({call})", values or None)
    assert table.column("chunk_id").to_pylist() == list(range(table.num_rows))
    assert table.num_rows > 0
    return b"".join(table.column("chunk_data").to_pylist())


def assert_same_spans(server: Server, process_id: str, trace: DecodedTrace) -> int:
    """Every span of ``process_spans`` is a slice, on the track of its stream, and nothing else is."""
    spans = server.query(
        'SELECT stream_id, thread_name, name, target, filename, line, epoch_ns("begin") AS b, epoch_ns("end") AS e'
        f" FROM process_spans('{process_id}', 'both')"
    ).to_pylist()
    process = track_uuid(process_id)
    lanes = {uuid for uuid, track in trace.tracks.items() if track.name == "Async Operations"}
    for span in spans:
        if span["stream_id"]:
            assert trace.tracks[track_uuid(span["stream_id"])].thread.thread_name == span["thread_name"]
    expected = sorted(
        (
            track_uuid(span["stream_id"]) if span["stream_id"] else process,
            span["name"], span["target"], span["filename"], span["line"] if span["filename"] else 0, span["b"], span["e"],
        )
        for span in spans
    )  # fmt: skip
    found = sorted((process if s.track in lanes else s.track, *s[1:-1]) for s in trace.slices)
    assert found == expected
    return len(spans)


def test_a_trace_has_the_process_its_threads_and_every_span(server: Server, program: Program) -> None:
    trace = decode(trace_of(server, f"'{program.process_id}', 'both', {ALWAYS}"))

    assert assert_same_spans(server, program.process_id, trace) == 7
    process = trace.tracks[track_uuid(program.process_id)]
    thread = trace.tracks[track_uuid(program.thread_stream)]
    assert process.process.process_name == "made-up"
    assert (thread.thread.thread_name, thread.thread.tid, thread.parent_uuid) == ("Main-1", 1, process.uuid)
    shown = [(s.name, s.depth) for s in sorted(trace.slices, key=lambda s: (s.begin, -s.end)) if s.track == thread.uuid]
    assert shown == [("Main-1", 0), ("Frame", 1), ("Work", 2), ("Frame", 1), ("Work", 2)]
    first = track_uuid("async_track", process.uuid)
    assert [(s.name, s.depth) for s in trace.slices if s.track == first] == [("query", 1), ("request", 0)]


@pytest.mark.parametrize(("types", "spans", "tracks"), [("thread", 5, 3), ("async", 2, 4), ("both", 7, 4)])
def test_types_choose_among_the_spans_and_threads_are_described_all_the_same(
    server: Server, program: Program, types: str, spans: int, tracks: int
) -> None:
    trace = decode(trace_of(server, f"'{program.process_id}', '{types}', {ALWAYS}"))

    assert (len(trace.slices), len(trace.tracks)) == (spans, tracks)


@pytest.mark.parametrize(
    ("begin", "end", "threads", "asynchronous"),
    [
        (0, 20_000, {"Main-1", "Frame", "Work"}, {"request", "query"}),
        (1_500, 8_000, {"Main-1", "Frame", "Work"}, {"query"}),  # the request begins before it
        (9_001, 10_999, {"Main-1"}, set()),  # between two frames
        (20_000, 0, set(), set()),  # ends before it begins
    ],
)
def test_spans_of_threads_overlap_the_time_and_async_ones_lie_in_it(
    server: Server, program: Program, begin: int, end: int, threads: set[str], asynchronous: set[str]
) -> None:
    times = f"make_timestamp_ns({START_NS + begin}), make_timestamp_ns({START_NS + end})"
    trace = decode(trace_of(server, f"'{program.process_id}', 'both', {times}"))

    of_threads = {s.name for s in trace.slices if trace.tracks[s.track].HasField("thread")}
    assert of_threads == threads
    assert {s.name for s in trace.slices} - of_threads == asynchronous


@pytest.mark.parametrize(
    "times",
    [
        "'2024-05-01T10:00:00Z', '2024-05-01T10:00:00.000020Z'",
        "TIMESTAMP '2024-05-01 10:00:00+00:00', DATE '2024-05-02'",
        "NOW() - INTERVAL '100 years', NOW() + INTERVAL '1 hour'",
        "date_trunc('day', TIMESTAMP '2024-05-01 12:00:00'), current_timestamp",
        f"make_timestamp_ns({START_NS}), make_timestamp_ns({START_NS}) + INTERVAL '1 day'",
    ],
)
def test_times_are_whatever_is_constant(server: Server, program: Program, times: str) -> None:
    trace = decode(trace_of(server, f"'{program.process_id}', 'both', {times}"))

    assert len(trace.slices) == 7


def test_arguments_may_be_bound(server: Server, program: Program) -> None:
    values = (program.process_id.upper(), "both", datetime(2024, 1, 1, tzinfo=UTC), "2030-01-01T00:00:00Z")

    assert len(decode(trace_of(server, "?, ?, ?, ?", values)).slices) == 7


def test_it_stands_wherever_a_table_does_each_call_with_its_own_times(server: Server, program: Program) -> None:
    calls = [
        f"perfetto_trace_chunks('{program.process_id}', 'both', {times})"
        for times in (ALWAYS, AN_HOUR, "'2000-01-01', NOW() + INTERVAL '1 hour'")
    ]
    counts = ", ".join(f"(SELECT sum(octet_length(chunk_data)) FROM {call})" for call in calls)
    row = server.query(
        f"WITH x AS MATERIALIZED (SELECT * FROM {calls[0]}) SELECT (SELECT sum(octet_length(chunk_data)) FROM x), {counts},"
        f" (SELECT count(*) FROM {calls[0]} a JOIN {calls[2]} b USING (chunk_id))"
    ).to_pylist()[0]

    materialized, always, an_hour, until_now, joined = row.values()
    assert materialized == always == until_now > an_hour > 0
    assert joined == 1


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (f"'any-process-id', 'invalid-span-type', {AN_HOUR}", "span_types must be 'thread', 'async', or 'both'"),
        ("'process-id', 'both'", r"Third argument to perfetto_trace_chunks must be a timestamp \(start time\)"),
        ("'process-id', 'both', now()", r"Fourth argument to perfetto_trace_chunks must be a timestamp \(end time\)"),
        (f"'non-existent-process-id', 'both', {AN_HOUR}", "Process non-existent-process-id not found"),
        (f"'{NOWHERE}', 'both', {AN_HOUR}", f"Process {NOWHERE} not found"),
        ("'x', 'both', 1, now()", "Third argument .* must be a timestamp"),
        ("'x', 'both', 'yesterday', now()", "Third argument .* must be a timestamp"),
        ("'x', 'both', now(), NULL", "Fourth argument .* must be a timestamp"),
        ("'x', 'both', now(), (SELECT max(time) FROM log_entries)", "Fourth argument .* must be a timestamp"),
        ("'x'", "takes a process id and a type of spans and a time and a time, not 1 arguments"),
        ("1, 'both', now(), now()", "the first argument of perfetto_trace_chunks must be a string literal"),
        ("process_id := 'x', span_types := 'both', begin_time := now(), end_time := now()", "by position"),
    ],
)
def test_what_means_nothing_is_refused_in_words(server: Server, arguments: str, reason: str) -> None:
    with pytest.raises(Exception, match=reason):
        server.query(f"SELECT chunk_id, chunk_data FROM perfetto_trace_chunks({arguments})")


def test_a_range_of_the_headers_narrows_the_times(server: Server, program: Program) -> None:
    headers = {"query_range_begin": "2024-05-01T10:00:00.0000015Z", "query_range_end": "2024-05-01T10:00:00.000008Z"}
    with server.connect(headers) as connection, connection.cursor() as cursor:
        cursor.execute(f"SELECT chunk_data FROM perfetto_trace_chunks('{program.process_id}', 'async', {ALWAYS})")
        trace = decode(b"".join(cursor.fetch_arrow_table().column("chunk_data").to_pylist()))

    assert [s.name for s in trace.slices] == ["query"]


def test_a_program_without_spans_is_a_trace_with_its_name(server: Server) -> None:
    quiet = Program()
    server.replay([*quiet.registration(), quiet.log_block()])

    trace = decode(trace_of(server, f"'{quiet.process_id}', 'both', {ALWAYS}"))

    assert trace.slices == [] and track_uuid(quiet.process_id) in trace.tracks


def test_chunks_are_a_megabyte_at_most_and_many_tracks_are_one_trace(server: Server) -> None:
    busy = Program()
    server.replay([*busy.registration(), *(busy.thread_block(frames=4_000) for _ in range(3))])
    for _ in range(3):
        builder = SpanBlockBuilder()
        for number in range(2_000):
            span = uuid.uuid4().int & ((1 << 62) - 1)
            place = SpanMetadata(f"name {number % 50}", "t")
            builder.begin_async(place, 10 * number, span_id=span)
            builder.end_async(place, 10 * number + 95, span_id=span)
        server.replay(busy.stream_of_one_block(SPAN_TYPES, builder.finish()))
    table = server.query(f"SELECT * FROM perfetto_trace_chunks('{busy.process_id}', 'both', {ALWAYS})")

    chunks = table.column("chunk_data").to_pylist()
    assert len(chunks) > 1 and max(map(len, chunks)) <= 1 << 20
    assert assert_same_spans(server, busy.process_id, decode(b"".join(chunks))) > 30_000


@pytest.mark.parametrize("case", native_cases(), ids=lambda case: case.name)
def test_recorded_spans_come_back_from_the_trace(server: Server, case: Case) -> None:
    server.replay(case.requests)

    assert_same_spans(server, case.process_id, decode(trace_of(server, f"'{case.process_id}', 'both', {ALWAYS}")))


@pytest.mark.needs("trace_processor_shell")
def test_perfettos_own_tool_sees_the_same_spans(server: Server, program: Program, tmp_path: Path) -> None:
    from perfetto.trace_processor import TraceProcessor, TraceProcessorConfig

    path = tmp_path / "trace.perfetto"
    path.write_bytes(trace_of(server, f"'{program.process_id}', 'both', {ALWAYS}"))
    with TraceProcessor(
        trace=str(path), config=TraceProcessorConfig(bin_path=shutil.which("trace_processor_shell"))
    ) as tool:
        rows = tool.query("SELECT name, ts, dur, depth FROM slice ORDER BY ts, depth")
        shown = sorted((row.name, row.ts, row.dur, row.depth) for row in rows)

    trace = decode(path.read_bytes())
    assert shown == sorted((s.name, s.begin, s.end - s.begin, s.depth) for s in trace.slices)
