"""The OpenTelemetry Collector as a forwarder, with its retry queue on the disk: it and the server are killed in between.

What it has acknowledged to a sender is there in the end; what it has not the sender sends again, and nothing is there twice.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
import pytest

from lakeflight.wire.otlp.resources import LOGS, TRACES, Signal
from tests.support.otlp import NOW_NS
from tests.support.serving import Server, serving, start

SOURCE = Path(__file__).parent / "otel_collector"
EXPORT = {
    LOGS: "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
    TRACES: "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
}
RECORDS = 5  # of a request
WAIT_S = 60.0
pytestmark = [pytest.mark.needs("go"), pytest.mark.needs("registry")]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    built = tmp_path_factory.mktemp("collector") / "collector"
    subprocess.run(["go", "build", "-o", built, "."], cwd=SOURCE, check=True, timeout=580)
    return built


def request(signal: Signal, number: int) -> bytes:
    """Records that say of which request they are."""
    made = signal.request()
    resource = getattr(made, signal.resources).add()
    resource.resource.attributes.add(key="service.name").value.string_value = "forwarded"
    scope = getattr(resource, signal.scopes).add()
    for record in range(RECORDS):
        name = f"{number}/{record}"
        if signal is LOGS:
            scope.log_records.add(time_unix_nano=NOW_NS + number).body.string_value = name
        else:
            scope.spans.add(
                trace_id=(number + 1).to_bytes(16, "big"), span_id=(record + 1).to_bytes(8, "big"), name=name,
                start_time_unix_nano=NOW_NS, end_time_unix_nano=NOW_NS + 1,
            )  # fmt: skip
    encoded: bytes = made.SerializeToString()
    return encoded


@dataclass
class Collector:
    """A running one; senders reach it over a socket in its folder."""

    process: subprocess.Popen[bytes]
    channel: grpc.Channel

    def send(self, wanted: Sequence[tuple[Signal, int]], *, then_kill: bool = False) -> list[tuple[Signal, int]]:
        """All at once; returns those that were acknowledged."""
        calls = []
        for signal, number in wanted:
            export = self.channel.unary_unary(EXPORT[signal])
            calls.append(export.future(request(signal, number), timeout=WAIT_S))
        if then_kill:
            calls[len(calls) // 4].exception()  # some are through, some are not
            self.kill()
        return [sent for sent, call in zip(wanted, calls, strict=True) if call.exception() is None]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def collecting(program: Path, folder: Path, server: Server) -> Iterator[Collector]:
    """A Collector that forwards lines over HTTP and spans over gRPC, with the queue that the folder has."""
    socket = folder / f"{time.monotonic_ns()}.sock"
    queue = {
        "sending_queue": {"storage": "file_storage", "queue_size": 10_000, "num_consumers": 2},
        "retry_on_failure": {"initial_interval": "100ms", "max_interval": "500ms", "max_elapsed_time": 0},
    }
    settings: dict[str, Any] = {
        "extensions": {"file_storage": {"directory": str(folder / "queue"), "create_directory": True, "fsync": True}},
        "receivers": {"otlp": {"protocols": {"grpc": {"endpoint": str(socket), "transport": "unix"}}}},
        "exporters": {
            "otlp_http": {"endpoint": server.http, **queue},
            "otlp_grpc": {"endpoint": urlsplit(server.otlp_grpc).netloc, "tls": {"insecure": True}, **queue},
        },
        "service": {
            "extensions": ["file_storage"],
            "pipelines": {
                "logs": {"receivers": ["otlp"], "exporters": ["otlp_http"]},
                "traces": {"receivers": ["otlp"], "exporters": ["otlp_grpc"]},
            },
        },
    }
    config = folder / "collector.yaml"
    config.write_text(json.dumps(settings))  # JSON is YAML
    process = subprocess.Popen([str(program), "--config", f"file:{config}"])
    try:
        with grpc.insecure_channel(f"unix:{socket}") as channel:
            grpc.channel_ready_future(channel).result(timeout=WAIT_S)
            yield Collector(process, channel)
    finally:
        process.kill()
        process.wait()


def rows(server: Server) -> Counter[str]:
    found = server.query("SELECT 'logs ' || msg FROM log_entries WHERE exe = 'forwarded'").column(0).to_pylist()
    ids = server.query("SELECT process_id FROM processes WHERE exe = 'forwarded'").column(0).to_pylist()
    for process_id in ids:
        spans = f"SELECT 'traces ' || name FROM view_instance('otel_spans', '{process_id}')"
        found += server.query(spans).column(0).to_pylist()
    return Counter(found)


def expected(sent: Sequence[tuple[Signal, int]]) -> Counter[str]:
    return Counter(f"{signal.name} {number}/{record}" for signal, number in sent for record in range(RECORDS))


def until_there(server: Server, wanted: Counter[str]) -> Counter[str]:
    deadline = time.monotonic() + WAIT_S
    while (found := rows(server)).keys() < wanted.keys() and time.monotonic() < deadline:
        time.sleep(0.2)
    return found


def test_nothing_is_lost_and_nothing_is_there_twice(program: Path, tmp_path: Path) -> None:
    parts = [[(signal, number) for number in range(n, n + 20) for signal in (LOGS, TRACES)] for n in range(0, 80, 20)]
    server = start(tmp_path / "lake")
    try:
        with collecting(program, tmp_path, server) as collector:
            assert collector.send(parts[0]) == parts[0]
            assert until_there(server, expected(parts[0])) == expected(parts[0])
            server.kill()
            assert collector.send(parts[1]) == parts[1]  # it takes what it cannot forward
            acknowledged = [*parts[0], *parts[1], *collector.send(parts[2], then_kill=True)]
    finally:
        server.kill()

    with serving(tmp_path / "lake") as again, collecting(program, tmp_path, again) as collector:
        found = until_there(again, expected(acknowledged))
        assert expected(acknowledged).keys() <= found.keys() <= expected([*acknowledged, *parts[2]]).keys()
        assert set(found.values()) == {1}
        everything = [sent for part in parts for sent in part]
        left = [sent for sent in everything if sent not in acknowledged]
        assert left
        assert collector.send(left[:10]) == left[:10]
        assert collector.send(left, then_kill=True) is not None
        with collecting(program, tmp_path, again) as last:
            assert last.send(left) == left
            assert until_there(again, expected(everything)) == expected(everything)
