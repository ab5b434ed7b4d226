"""What the server of the compatibility suite holds, and a model of it: recorded programs moved to the last hour, and one made up.

The documented statements ask about ``cpu_usage``, ``handle_request`` or the rows of the last hour. So recorded telemetry is sent
as if it had happened a few minutes ago, and a service that has what the documents talk about is sent beside it. The model is
a plain DuckDB over the rows that the original server answered (the same minutes later), and over the rows of the made-up
service, written down by hand.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lakeflight.wire.envelope import (
    ProcessRequest,
    decode_block,
    decode_process,
    encode_block,
    encode_process,
    encode_stream,
)
from lakeflight.wire.transit.types import LOG_TYPES, METRIC_TYPES, SPAN_TYPES, StreamTypes
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
from tests.support.fixtures import OTLP_CASES, OWN_CASES, Case, Request
from tests.support.programs import SECOND_NS

MINUTE_NS: Final = 60 * SECOND_NS
GENERATOR: Final = "generator-a"
CRAFTED: Final = "craft-3"

# The original prints its own debug form of an array among the properties of a process; ours is JSON, on purpose.
_VALUES_THERE: Final = ", ".join(f'AnyValue {{ value: Some(StringValue(\\"{letter}\\")) }}' for letter in "ab")
_ARRAY_THERE: Final = f"Some(ArrayValue(ArrayValue {{ values: [{_VALUES_THERE}] }}))"
_ARRAY_HERE: Final = '[\\"a\\",\\"b\\"]'

# second, target, level, message, properties
LOG: Final[tuple[tuple[float, str, int, str, dict[str, str]], ...]] = (
    (1, "shop", 2, "query denied by rule 7", {"rule_id": "7"}),
    (2, "shop", 3, "query denied by rule 8", {}),
    (3, "shop", 1, "the worker died", {"service": "shop", "env": "production", "version": "1.4", "error_code": "E1"}),
    (4, "shop", 2, "timeout", {"service": "shop", "env": "production", "version": "1.4", "request_id": "r-1"}),
    (5, "cart", 4, "ready", {"service": "cart", "env": "staging", "hostname": "h1"}),
    (6, "blender.action", 4, "render", {}),
    (7, "blender.action_redo", 4, "render again", {}),
    (8, "gitlab.push", 4, '{"object_kind":"push","object_attributes":{"iid":42},"commits":[{"id":1},{"id":2}]}', {}),
    (9, "gitlab.push", 4, '{"object_kind":"note"}', {}),
    (10, "shop", 4, '{"service":"web_server","port":8080,"cpu_limit":1.5}', {}),
    (11, "shop", 4, '{"service":"web_server","response_time":12.5}', {}),
    (12, "shop", 4, '{"service":"web_server","response_time":7}', {}),
    (13, "shop", 4, '{"service":"database","response_time":30}', {}),
    (14, "shop", 4, "response_time is {unknown", {}),
    *(
        (15 + place, "flightsql_query_audit", 4, json.dumps(record), {})
        for place, record in enumerate(
            (
                {"client": "grafana", "total_ms": 10.5, "bytes_scanned": 1000, "email": "a@b.c"}
                | {"sql": "SELECT 1", "sql_hash": "h1", "status": "ok"},
                {"client": "grafana", "total_ms": 20.5, "bytes_scanned": 3000, "email": "a@b.c"}
                | {"sql": "SELECT 2", "sql_hash": "h2", "status": "error", "error_class": "timeout"},
                {"client": "python", "total_ms": 2, "bytes_scanned": 5, "email": None}
                | {"sql": "SELECT 1", "sql_hash": "h1", "status": "ok"},
            )
        )
    ),
    *((60 + second, "chatty", 4 if second % 3 else 2, f"line {second}", {}) for second in range(40)),
    *((120 + second / 10, "chatty", 5, "busy", {}) for second in range(150)),
)

# second, name, unit, value, properties
METRICS: Final[tuple[tuple[float, str, str, float, dict[str, str]], ...]] = (
    (1, "query_denied", "count", 1.0, {"rule_id": "7"}),
    (2, "query_denied", "count", 2.0, {"rule_id": "7"}),
    (61, "query_denied", "count", 4.0, {}),
    (3, "pg_index_scans", "count", 0.0, {"table": "blocks", "index": "unused"}),
    (4, "pg_index_scans", "count", 9.0, {"table": "blocks", "index": "used"}),
    (5, "pg_db_blocks_hit", "count", 100.0, {}),
    (6, "pg_db_blocks_hit", "count", 175.0, {}),
    (7, "pg_db_blocks_read", "count", 5.0, {}),
    (8, "redis_used_memory_bytes", "bytes", 4096.0, {"instance": "my-redis:6379"}),
    (9, "redis_used_memory_bytes", "bytes", 512.0, {"instance": "other:6379"}),
    (10, "amazonaws.com/AWS/EC2/CPUUtilization_max", "percent", 77.5, {}),
    (11, "amazonaws.com/AWS/EC2/CPUUtilizationMax", "percent", 1.0, {}),
    *((20 + 7 * i, "cpu.user", "percent", 10.0 + i, {}) for i in range(20)),
    *(
        (20.5 + 9 * i, "cpu_usage", "percent", 4.75 * i, {"source": "system_monitor"} if i % 4 else {})
        for i in range(21)
    ),
    *((21 + 11 * i, "memory_usage", "bytes", 1e9 + i, {}) for i in range(9)),
    *((22 + i, "frame_time", "ms", 12.0 + i % 7, {}) for i in range(30)),
    (30, "net.packet_sent_bits", "bits", 800.0, {"connection": "a"}),
    (31, "net.packet_received_bits", "bits", 1600.0, {}),
)

# name, begin and duration in microseconds: one after the other
SPANS: Final = (
    *((f"{'handle_request' if i % 3 else 'parse'}", 1_000 + 100_000 * i, 900 + 2_350 * i) for i in range(18)),
)


@dataclass(frozen=True)
class Service:
    """The made-up program."""

    start_ns: int
    process_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    log_stream: str = field(default_factory=lambda: str(uuid.uuid4()))
    metric_stream: str = field(default_factory=lambda: str(uuid.uuid4()))
    thread_stream: str = field(default_factory=lambda: str(uuid.uuid4()))
    properties: dict[str, str] = field(
        default_factory=lambda: {
            "build-version": "1.2.3",
            "cluster": "prod",
            "platform": "linux",
            "target": "server",
            "thread-name": "worker-1",
            "otel.resource.service.name": "claude-code",
            "otel.resource.service.instance.id": "i-1",
        }
    )
    exe: str = "my-service.exe"

    def requests(self) -> Iterator[Request]:
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
            properties=self.properties,
        )
        yield Request("/ingestion/insert_process", {}, encode_process(process))
        log = LogBlockBuilder()
        for second, target, level, message, properties in LOG:
            about = LogMetadata(target=target, level=level)
            if properties:
                log.tagged(about, _ticks(second), message, properties)
            else:
                log.message(about, _ticks(second), message)
        yield from self._stream(LOG_TYPES, self.log_stream, log.finish())
        metrics = MetricBlockBuilder()
        for second, name, unit, value, properties in METRICS:
            metrics.add_float(MetricMetadata(name, unit, "shop"), _ticks(second), value, properties or None)
        yield from self._stream(METRIC_TYPES, self.metric_stream, metrics.finish())
        spans = SpanBlockBuilder()
        for name, begin_us, duration_us in SPANS:
            spans.begin(SpanMetadata(name, "shop"), begin_us * 1_000)
            spans.end(SpanMetadata(name, "shop"), (begin_us + duration_us) * 1_000)
        yield from self._stream(
            SPAN_TYPES, self.thread_stream, spans.finish(), {"thread-name": "Main", "thread-id": "1", "test_key": "v"}
        )

    def _stream(
        self, types: StreamTypes, stream_id: str, block: EncodedBlock, properties: dict[str, str] | None = None
    ) -> Iterator[Request]:
        described = describe_stream(types, process_id=self.process_id, stream_id=stream_id, properties=properties)
        yield Request("/ingestion/insert_stream", {}, encode_stream(described))
        envelope = block.request(
            block_id=self.block_of(stream_id),
            stream_id=stream_id,
            process_id=self.process_id,
            begin_time_ns=self.start_ns,
            begin_ticks=0,
            end_time_ns=self.start_ns + 5 * MINUTE_NS,
            end_ticks=5 * MINUTE_NS,
            object_offset=0,
        )
        yield Request("/ingestion/insert_block", {}, encode_block(envelope))

    @staticmethod
    def block_of(stream_id: str) -> str:
        """The id of the only block of a stream."""
        return str(uuid.uuid5(uuid.UUID(stream_id), "block"))

    def rows(self) -> dict[str, list[dict[str, Any]]]:
        """What the views have of it, by the columns that statements ask for."""
        process = {"process_id": self.process_id, "exe": self.exe, "username": "tester", "computer": "here"}
        event = {**process, "process_properties": _json(self.properties), "target": "shop"}
        log = [
            {**event, **_in(self, self.log_stream), "time": self.start_ns + _ticks(second), "target": target}
            | {"level": level, "msg": message, "properties": _json(properties)}
            for second, target, level, message, properties in LOG
        ]
        measures = [
            {**event, **_in(self, self.metric_stream), "time": self.start_ns + _ticks(second), "name": name}
            | {"unit": unit, "value": value, "properties": _json(properties)}
            for second, name, unit, value, properties in METRICS
        ]
        streams: list[dict[str, Any]] = []
        blocks: list[dict[str, Any]] = []
        for stream_id, tag, many, properties in (
            (self.log_stream, "log", len(LOG), {}),
            (self.metric_stream, "metrics", len(METRICS), {}),
            (
                self.thread_stream,
                "cpu",
                2 * len(SPANS),
                {"thread-name": "Main", "thread-id": "1", "test_key": "v"},
            ),
        ):
            streams.append(
                {"stream_id": stream_id, "process_id": self.process_id, "tags": [tag], "properties": _json(properties)}
            )
            times = {"begin_time": self.start_ns, "end_time": self.start_ns + 5 * MINUTE_NS}
            block_id = self.block_of(stream_id)
            ids = {"block_id": block_id, "stream_id": stream_id, "process_id": self.process_id}
            ticks = {"begin_ticks": 0, "end_ticks": 5 * MINUTE_NS}
            blocks.append({**ids, **times, **ticks, "nb_objects": many, "object_offset": 0})
        for request in self.requests():
            if request.path.endswith("insert_block"):
                sent = decode_block(request.body)
                (row,) = [row for row in blocks if row["block_id"] == sent.block_id]
                row["payload_size"] = len(sent.payload)
        spans = [
            {"name": name, "begin": self.start_ns + 1_000 * begin_us, "duration": 1_000 * duration_us}
            | {"end": self.start_ns + 1_000 * (begin_us + duration_us), "target": "shop", "depth": 1}
            for name, begin_us, duration_us in SPANS
        ]
        about = {"realname": "", "distro": "none", "cpu_brand": "none", "tsc_frequency": SECOND_NS, "start_ticks": 0}
        return {
            "processes": [
                {**process, **about, "start_time": self.start_ns, "properties": _json(self.properties)}
                | {"parent_process_id": ""}
            ],
            "streams": streams,
            "blocks": blocks,
            "log_entries": log,
            "measures": measures,
            "thread_spans": spans,
        }


def _in(service: Service, stream_id: str) -> dict[str, str]:
    return {"stream_id": stream_id, "block_id": service.block_of(stream_id)}


def _ticks(second: float) -> int:
    return round(second * SECOND_NS)


def _json(properties: dict[str, str]) -> str:
    return json.dumps(properties, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


@dataclass(frozen=True)
class Moved:
    """A recorded case as if it had happened later."""

    case: Case
    by_ns: int

    @property
    def requests(self) -> list[Request]:
        return [replace(request, body=self._body(request)) for request in self.case.requests]

    def _body(self, request: Request) -> bytes:
        if request.path.endswith("insert_process"):
            process = decode_process(request.body)
            return encode_process(replace(process, start_time_ns=process.start_time_ns + self.by_ns))
        if request.path.endswith("insert_block"):
            block = decode_block(request.body)
            begin, end = block.begin_time_ns + self.by_ns, block.end_time_ns + self.by_ns
            return encode_block(replace(block, begin_time_ns=begin, end_time_ns=end))
        return request.body

    def table(self, path: Path) -> pa.Table:
        """Recorded rows, as much later. Insert times are the server's, so they are left out."""
        table = pq.read_table(path)
        for position, column in enumerate(table.schema):
            if pa.types.is_timestamp(column.type):
                later = table.column(position).cast(pa.timestamp("ns")).cast(pa.int64()).to_numpy() + self.by_ns
                kept = pa.array(later).cast(pa.timestamp("ns"))
                table = table.set_column(position, column.name, kept)
            elif pa.types.is_string(column.type):
                said = pc.replace_substring(table.column(position), _ARRAY_THERE, _ARRAY_HERE)
                table = table.set_column(position, column.name, said)
        return table


@dataclass
class Telemetry:
    """All that is sent."""

    now_ns: int = field(default_factory=time.time_ns)

    def __post_init__(self) -> None:
        minute = self.now_ns - self.now_ns % MINUTE_NS
        self.service = Service(minute - 20 * MINUTE_NS)
        self.native = [self._moved(Case(path), minute) for path in sorted(OWN_CASES.iterdir())]
        self.otlp = [Moved(Case(path), 0) for path in sorted(OTLP_CASES.iterdir())]

    @staticmethod
    def _moved(case: Case, minute: int) -> Moved:
        (start,) = [
            decode_process(request.body).start_time_ns
            for request in case.requests
            if request.path.endswith("insert_process")
        ]
        return Moved(case, (minute - 5 * MINUTE_NS - start) // MINUTE_NS * MINUTE_NS)

    @property
    def requests(self) -> list[Request]:
        cases = [request for moved in (*self.native, *self.otlp) for request in moved.requests]
        return [*cases, *self.service.requests()]

    def process_of(self, name: str) -> str:
        return next(moved.case.process_id for moved in (*self.native, *self.otlp) if moved.case.name == name)

    def thread_of(self, name: str) -> str:
        folder = OWN_CASES / name / "expected"
        return next(folder.glob("thread_spans_*.parquet")).stem.removeprefix("thread_spans_")


class Model:
    """The same rows in a plain DuckDB, one table for each view set; ``instance`` says whose a row is."""

    def __init__(self, telemetry: Telemetry) -> None:
        self.connection: Any = duckdb.connect()
        self.connection.execute("SET TimeZone = 'UTC'; SET integer_division = true")
        self.connection.execute("SET default_null_order = 'NULLS_LAST_ON_ASC_FIRST_ON_DESC'")
        self._tables: dict[str, list[pa.Table]] = {}
        for moved in (*telemetry.native, *telemetry.otlp):
            self._add_case(moved)
        service = telemetry.service
        for view_set, rows in service.rows().items():
            instance = service.thread_stream if view_set == "thread_spans" else service.process_id
            self._add(view_set, _table_of(rows), instance)
        for view_set, tables in self._tables.items():
            rows = pa.concat_tables(tables, promote_options="permissive")
            self.connection.register("incoming", rows)
            self.connection.execute(f"CREATE TABLE all_{view_set} AS SELECT * FROM incoming")
            self.connection.unregister("incoming")
        self._derive(telemetry)

    def _add_case(self, moved: Moved) -> None:
        process_id = moved.case.process_id
        folder = moved.case.folder / "expected"
        for path in sorted(folder.glob("*.parquet")):
            name = path.stem
            if name == "log_entries_global":
                continue
            view_set, instance = name, process_id
            for prefix in ("thread_spans_", "parse_block_"):
                if name.startswith(prefix):
                    view_set, instance = prefix.rstrip("_"), name.removeprefix(prefix)
            table = moved.table(path)
            if view_set in ("log_entries", "measures") and "process_id" not in table.column_names:
                table = table.append_column("process_id", pa.array([process_id] * table.num_rows, pa.string()))
            self._add("process_spans" if view_set == "process_spans_both" else view_set, table, instance)

    def _add(self, view_set: str, table: pa.Table, instance: str) -> None:
        whose = pa.array([instance] * table.num_rows, pa.string())
        self._tables.setdefault(view_set, []).append(table.append_column("instance", whose))

    def _derive(self, telemetry: Telemetry) -> None:
        """Views of all processes, and what one view has from another."""
        run = self.connection.execute
        run(
            "UPDATE all_processes SET start_time = make_timestamp_ns(start_ticks // 1000 * 1000) WHERE start_time IS NULL"
        )
        now = f"make_timestamp_ns({telemetry.now_ns})"
        run(f"CREATE MACRO now() AS {now}")
        run(
            "UPDATE all_log_entries e SET exe = p.exe, username = p.username, computer = p.computer"
            " FROM all_processes p WHERE e.process_id = p.process_id AND e.exe IS NULL"
        )
        run(
            "UPDATE all_measures e SET exe = p.exe, username = p.username, computer = p.computer"
            " FROM all_processes p WHERE e.process_id = p.process_id AND e.exe IS NULL"
        )
        for view_set in ("log_entries", "measures", "thread_spans", "async_events", "net_spans", "images"):
            run(f"CREATE VIEW {view_set} AS SELECT * EXCLUDE (instance) FROM all_{view_set}")
        last = "(SELECT max(end_time) FROM all_blocks b WHERE b.process_id = p.process_id)"
        ticks = "(SELECT max(end_ticks) FROM all_blocks b WHERE b.process_id = p.process_id)"
        run(
            f"CREATE VIEW processes AS SELECT * EXCLUDE (instance), {now} AS insert_time, {now} AS last_update_time,"
            f" {ticks} AS last_block_end_ticks, {last} AS last_block_end_time FROM all_processes p"
        )
        run(f"CREATE VIEW streams AS SELECT * EXCLUDE (instance), {now} AS insert_time FROM all_streams")
        run(f"""CREATE VIEW blocks AS SELECT b.* EXCLUDE (instance), {now} AS insert_time, s.tags AS "streams.tags",
            CASE WHEN p.exe = 'checkout' THEN 'otlp' ELSE 'micromegas-transit' END AS "streams.format",
            s.properties AS "streams.properties", p.exe AS "processes.exe", p.properties AS "processes.properties",
            p.start_time AS "processes.start_time"
            FROM all_blocks b JOIN all_streams s USING (stream_id) JOIN all_processes p ON p.process_id = b.process_id""")
        run(
            "CREATE VIEW log_stats AS SELECT make_timestamp_ns(epoch_ns(time) // 60000000000 * 60000000000) AS time_bin,"
            " process_id, level, target, count(*) AS count FROM all_log_entries GROUP BY ALL"
        )


def _table_of(rows: list[dict[str, Any]]) -> pa.Table:
    times = {"time", "begin", "end", "start_time", "begin_time", "end_time"}
    table = pa.Table.from_pylist(rows)
    for position, name in enumerate(table.column_names):
        if name in times:
            table = table.set_column(position, name, table.column(position).cast(pa.timestamp("ns")))
    return table
