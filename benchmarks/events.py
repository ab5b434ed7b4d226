"""The first query over many events of a process: what it costs to make rows of them, end to end."""

from __future__ import annotations

import time
from typing import Final

from benchmarks.clients import Raw
from benchmarks.figures import Figure, at_least, at_most
from benchmarks.measure import median
from benchmarks.serving import Sender, Server
from benchmarks.sizes import Size
from benchmarks.workload import Telemetry, async_spans, logs

BLOCKS: Final = 20
_TARGET: Final = 1.5  # M rows/s


def ask_cold(server: Server, size: Size) -> list[Figure]:
    """Async events and log lines, as many as ``size.events`` has spans of a thread."""
    events = size.events // 3
    return [
        *_ask(server, size, "async_events", "async", async_spans(events, BLOCKS), events, 12),
        *_ask(server, size, "log_entries", "log", logs(BLOCKS, events // BLOCKS), events, 25),
    ]


def _ask(
    server: Server, size: Size, view_set: str, key: str, telemetry: Telemetry, events: int, bytes_max: float
) -> list[Figure]:
    client, sender = Raw(server.flight), Sender(server)
    taken: list[float] = []
    for _ in range(size.rounds):
        fresh = telemetry.renamed()
        sender.send_all(fresh.requests())
        sql = f"SELECT count(*) FROM view_instance('{view_set}', '{fresh.process.process_id}')"
        time.sleep(size.settle_s / 10)  # what ingestion does after its answers is not the query's
        started = time.perf_counter()
        rows = client.integer(sql)
        taken.append(time.perf_counter() - started)
        if rows != events // BLOCKS * BLOCKS:
            raise RuntimeError(f"{events} events gave {rows} rows of {view_set}")
    client.close()
    files = server.data_dir.glob(f"**/view_instance={fresh.process.process_id}/**/*.parquet")
    bytes_per_row = sum(file.stat().st_size for file in files) / rows
    rates = [rows / seconds / 1e6 for seconds in taken]
    rate = rows / median(taken) / 1e6
    return [
        Figure(
            f"cold_{key}_rows_per_s",
            f"{view_set} of {rows / 1e6:.2f} M events nobody asked for yet: SQL sent to last row",
            rate,
            "M rows/s",
            (min(rates), max(rates)),
            targets=(at_least(rate, _TARGET, f"{_TARGET} M/s"),),
        ),
        Figure(
            f"{key}_bytes_per_row",
            f"Parquet of {view_set}, bytes a row",
            bytes_per_row,
            "bytes",
            targets=(at_most(bytes_per_row, bytes_max, f"{bytes_max}"),),
        ),
    ]
