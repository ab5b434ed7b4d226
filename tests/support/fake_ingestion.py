"""An ingestion server that only remembers: what it was sent, in order, and what the events in it were."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from lakeflight.telemetry.sink import Outcome
from lakeflight.wire.compression import BLOCK_DECODED_BYTES_MAX, decompress
from lakeflight.wire.envelope import (
    BlockRequest,
    ProcessRequest,
    StreamRequest,
    decode_block,
    decode_payload,
    decode_process,
    decode_stream,
)
from lakeflight.wire.transit.layout import compile_layout
from lakeflight.wire.transit.logs import LogEvents, read_logs
from lakeflight.wire.transit.metrics import MetricEvents, read_metrics
from lakeflight.wire.transit.spans import SpanEvents, read_spans


@dataclass
class Received:
    """Requests in the order they came, and readers of what they hold."""

    requests: list[tuple[str, bytes]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    @property
    def paths(self) -> list[str]:
        return [path.rpartition("/")[2] for path, _ in self.requests]

    def processes(self) -> list[ProcessRequest]:
        return [decode_process(body) for path, body in self.requests if path.endswith("insert_process")]

    def streams(self, tag: str | None = None) -> list[StreamRequest]:
        decoded = [decode_stream(body) for path, body in self.requests if path.endswith("insert_stream")]
        return [stream for stream in decoded if tag is None or stream.tags == (tag,)]

    def blocks(self, tag: str | None = None) -> list[BlockRequest]:
        known = {stream.stream_id for stream in self.streams(tag)}
        decoded = [decode_block(body) for path, body in self.requests if path.endswith("insert_block")]
        return [block for block in decoded if block.stream_id in known]

    def _halves(self, block: BlockRequest) -> tuple[bytes, bytes]:
        dependencies, objects = decode_payload(block.payload)
        return (
            decompress(dependencies, limit_bytes=BLOCK_DECODED_BYTES_MAX),
            decompress(objects, limit_bytes=BLOCK_DECODED_BYTES_MAX),
        )

    def _stream_of(self, block: BlockRequest) -> StreamRequest:
        return next(stream for stream in self.streams() if stream.stream_id == block.stream_id)

    def logs_of(self, block: BlockRequest) -> LogEvents:
        stream = self._stream_of(block)
        layout = compile_layout(stream.dependencies_metadata, stream.objects_metadata)
        return read_logs(layout, *self._halves(block))

    def metrics_of(self, block: BlockRequest) -> MetricEvents:
        stream = self._stream_of(block)
        layout = compile_layout(stream.dependencies_metadata, stream.objects_metadata)
        return read_metrics(layout, *self._halves(block))

    def spans_of(self, block: BlockRequest) -> SpanEvents:
        stream = self._stream_of(block)
        layout = compile_layout(stream.dependencies_metadata, stream.objects_metadata)
        return read_spans(layout, *self._halves(block))

    def log_lines(self) -> list[tuple[str, int, str, str]]:
        """Target, level, message, properties of every line."""
        lines = []
        for block in self.blocks("log"):
            events = self.logs_of(block)
            targets = [events.target.values[code] for code in events.target.codes]
            properties = [events.properties.values[code] for code in events.properties.codes]
            lines += list(zip(targets, events.level.tolist(), events.msg.to_pylist(), properties, strict=True))
        return lines

    def measures(self) -> list[tuple[str, str, float, bool, str]]:
        """Name, unit, value, whether it is an integer, properties of every measurement."""
        rows = []
        for block in self.blocks("metrics"):
            events = self.metrics_of(block)
            names, units, properties = (
                [column.values[code] for code in column.codes]
                for column in (events.name, events.unit, events.properties)
            )
            rows += list(zip(names, units, events.value.tolist(), events.integer.tolist(), properties, strict=True))
        return rows

    def thread_spans(self) -> list[tuple[str, str]]:
        """``begin`` or ``end``, and the name, of every event of every thread."""
        rows = []
        for block in self.blocks("cpu"):
            events = self.spans_of(block)
            names = [events.scopes[code].name for code in events.scope]
            rows += [("end" if kind else "begin", name) for kind, name in zip(events.kind, names, strict=True)]
        return rows


class RecordingSink:
    """Takes requests without a network. ``answer`` decides on each, by default it delivers."""

    def __init__(self, answer: Callable[[str, int], Outcome] | None = None) -> None:
        self.received = Received()
        self.attempts: list[tuple[str, float]] = []
        self._answer = answer

    def post(self, path: str, body: bytes, *, process_id: str, timeout_s: float) -> Outcome:
        self.attempts.append((path, time.monotonic()))
        outcome = self._answer(path, len(self.attempts)) if self._answer else Outcome.DELIVERED
        if outcome is Outcome.DELIVERED:
            self.received.requests.append((path, body))
        return outcome

    def close(self) -> None:
        return None


@dataclass
class FakeIngestion:
    """A listening server; ``statuses`` are used up first, then every answer is 200."""

    endpoint: str
    received: Received
    statuses: list[int]
    delay_s: float = 0.0
    connections: int = 0


class _QuietServer(ThreadingHTTPServer):
    """What a client that went away did to it stands in nobody's standard error."""

    def handle_error(self, request: object, client_address: object) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


@contextmanager
def fake_ingestion(statuses: list[int] | None = None, *, keep_alive: bool = True) -> Iterator[FakeIngestion]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            super().setup()
            fake.connections += 1

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            time.sleep(fake.delay_s)
            status = fake.statuses.pop(0) if fake.statuses else 200
            fake.received.headers.append(dict(self.headers))
            if status == 200:
                fake.received.requests.append((self.path, body))
            self.send_response(status)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")
            if not keep_alive:  # without having said so, as a server that restarts does
                self.close_connection = True

        def log_message(self, format: str, *args: object) -> None:
            return None

    server = _QuietServer(("127.0.0.1", 0), Handler)
    fake = FakeIngestion(f"http://127.0.0.1:{server.server_address[1]}", Received(), list(statuses or []))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
