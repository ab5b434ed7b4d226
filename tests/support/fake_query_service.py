"""A query service over an in-process DuckDB: no sandbox, no lake, for tests of the Flight edge alone.

It counts what it is asked, can be told to fail, and knows two statements of its own: ``stall`` never ends and
``frames N SIZE`` sends N frames of SIZE bytes each without an engine.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal

import duckdb
import pyarrow as pa

from lakeflight.wire.flight_data import FrameEncoder
from lakehouse.errors import (
    ForbiddenSqlError,
    LakeflightError,
    QueryCancelledError,
    QueryError,
    SqlSyntaxError,
    UnsupportedError,
)
from lakehouse.model import Caller, QueryOptions
from server.query.statement import BoundValues

SETUP = """
CREATE TABLE log_entries (time TIMESTAMP, level INTEGER, msg VARCHAR, properties VARCHAR);
INSERT INTO log_entries SELECT make_timestamp(i * 1000000), i % 6, 'message ' || i, '{}' FROM range(1000) t(i);
CREATE TABLE logXentries (a INTEGER);
CREATE TABLE measures (name VARCHAR, value DOUBLE, tags VARCHAR[]);
CREATE VIEW processes AS SELECT 1::BIGINT AS process_id, 1.5::DECIMAL(9, 2) AS price;
"""


def new_database() -> Any:
    """The tables; nothing here writes, so that tests may share one."""
    database = duckdb.connect()
    database.execute(SETUP)
    return database


@dataclass(frozen=True)
class Prepared:
    schema: bytes
    parameter_schema: bytes
    known_missing: int = 0

    async def missing_blocks(self) -> int:
        return self.known_missing


@dataclass(frozen=True)
class Table:
    name: str
    kind: Literal["TABLE", "VIEW"]
    schema: pa.Schema


@dataclass
class FakeQueryService:
    """Everything an engine would do is here; ``fail_*`` is raised where its name says."""

    fail_prepare: Exception | None = None
    fail_start: Exception | None = None
    fail_midway: Exception | None = None
    known_missing: int = 0
    missing: int = 0
    calls: Counter[str] = field(default_factory=Counter)
    options: list[QueryOptions] = field(default_factory=list)
    open_streams: dict[str, Stream] = field(default_factory=dict)
    refused: list[tuple[str, LakeflightError]] = field(default_factory=list)
    database: Any = field(default_factory=new_database)
    threads: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(4))

    async def prepare(
        self, sql: str, caller: Caller, options: QueryOptions, values: BoundValues | None = None
    ) -> Prepared:
        self.calls["prepare"] += 1
        self.options.append(options)
        if self.fail_prepare:
            raise self.fail_prepare
        schema = _own_schema(sql)
        count = 0
        if schema is None:
            with _duckdb_errors():
                cursor = self.database.cursor()
                text, count = _check(cursor, sql)
                bound = [None] * count if values is None else _values(values.batch)
                schema = _relation(cursor, text, bound).limit(0).to_arrow_reader(1).schema
        parameter_schema = pa.schema([pa.field(str(i + 1), pa.string()) for i in range(count)])
        return Prepared(schema.serialize().to_pybytes(), parameter_schema.serialize().to_pybytes(), self.known_missing)

    def execute(self, sql: str, caller: Caller, options: QueryOptions, values: BoundValues | None = None) -> Stream:
        self.calls["execute"] += 1
        self.options.append(options)
        stream = self.open_streams[options.query_id] = Stream(
            self, sql, options, None if values is None else values.batch
        )
        return stream

    async def tables(self, caller: Caller, options: QueryOptions) -> Sequence[Table]:
        kinds: Mapping[str, Literal["TABLE", "VIEW"]] = {
            "measures": "TABLE",
            "logXentries": "TABLE",
            "log_entries": "TABLE",
            "processes": "VIEW",
        }
        return [
            Table(name, kind, self.database.cursor().sql(f"FROM {name}").limit(0).to_arrow_reader(1).schema)
            for name, kind in kinds.items()
        ]


class Stream:
    """One execution. The engine's work happens on a thread; ``cancel`` interrupts it."""

    def __init__(
        self, service: FakeQueryService, sql: str, options: QueryOptions, parameters: pa.RecordBatch | None
    ) -> None:
        self.sql = sql
        self.missing_blocks = 0
        self._service = service
        self._options = options
        self._parameters = parameters
        self._frames: Iterator[bytes] | None = None
        self._cursor: Any = None
        self._cancelled = asyncio.Event()

    def __aiter__(self) -> Stream:
        return self

    async def __anext__(self) -> bytes:
        if self._cancelled.is_set():
            raise QueryCancelledError("cancelled by the caller")
        if self._frames is None:
            if self._service.fail_start:
                raise self._service.fail_start
            if self.sql == "stall":
                await self._cancelled.wait()
                raise QueryCancelledError("cancelled by the caller")
            self._cursor = self._service.database.cursor()
            self._frames = self._made_frames() or self._encoded(self._cursor)
        try:
            if self.sql.startswith("frames"):
                frame = next(self._frames, None)
            else:
                loop = asyncio.get_running_loop()
                frame = await loop.run_in_executor(self._service.threads, _next, self._frames)
        except LakeflightError:
            if self._cancelled.is_set():
                raise QueryCancelledError("cancelled by the caller") from None
            raise
        if frame is None:
            self.missing_blocks = self._service.missing
            self._service.open_streams.pop(self._options.query_id, None)
            raise StopAsyncIteration
        return frame

    @property
    def progress(self) -> Mapping[str, object]:
        return {"rows": 0, "query_id": self._options.query_id}

    def refuse(self, error: LakeflightError) -> None:
        self._service.refused.append((self.sql, error))

    def cancel(self) -> None:
        self._cancelled.set()
        if self._cursor is not None:
            self._cursor.interrupt()

    async def aclose(self) -> None:
        self._service.calls["aclose"] += 1
        self.cancel()
        self._service.open_streams.pop(self._options.query_id, None)

    def _made_frames(self) -> Iterator[bytes] | None:
        match = re.fullmatch(r"frames (\d+) (\d+)", self.sql)
        return _prepared_frames(int(match[1]), int(match[2])) if match else None

    def _encoded(self, cursor: Any) -> Iterator[bytes]:
        with _duckdb_errors():
            text, count = _check(cursor, self.sql)
            if count and self._parameters is None:
                raise QueryError(f"{count} parameters are not bound")
            values = _values(self._parameters) if self._parameters is not None else None
            relation = _relation(cursor, text, values)
            if self._options.row_limit is not None:
                relation = relation.limit(self._options.row_limit)
            reader = relation.to_arrow_reader(65_536)
            encoder = FrameEncoder(reader.schema)
            yield encoder.schema()
            for batch in reader:
                yield from encoder.frames(batch)
                if self._service.fail_midway:
                    raise self._service.fail_midway


_SIZED_SCHEMA = pa.schema([("value", pa.int64())])
_sized: dict[tuple[int, int], list[bytes]] = {}


def _own_schema(sql: str) -> pa.Schema | None:
    return _SIZED_SCHEMA if sql == "stall" or sql.startswith("frames ") else None


def _prepared_frames(count: int, size: int) -> Iterator[bytes]:
    cached = _sized.get((1, size))
    if cached is None:
        encoder = FrameEncoder(_SIZED_SCHEMA, frame_bytes_max=1 << 30)
        batch = pa.record_batch([pa.array(range(size // 8), pa.int64())], schema=_SIZED_SCHEMA)
        cached = _sized[1, size] = [encoder.schema(), *encoder.frames(batch)]
    yield cached[0]
    for _ in range(count):
        yield cached[1]


def _next(frames: Iterator[bytes]) -> bytes | None:
    return next(frames, None)


def _relation(cursor: Any, sql: str, values: list[Any] | None) -> Any:
    return cursor.sql(sql, params=values) if values else cursor.sql(sql)


def _values(parameters: pa.RecordBatch) -> list[Any]:
    assert parameters.num_rows == 1
    return [column[0].as_py() for column in parameters.columns]


def _check(cursor: Any, sql: str) -> tuple[str, int]:
    """The one query in ``sql`` and its number of parameters."""
    statements = cursor.extract_statements(sql)
    if len(statements) != 1:
        raise QueryError("empty statement" if not statements else "more than one statement in a request")
    if statements[0].expected_result_type != [duckdb.ExpectedResultType.QUERY_RESULT]:
        raise ForbiddenSqlError("only queries are allowed")
    text: str = statements[0].query.partition(";")[0] if ";" in sql else sql
    return text, len(statements[0].named_parameters)


@contextlib.contextmanager
def _duckdb_errors() -> Iterator[None]:
    kinds: dict[type[Exception], Callable[[str], LakeflightError]] = {
        duckdb.ParserException: SqlSyntaxError,
        duckdb.InterruptException: QueryCancelledError,
        duckdb.NotImplementedException: UnsupportedError,
    }
    try:
        yield
    except (duckdb.Error, OSError) as error:
        line = str(error).partition("\n")[0]
        if line.startswith("INTERRUPT"):
            raise QueryCancelledError(line) from error
        raise next((make for kind, make in kinds.items() if isinstance(error, kind)), QueryError)(line) from error
