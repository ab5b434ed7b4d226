"""Statements over the spans of one thread: the first one, which makes its partitions, and those after it.

Three clients ask the same: a raw Flight client, ADBC, and DuckDB itself over the same Parquet files.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import duckdb
import pyarrow as pa

from benchmarks.clients import Adbc, Raw, transfer_of, with_clients
from benchmarks.figures import Figure, Limit, at_least, at_most
from benchmarks.measure import Samples, median, take_turns
from benchmarks.memory import watching
from benchmarks.replay import replaying
from benchmarks.serving import Sender, Server
from benchmarks.sizes import Size
from benchmarks.workload import Telemetry, logs

DUCKDB_THREADS: Final = 2
ARROW_BATCH_ROWS: Final = 65_536
CLIENTS: Final = 16
SMALL_LOG_LINES: Final = 400
STREAM_COPIES: Final = 4  # of all rows, to see whether memory grows with the answer
_NS_PER_S: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Thread:
    """A thread whose spans are in partitions."""

    relation: str  # as statements name it
    files: tuple[Path, ...]
    rows: int
    payload_bytes: int

    @property
    def size_bytes(self) -> int:
        return sum(file.stat().st_size for file in self.files)


def ask_cold(server: Server, telemetry: Telemetry, size: Size, decoding_s: float) -> tuple[list[Figure], Thread]:
    """The first query over blocks that nobody has asked for yet; each round sends them again as another process."""
    client = Raw(server.flight)
    client.rows("SELECT 1")
    sender = Sender(server)
    events = sum(block.nb_objects for block in telemetry.of(telemetry.thread))
    cold: list[float] = []
    again = Samples()
    for _ in range(size.rounds):
        fresh = telemetry.renamed()
        sender.send_all(fresh.requests())
        thread = _relation(fresh)
        sql = f"SELECT count(*) FROM {thread}"
        time.sleep(size.settle_s / 10)  # what ingestion does after its answers is not the query's
        started = time.perf_counter()
        rows = client.integer(sql)
        cold.append(time.perf_counter() - started)
        if rows < events // 2:
            raise RuntimeError(f"{events} events gave only {rows} spans")
        again.rounds.append([_seconds(lambda: client.rows(sql)) for _ in range(size.samples)])  # noqa: B023
    client.close()
    stream_id = fresh.thread.stream_id
    files = tuple(sorted(server.data_dir.glob(f"**/view_instance={stream_id}/**/*.parquet")))
    payload_bytes = sum(len(block.payload) for block in fresh.of(fresh.thread))
    made = Thread(thread, files, rows, payload_bytes)
    cold_s, again_ms = median(cold), again.p50 * 1e3
    bytes_per_span = made.size_bytes / made.rows
    figures = [
        Figure(
            "cold_count_s",
            f"count(*) of {events / 1e6:.2f} M events nobody asked for yet: SQL sent to last row",
            cold_s,
            "s",
            (min(cold), max(cold)),
            limit=Limit(decoding_s, "LZ4 and decoding alone, one core"),
            targets=(at_most(cold_s, 0.70, "0.70 s"), at_most(cold_s, 4 * decoding_s, "4 × decoding")),
            original=2.05,
        ),
        Figure("cold_count_first_s", "the first of these: its worker has built nothing before", cold[0], "s"),
        Figure("cold_events_per_s", "the same as a rate", events / cold_s / 1e6, "M events/s"),
        Figure(
            "again_count_ms",
            "the same again",
            again_ms,
            "ms",
            _ms(again.spread),
            targets=(at_most(again_ms, 15, "15 ms"),),
            original=84,
        ),
        Figure(
            "parquet_bytes_per_span",
            "Parquet, bytes a span",
            bytes_per_span,
            "bytes",
            limit=Limit(made.payload_bytes / made.rows, "payloads as sent"),
            targets=(at_most(bytes_per_span, 12, "12"),),
            original=24.4,
        ),
    ]
    return figures, made


def ask_small_log(server: Server, size: Size) -> list[Figure]:
    """The first query of a process that has logged little: what making a partition costs beside its blocks."""
    client, sender = Raw(server.flight), Sender(server)
    taken: list[float] = []
    for _ in range(size.rounds * size.samples):
        telemetry = logs(1, SMALL_LOG_LINES)
        sender.send_all(telemetry.requests())
        sql = f"SELECT count(*) FROM view_instance('log_entries', '{telemetry.process.process_id}')"
        started = time.perf_counter()
        rows = client.integer(sql)
        taken.append((time.perf_counter() - started) * 1e3)
        if rows != SMALL_LOG_LINES:
            raise RuntimeError(f"{SMALL_LOG_LINES} lines gave {rows} rows")
    client.close()
    p50 = median(taken)
    return [
        Figure(
            "first_small_log_ms",
            f"first query of a process with one block of {SMALL_LOG_LINES} log lines: p50",
            p50,
            "ms",
            (min(taken), max(taken)),
            targets=(at_most(p50, 30, "30 ms"),),
            original=23,
        )
    ]


def ask_warm(server: Server, thread: Thread, size: Size) -> list[Figure]:
    """Short statements over partitions that are there."""
    raw, adbc, bare = Raw(server.flight), Adbc(server.flight), _bare_duckdb(thread)
    figures: list[Figure] = []
    for key, what, sql in (
        ("count", "count(*)", "SELECT count(*) FROM {}"),
        ("group_by", "GROUP BY name", "SELECT name, count(*), sum(duration) FROM {} GROUP BY name"),
        ("window", "a hundredth of the time, by name", _window(raw, thread)),
    ):
        ours, theirs = sql.format(thread.relation), sql.format("spans")
        found = take_turns(
            size.rounds,
            {
                "raw": _bind(raw.rows, ours),
                "adbc": _bind(adbc.rows, ours),
                "bare": _bind(lambda sql: len(bare.execute(sql).fetchall()), theirs),
            },
            samples=size.samples,
        )
        limit_ms = found["bare"].p50 * 1e3
        for client in ("raw", "adbc"):
            p50 = found[client].p50 * 1e3
            is_target = (key, client) == ("group_by", "adbc")
            targets = (
                (at_most(p50, 40, "40 ms"), at_most(p50, 1.3 * limit_ms + 8, "1.3 × DuckDB + 8 ms"))
                if is_target
                else ()
            )
            figures.append(
                Figure(
                    f"warm_{key}_{client}_p50_ms",
                    f"{what}, warm, {'raw Flight' if client == 'raw' else 'ADBC'}: p50",
                    p50,
                    "ms",
                    _ms(found[client].spread),
                    limit=Limit(limit_ms, "bare DuckDB, same files, 2 threads"),
                    targets=targets,
                    original=86 if is_target else None,
                )
            )
            figures.append(
                Figure(
                    f"warm_{key}_{client}_p95_ms",
                    "the same: p95",
                    found[client].p95 * 1e3,
                    "ms",
                    limit=Limit(found["bare"].p95 * 1e3, "bare DuckDB's p95"),
                )
            )
    raw.close()
    adbc.close()
    return figures


def ask_small(server: Server, size: Size) -> list[Figure]:
    """What a statement costs that reads nothing, and how many a server answers."""
    sql = "SELECT 1"
    with replaying(server.flight) as replay:
        raw, adbc = Raw(server.flight), Adbc(server.flight)
        raw_replayed, adbc_replayed = Raw(replay), Adbc(replay)
        found = take_turns(
            size.rounds,
            {
                "raw": _bind(raw.rows, sql),
                "adbc": _bind(adbc.rows, sql),
                "raw_replayed": _bind(raw_replayed.rows, sql),
                "adbc_replayed": _bind(adbc_replayed.rows, sql),
            },
            samples=4 * size.samples,
        )
        rates: dict[str, list[float]] = {server.flight: [], replay: []}
        for number in range(min(size.rounds, 3)):
            for address in sorted(rates, reverse=bool(number % 2)):
                rates[address].append(with_clients(_adbc_at(address), CLIENTS, sql, size.client_queries))
        for client in (raw, adbc, raw_replayed, adbc_replayed):
            client.close()
    raw_ms, adbc_ms, rate = found["raw"].p50 * 1e3, found["adbc"].p50 * 1e3, median(rates[server.flight])
    return [
        Figure(
            "select_1_do_get_p50_ms",
            "SELECT 1, one DoGet: p50",
            raw_ms,
            "ms",
            _ms(found["raw"].spread),
            limit=Limit(found["raw_replayed"].p50 * 1e3, "the answer replayed by a bare gRPC server"),
            targets=(at_most(raw_ms, 1.8, "1.8 ms"),),
            original=2.1,
        ),
        Figure(
            "select_1_do_get_p95_ms",
            "the same: p95",
            found["raw"].p95 * 1e3,
            "ms",
            limit=Limit(found["raw_replayed"].p95 * 1e3, "replayed"),
        ),
        Figure(
            "select_1_adbc_p50_ms",
            "SELECT 1, ADBC cursor: p50",
            adbc_ms,
            "ms",
            _ms(found["adbc"].spread),
            limit=Limit(found["adbc_replayed"].p50 * 1e3, "replayed"),
            targets=(at_most(adbc_ms, 8, "8 ms"),),
        ),
        Figure(
            "select_1_adbc_16_per_s",
            f"SELECT 1, {CLIENTS} ADBC clients at once",
            rate,
            "/s",
            (min(rates[server.flight]), max(rates[server.flight])),
            limit=Limit(median(rates[replay]), "replayed"),
            targets=(at_least(rate, 300, "300 /s"),),
        ),
    ]


def stream_all(server: Server, thread: Thread, size: Size) -> list[Figure]:
    """All spans to one client, against a server that has nothing to do but send the same messages.

    Beside it, what the engine alone takes to make Arrow batches of the same files: nobody can send them sooner.
    """
    sql = f"SELECT * FROM {thread.relation}"
    bare = _bare_duckdb(thread)
    transfer = transfer_of(server.flight, sql)
    with replaying(server.flight) as replay:
        ours, replayed = Raw(server.flight), Raw(replay)
        if any(rows != thread.rows for rows in (ours.rows(sql), replayed.rows(sql), _arrow_rows(bare))):
            raise RuntimeError("a stream of all rows did not have them all")
        found = take_turns(
            size.rounds,
            {
                "ours": _bind(ours.rows, sql),
                "replayed": _bind(replayed.rows, sql),
                "bare": lambda: _arrow_rows(bare),
            },
        )
        ours.close()
        replayed.close()
    all_s, limit_s = found["ours"].p50, found["replayed"].p50
    rate = transfer.size_bytes / 1e6 / all_s
    limit_rate = transfer.size_bytes / 1e6 / limit_s
    least, most = found["ours"].spread
    return [
        Figure(
            "stream_s",
            f"SELECT * of {thread.rows / 1e6:.2f} M spans to one client",
            all_s,
            "s",
            (least, most),
            limit=Limit(limit_s, "the same messages replayed"),
            targets=(at_most(all_s, 0.33, "0.33 s"),),
            original=0.33,
        ),
        Figure(
            "stream_duckdb_arrow_s",
            "DuckDB to Arrow alone: the same rows of the same files, in this process",
            found["bare"].p50,
            "s",
            found["bare"].spread,
        ),
        Figure(
            "stream_mb_per_s",
            "the same, bytes on the wire",
            rate,
            "MB/s",
            (transfer.size_bytes / 1e6 / most, transfer.size_bytes / 1e6 / least),
            limit=Limit(limit_rate, "bare gRPC server, equal bytes and messages"),
            targets=(at_least(rate, 0.7 * limit_rate, "0.7 × bare gRPC"),),
            original=780,
        ),
        Figure("stream_rows_per_s", "the same, rows", thread.rows / all_s / 1e6, "M/s"),
    ]


def watch_memory(server: Server, telemetry: Telemetry, thread: Thread, size: Size) -> list[Figure]:
    """The statements above once more, not timed: watching takes time."""
    client = Raw(server.flight)
    sender = Sender(server)
    select = f"SELECT * FROM {thread.relation}"
    peaks: list[float] = []
    for _ in range(min(size.rounds, 3)):
        fresh = telemetry.renamed()
        sender.send_all(fresh.requests())
        with watching(server.pid) as seen:
            client.rows(f"SELECT count(*) FROM {_relation(fresh)}")
            client.rows(f"SELECT name, count(*) FROM {_relation(fresh)} GROUP BY name")
            client.rows(select)
        peaks.append(seen.query_peak)
    streams: dict[int, list[float]] = {1: [], STREAM_COPIES: []}
    for _ in range(min(size.rounds, 3)):
        for copies, found in streams.items():
            with watching(server.pid) as seen:
                client.rows(" UNION ALL ".join([select] * copies))
            found.append(seen.query_peak)
    client.close()
    peak = median(peaks)
    once, longer = median(streams[1]), median(streams[STREAM_COPIES])
    return [
        Figure(
            "query_peak_mb",
            "memory of the query side, peak: cold count, GROUP BY, SELECT *",
            peak,
            "MB",
            (min(peaks), max(peaks)),
            targets=(at_most(peak, 600, "600 MB"),),
            original=666,
        ),
        Figure(
            "stream_memory_growth_mb",
            f"the same while it streams {thread.rows / 1e6:.2f} M rows → {STREAM_COPIES} times as many: flat?",
            longer,
            "MB",
            series=(once, longer),
            limit=Limit(once, "all rows once"),
            targets=(at_most(longer, 1.15 * once, "1.15 × once"),),
        ),
    ]


def _relation(telemetry: Telemetry) -> str:
    return f"view_instance('thread_spans', '{telemetry.thread.stream_id}')"


def _bare_duckdb(thread: Thread) -> Any:
    connection = duckdb.connect(config={"threads": DUCKDB_THREADS})
    files = ", ".join(f"'{file}'" for file in thread.files)
    connection.execute(f"CREATE VIEW spans AS SELECT * FROM read_parquet([{files}], hive_partitioning = false)")
    return connection


def _arrow_rows(connection: Any) -> int:
    """Have every row made as Arrow, keep none."""
    reader = connection.sql("SELECT * FROM spans").to_arrow_reader(ARROW_BATCH_ROWS)
    return sum(batch.num_rows for batch in reader)


def _window(client: Raw, thread: Thread) -> str:
    """A statement over the hundredth of the thread's time that begins at its half."""
    bounds = client.table(f'SELECT min("begin"), max("end") FROM {thread.relation}')
    first, last = (column.cast(pa.timestamp("ns")).cast(pa.int64())[0].as_py() for column in bounds.columns)
    begin = (first + last) // 2
    end = begin + (last - first) // 100
    return (
        "SELECT name, count(*), sum(duration) FROM {} "
        f'WHERE "begin" >= {_literal(begin)} AND "begin" < {_literal(end)} GROUP BY name'
    )


def _literal(time_ns: int) -> str:
    moment = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(time_ns // _NS_PER_S))
    return f"TIMESTAMP_NS '{moment}.{time_ns % _NS_PER_S:09}'"


def _bind(ask: Callable[[str], int], sql: str) -> Callable[[], int]:
    return lambda: ask(sql)


def _adbc_at(address: str) -> Callable[[], Adbc]:
    return lambda: Adbc(address)


def _seconds(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def _ms(spread: tuple[float, float]) -> tuple[float, float]:
    return spread[0] * 1e3, spread[1] * 1e3
