"""A thread whose clock goes back has spans that end before they begin, and whoever asks for just these gets them."""

from __future__ import annotations

import uuid

from lakeflight.wire.envelope import encode_block
from lakeflight.wire.times import format_time
from lakeflight.wire.transit.writer import SpanBlockBuilder, SpanMetadata
from tests.support.fixtures import Request
from tests.support.programs import SECOND_NS, Program
from tests.support.serving import Server

MS = 1_000_000


def test_a_span_that_ends_before_it_begins_is_found_by_both_of_its_times(server: Server) -> None:
    program = Program()
    builder, frame = SpanBlockBuilder(), SpanMetadata("Frame", "test")
    for at in (1 * MS, 20 * MS):
        builder.begin(frame, at)
        builder.end(frame, at + MS)
    builder.begin(SpanMetadata("Backwards", "test"), 8 * MS)
    builder.end(SpanMetadata("Backwards", "test"), 5 * MS)
    block = builder.finish().request(
        block_id=str(uuid.uuid4()),
        stream_id=program.thread_stream,
        process_id=program.process_id,
        begin_time_ns=program.start_ns,
        begin_ticks=0,
        end_time_ns=program.start_ns + SECOND_NS,
        end_ticks=SECOND_NS,
        object_offset=0,
    )
    server.replay([*program.registration(), Request("/ingestion/insert_block", {}, encode_block(block))])
    spans = f"view_instance('thread_spans', '{program.thread_stream}')"

    def names(condition: str) -> list[str]:
        found = server.query(f"SELECT name FROM {spans} WHERE depth > 0 AND {condition} ORDER BY begin")
        return [row["name"] for row in found.to_pylist()]

    six, seven = (format_time(program.start_ns + at * MS)[:-1].replace("T", " ") for at in (6, 7))
    for _ in range(2):  # when its block says where it may be, and when its file does
        assert names(f"begin >= '{seven}' AND \"end\" <= '{six}'") == ["Backwards"]
        assert names(f"begin >= '{seven}'") == ["Backwards", "Frame"]
        assert names(f"\"end\" <= '{six}'") == ["Frame", "Backwards"]
