"""Traces for Perfetto: how fast one is made of spans that are in partitions, and whether its length costs memory."""

from __future__ import annotations

import time
from typing import Final

from benchmarks.clients import Raw
from benchmarks.figures import Figure, Limit, at_least, at_most
from benchmarks.measure import median
from benchmarks.memory import watching
from benchmarks.serving import Sender, Server
from benchmarks.sizes import Size
from benchmarks.workload import made_up

COPIES: Final = 4  # of the trace in one answer, to see whether memory grows with it
_ALWAYS: Final = "TIMESTAMP '2000-01-01', TIMESTAMP '2100-01-01'"
_TARGET: Final = 500_000


def measure(server: Server, size: Size) -> list[Figure]:
    """A trace of ``size.events`` events of one thread, to its last chunk."""
    telemetry = made_up(size.events, size.event_blocks)
    Sender(server).send_all(telemetry.requests())
    process_id = telemetry.process.process_id
    client = Raw(server.flight)
    spans = client.integer(f"SELECT count(*) FROM process_spans('{process_id}', 'thread')")
    trace = f"SELECT chunk_data FROM perfetto_trace_chunks('{process_id}', 'both', {_ALWAYS})"
    client.rows(trace)  # the kernels are loaded, once for each worker
    taken: list[float] = []
    for _ in range(size.rounds):
        started = time.perf_counter()
        client.rows(trace)
        taken.append(time.perf_counter() - started)
    peaks: dict[int, list[float]] = {1: [], COPIES: []}
    for _ in range(min(size.rounds, 3)):
        for copies, found in peaks.items():
            with watching(server.pid) as seen:
                client.rows(" UNION ALL ".join([trace] * copies))
            found.append(seen.query_peak)
    client.close()
    rates = [spans / seconds for seconds in taken]
    rate = spans / median(taken)
    once, longer = median(peaks[1]), median(peaks[COPIES])
    return [
        Figure(
            "trace_spans_per_s",
            f"perfetto_trace_chunks of {spans / 1e6:.2f} M spans in partitions: SQL sent to last chunk",
            rate / 1e6,
            "M spans/s",
            (min(rates) / 1e6, max(rates) / 1e6),
            targets=(at_least(rate, _TARGET, f"{_TARGET / 1e6} M/s"),),
        ),
        Figure(
            "trace_memory_growth_mb",
            f"memory of the query side for such a trace → {COPIES} times as long: flat?",
            longer,
            "MB",
            series=(once, longer),
            limit=Limit(once, "one trace"),
            targets=(at_most(longer, 1.15 * once, "1.15 × once"),),
        ),
    ]
