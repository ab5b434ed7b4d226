"""Telemetry made on the spot: programs that log and record spans, block by block, with rows that are known."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

from lakeflight.wire.envelope import ProcessRequest, encode_block, encode_process, encode_stream
from lakeflight.wire.transit.types import LOG_TYPES, SPAN_TYPES, StreamTypes
from lakeflight.wire.transit.writer import (
    EncodedBlock,
    LogBlockBuilder,
    LogMetadata,
    SpanBlockBuilder,
    SpanMetadata,
    describe_stream,
)
from tests.support.fixtures import Request
from tests.support.rare_blocks import (
    CONNECTION,
    CONNECTION_END,
    IMAGE_TYPES,
    NET_TYPES,
    OBJECT,
    OBJECT_END,
    PROPERTY,
    Image,
    NetEvent,
    image_block,
    net_block,
)

START_NS = 1_714_557_600_000_000_000  # a whole microsecond
SECOND_NS = 1_000_000_000


@dataclass
class Program:
    """One process with one log stream and one thread. Ticks are nanoseconds; block k covers second k."""

    start_ns: int = START_NS
    process_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    log_stream: str = field(default_factory=lambda: str(uuid.uuid4()))
    thread_stream: str = field(default_factory=lambda: str(uuid.uuid4()))
    log_blocks: int = 0
    logged: int = 0
    thread_blocks: int = 0
    spans: int = 0

    def registration(self) -> list[Request]:
        """What a program sends first."""
        process = ProcessRequest(
            process_id=self.process_id,
            exe="made-up",
            username="tester",
            realname="",
            computer="here",
            distro="none",
            cpu_brand="none",
            tsc_frequency=SECOND_NS,
            start_time_ns=self.start_ns,
            start_ticks=0,
            parent_process_id=None,
            properties={"purpose": "test"},
        )
        return [
            _request("process", encode_process(process)),
            _request(
                "stream",
                encode_stream(describe_stream(LOG_TYPES, process_id=self.process_id, stream_id=self.log_stream)),
            ),
            _request(
                "stream",
                encode_stream(
                    describe_stream(
                        SPAN_TYPES,
                        process_id=self.process_id,
                        stream_id=self.thread_stream,
                        properties={"thread-name": "Main", "thread-id": "1"},
                    )
                ),
            ),
        ]

    def log_block(self, lines: int = 3, text: Callable[[int], str] = "line {}".format) -> Request:
        """A block of log lines ``line 0``, ``line 1`` and so on over all blocks."""
        builder = LogBlockBuilder()
        about = LogMetadata(target="test", level=4)
        begin = self.log_blocks * SECOND_NS
        for index in range(lines):
            builder.message(about, begin + index * 1_000, text(self.logged + index))
        request = self.block(builder.finish(), self.log_stream, begin, self.logged)
        self.log_blocks += 1
        self.logged += lines
        return request

    def thread_block(self, frames: int = 5) -> Request:
        """A block of ``frames`` spans with one child each; blocks touch, so they form one chain."""
        builder = SpanBlockBuilder()
        frame, work = SpanMetadata("Frame", "test"), SpanMetadata("Work", "test")
        begin = self.thread_blocks * SECOND_NS
        for index in range(frames):
            at = begin + 1_000 + index * 10_000
            builder.begin(frame, at)
            builder.begin(work, at + 1_000)
            builder.end(work, at + 4_000)
            builder.end(frame, at + 8_000)
        request = self.block(builder.finish(), self.thread_stream, begin, 2 * self.spans)
        self.thread_blocks += 1
        self.spans += 2 * frames
        return request

    def async_requests(self) -> list[Request]:
        """A second thread with the async spans ``request`` and, inside of it, ``query``."""
        builder = SpanBlockBuilder()
        outside, inside = SpanMetadata("request", "test"), SpanMetadata("query", "test")
        builder.begin_async(outside, 1_000, span_id=1)
        builder.begin_async(inside, 2_000, span_id=2, parent_span_id=1, depth=1)
        builder.end_async(inside, 7_000, span_id=2, parent_span_id=1, depth=1)
        builder.end_async(outside, 9_000, span_id=1)
        return self.stream_of_one_block(SPAN_TYPES, builder.finish())

    def net_requests(self) -> list[Request]:
        """A network trace of one connection with one object with one property."""
        events = [
            NetEvent(CONNECTION, 1_000, "127.0.0.1:7777", 1),
            NetEvent(OBJECT, 2_000, "Hero"),
            NetEvent(PROPERTY, 3_000, "Health", 8),
            NetEvent(OBJECT_END, 4_000, number=32),
            NetEvent(CONNECTION_END, 5_000, number=40),
        ]
        return self.stream_of_one_block(NET_TYPES, net_block(events))

    def image_requests(self) -> list[Request]:
        """One image."""
        return self.stream_of_one_block(IMAGE_TYPES, image_block([Image(1_000, b"heatmap", b"png", b"\x89PNG")]))

    def stream_of_one_block(self, types: StreamTypes, block: EncodedBlock) -> list[Request]:
        """One more stream, with all that it has to say."""
        stream_id, registration = self.stream(types)
        return [registration, self.block(block, stream_id)]

    def stream(self, types: StreamTypes, **properties: str) -> tuple[str, Request]:
        """One more stream: its id, and what registers it."""
        stream_id = str(uuid.uuid4())
        described = describe_stream(
            types, process_id=self.process_id, stream_id=stream_id, properties={**properties} or None
        )
        return stream_id, _request("stream", encode_stream(described))

    def block(
        self,
        block: EncodedBlock,
        stream_id: str,
        begin_ticks: int = 0,
        object_offset: int = 0,
        end_ticks: int | None = None,
    ) -> Request:
        """A block of any stream, by default a second long."""
        end_ticks = begin_ticks + SECOND_NS if end_ticks is None else end_ticks
        return _request(
            "block",
            encode_block(
                block.request(
                    block_id=str(uuid.uuid4()),
                    stream_id=stream_id,
                    process_id=self.process_id,
                    begin_time_ns=self.start_ns + begin_ticks,
                    begin_ticks=begin_ticks,
                    end_time_ns=self.start_ns + end_ticks,
                    end_ticks=end_ticks,
                    object_offset=object_offset,
                )
            ),
        )


def _request(kind: str, body: bytes) -> Request:
    return Request(f"/ingestion/insert_{kind}", {}, body)
