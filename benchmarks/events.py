"""The first query over many events of a process: what it costs to make rows of them, end to end."""

from __future__ import annotations

import time
from typing import Final

import pyarrow.parquet as pq

from benchmarks.clients import Raw
from benchmarks.figures import Figure, at_least, at_most
from benchmarks.measure import median
from benchmarks.serving import Sender, Server
from benchmarks.sizes import Size
from benchmarks.workload import Telemetry, async_spans, logs, recorded_lines

BLOCKS: Final = 20
_OF_EACH_LINE: Final = ("time", "target", "level", "msg", "properties")
LINE_BYTES_MAX: Final = 25  # of a file, for a plain line
_TARGET: Final = 1.5  # M rows/s


def ask_cold(server: Server, size: Size) -> list[Figure]:
    """Async events and log lines, as many as ``size.events`` has spans of a thread."""
    events = size.events // 3
    return [
        *_ask(server, size, "async_events", "async", async_spans(events, BLOCKS), events, 12),
        *_ask(server, size, "log_entries", "log", logs(BLOCKS, events // BLOCKS), events, LINE_BYTES_MAX),
        _recorded_lines(server),
    ]


def _recorded_lines(server: Server) -> Figure:
    """Made-up lines compress too well, and there are few recorded ones: what all lines of a file share is left out."""
    telemetry = recorded_lines().renamed()
    Sender(server).send_all(telemetry.requests())
    client = Raw(server.flight)
    rows = client.integer(f"SELECT count(*) FROM view_instance('log_entries', '{telemetry.process.process_id}')")
    client.close()
    columns = 0
    for file in server.data_dir.glob(f"**/view_instance={telemetry.process.process_id}/**/*.parquet"):
        metadata = pq.read_metadata(file)
        groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
        found = (group.column(number) for group in groups for number in range(group.num_columns))
        columns += sum(column.total_compressed_size for column in found if column.path_in_schema in _OF_EACH_LINE)
    bytes_per_line = columns / rows
    return Figure(
        "recorded_log_bytes_per_line",
        f"the same of {rows} recorded lines, as far as lines differ",
        bytes_per_line,
        "bytes",
        targets=(at_most(bytes_per_line, LINE_BYTES_MAX, f"{LINE_BYTES_MAX}"),),
    )


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
