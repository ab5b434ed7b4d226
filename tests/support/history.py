"""Programs that ran for days: blocks of every kind at any time of theirs, for lakes whose partitions lie far apart."""

from __future__ import annotations

import random
import uuid
from dataclasses import dataclass, field

from lakeflight.wire.envelope import ProcessRequest, encode_block, encode_process, encode_stream
from lakeflight.wire.transit.types import LOG_TYPES, METRIC_TYPES, SPAN_TYPES
from lakeflight.wire.transit.writer import (
    EncodedBlock,
    LogBlockBuilder,
    LogMetadata,
    MetricBlockBuilder,
    MetricMetadata,
    SpanBlockBuilder,
    SpanMetadata,
    describe_stream,
)
from tests.support.fixtures import Request

SECOND_NS = 1_000_000_000
MINUTE_NS = 60 * SECOND_NS
HOUR_NS = 60 * MINUTE_NS
DAY_NS = 24 * HOUR_NS
MARGIN_NS = 4 * MINUTE_NS  # how far events may lie outside of what their block claims, and a bit less

_STREAMS = {"log": LOG_TYPES, "metrics": METRIC_TYPES, "cpu": SPAN_TYPES}


@dataclass
class LongProgram:
    """A process with one stream of each kind. Ticks are nanoseconds since its start."""

    start_ns: int
    exe: str
    chance: random.Random
    process_id: str = field(init=False)
    streams: dict[str, str] = field(init=False)
    times_ns: list[int] = field(default_factory=list)
    offsets: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_STREAMS, 0))
    spans_end_ns: int = 0

    def __post_init__(self) -> None:
        self.process_id = self._uuid()
        self.streams = {tag: self._uuid() for tag in _STREAMS}
        self.spans_end_ns = self.start_ns

    def registration(self) -> list[Request]:
        process = ProcessRequest(
            process_id=self.process_id,
            exe=self.exe,
            username="tester",
            realname="",
            computer="here",
            distro="none",
            cpu_brand="none",
            tsc_frequency=SECOND_NS,
            start_time_ns=self.start_ns,
            start_ticks=0,
            parent_process_id=None,
            properties={"purpose": "history"},
        )
        streams = [
            describe_stream(types, process_id=self.process_id, stream_id=self.streams[tag])
            for tag, types in _STREAMS.items()
        ]
        return [
            Request("/ingestion/insert_process", {}, encode_process(process)),
            *(Request("/ingestion/insert_stream", {}, encode_stream(stream)) for stream in streams),
        ]

    def logs(self, begin_ns: int, length_ns: int) -> Request:
        """Lines spread over a span of time; some lie outside of what the block claims."""
        builder = LogBlockBuilder()
        times = self._times(begin_ns, length_ns)
        for time_ns in times:
            about = LogMetadata(self.chance.choice(("net", "disk", "ui")), self.chance.randint(1, 6))
            builder.message(about, time_ns - self.start_ns, f"line {self.chance.randrange(50)}")
        return self._block("log", builder.finish(), begin_ns, length_ns, len(times))

    def metrics(self, begin_ns: int, length_ns: int) -> Request:
        builder = MetricBlockBuilder()
        times = self._times(begin_ns, length_ns)
        for time_ns in times:
            name = self.chance.choice(("fps", "memory"))
            builder.add_float(MetricMetadata(name, "ms"), time_ns - self.start_ns, float(self.chance.randrange(100)))
        return self._block("metrics", builder.finish(), begin_ns, length_ns, len(times))

    def spans(self, begin_ns: int, length_ns: int) -> Request:
        """Frames with work in them; a thread's blocks follow each other, so this begins after the last one."""
        begin_ns = max(begin_ns, self.spans_end_ns)
        self.spans_end_ns = begin_ns + length_ns
        builder = SpanBlockBuilder()
        frame, work = SpanMetadata("Frame", "test"), SpanMetadata("Work", "test")
        edges = sorted(self.chance.randrange(length_ns) for _ in range(4 * self.chance.randint(1, 5)))
        for index in range(0, len(edges), 4):
            a, b, c, d = (begin_ns - self.start_ns + edge for edge in edges[index : index + 4])
            builder.begin(frame, a)
            builder.begin(work, b)
            builder.end(work, c)
            builder.end(frame, d)
        self.times_ns += [begin_ns + edge for edge in edges]
        return self._block("cpu", builder.finish(), begin_ns, length_ns, len(edges))

    def _times(self, begin_ns: int, length_ns: int) -> list[int]:
        times = [begin_ns + self.chance.randrange(length_ns) for _ in range(self.chance.randint(1, 8))]
        if self.chance.random() < 0.3:
            times.append(begin_ns - self.chance.randrange(1, MARGIN_NS))
        if self.chance.random() < 0.3:
            times.append(begin_ns + length_ns + self.chance.randrange(1, MARGIN_NS))
        self.times_ns += times
        return times

    def _block(self, tag: str, block: EncodedBlock, begin_ns: int, length_ns: int, events: int) -> Request:
        request = block.request(
            block_id=self._uuid(),
            stream_id=self.streams[tag],
            process_id=self.process_id,
            begin_time_ns=begin_ns,
            begin_ticks=begin_ns - self.start_ns,
            end_time_ns=begin_ns + length_ns,
            end_ticks=begin_ns + length_ns - self.start_ns,
            object_offset=self.offsets[tag],
        )
        self.offsets[tag] += events
        return Request("/ingestion/insert_block", {}, encode_block(request))

    def _uuid(self) -> str:
        return str(uuid.UUID(int=self.chance.getrandbits(128), version=4))
