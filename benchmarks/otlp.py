"""Spans by OTLP: how many a second are acknowledged, over HTTP and gRPC, and what the first query over them costs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import grpc.aio
import uvloop

from benchmarks.clients import Raw
from benchmarks.figures import Figure, at_least
from benchmarks.measure import median
from benchmarks.otel_workload import METHOD, PATH, SPANS_OF_REQUEST, SpanRequests, span_requests
from benchmarks.serving import Server
from benchmarks.sizes import Size

CLIENTS: Final = 4
SENT_PER_S: Final = 60_000
READ_PER_S: Final = 500_000
_ROUNDS_MAX: Final = 3


@dataclass(slots=True)
class _Taken:
    """Seconds of each round."""

    http: list[float]
    grpc: list[float]
    cold: list[float]


def measure(server: Server, size: Size) -> list[Figure]:
    """A third of ``size.events`` as spans: sent over one protocol, then the other, and each time counted."""
    spans = max(CLIENTS * SPANS_OF_REQUEST, size.events // 3)
    requests = span_requests(spans)
    taken = _Taken([], [], [])
    client = Raw(server.flight)
    for _ in range(min(size.rounds, _ROUNDS_MAX)):
        for send, seconds in ((_by_http, taken.http), (_by_grpc, taken.grpc)):
            requests = requests.renamed()
            seconds.append(uvloop.run(send(server, requests.bodies)))
            taken.cold.append(_count(client, requests, spans, size))
    client.close()
    http, over_grpc, cold = ([spans / one for one in seconds] for seconds in (taken.http, taken.grpc, taken.cold))
    sent = f"spans acknowledged as durable, {SPANS_OF_REQUEST:,} a request, {CLIENTS} clients"
    cold_bound = f"{READ_PER_S / 1e6:g} M/s"
    return [
        _figure("otlp_http_spans_per_s", f"{sent}, HTTP", http, SENT_PER_S, f"{SENT_PER_S:,} /s", 1.0, "/s"),
        _figure("otlp_grpc_spans_per_s", "the same, gRPC", over_grpc, SENT_PER_S, f"{SENT_PER_S:,} /s", 1.0, "/s"),
        _figure(
            "cold_otel_rows_per_s",
            f"otel_spans of {spans / 1e6:.2f} M spans nobody asked for yet: SQL sent to last row",
            cold,
            READ_PER_S,
            cold_bound,
            1e6,
            "M rows/s",
        ),
    ]


def _figure(key: str, what: str, rates: Sequence[float], bound: float, text: str, scale: float, unit: str) -> Figure:
    rate = median(rates)
    spread = (min(rates) / scale, max(rates) / scale)
    return Figure(key, what, rate / scale, unit, spread, targets=(at_least(rate, bound, text),))


def _count(client: Raw, requests: SpanRequests, spans: int, size: Size) -> float:
    sql = f"SELECT count(*) FROM view_instance('otel_spans', '{requests.process_id}')"
    time.sleep(size.settle_s / 10)  # what ingestion does after its answers is not the query's
    started = time.perf_counter()
    rows = client.integer(sql)
    elapsed = time.perf_counter() - started
    if rows != spans:
        raise RuntimeError(f"{spans} spans gave {rows} rows of otel_spans")
    return elapsed


async def _by_http(server: Server, bodies: Sequence[bytes]) -> float:
    """Each client sends its next request when the last one was answered."""
    address = urlsplit(server.http)
    left = iter(bodies)
    pairs = [await asyncio.open_connection(address.hostname, address.port) for _ in range(CLIENTS)]
    started = time.perf_counter()
    await asyncio.gather(*(_send_http(left, reader, writer) for reader, writer in pairs))
    elapsed = time.perf_counter() - started
    for _, writer in pairs:
        writer.close()
    return elapsed


async def _send_http(left: Iterator[bytes], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = f"POST {PATH} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/x-protobuf\r\ncontent-length: "
    for body in left:
        writer.write(head.encode() + b"%d\r\n\r\n" % len(body) + body)
        answer = await reader.readuntil(b"\r\n\r\n")  # an acceptance has no body
        if not answer.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"spans were not acknowledged: {answer[:200]!r}")


async def _by_grpc(server: Server, bodies: Sequence[bytes]) -> float:
    left = iter(bodies)
    options = [("grpc.use_local_subchannel_pool", 1)]  # a connection each
    channels: list[Any] = [
        grpc.aio.insecure_channel(urlsplit(server.otlp_grpc).netloc, options=options) for _ in range(CLIENTS)
    ]
    await asyncio.gather(*(channel.channel_ready() for channel in channels))
    started = time.perf_counter()
    await asyncio.gather(*(_send_grpc(left, channel) for channel in channels))
    elapsed = time.perf_counter() - started
    await asyncio.gather(*(channel.close() for channel in channels))
    return elapsed


async def _send_grpc(left: Iterator[bytes], channel: Any) -> None:
    export = channel.unary_unary(METHOD)
    for body in left:
        await export(body)
