"""A Flight SQL server that answers with what a test laid out for it, and remembers what it was asked."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.flight as flight

from lakeflight.wire.flight_sql import (
    SQL,
    GetTables,
    PreparedStatementQuery,
    StatementQuery,
    StatementTicket,
    decode_command,
    decode_ticket,
    encode_statement_ticket,
    pack,
    unpack_as,
)


@dataclass
class Laid:
    """One answer: its batches, or the error instead, and what goes beside them."""

    batches: Sequence[pa.RecordBatch] = ()
    schema: pa.Schema | None = None
    fail_bind: Exception | None = None
    fail_midway: Exception | None = None
    missing_blocks: int = 0
    wait_s: float = 0.0
    pause_s: float = 0.0  # before each batch
    parameters: Sequence[pa.Field] = ()


@dataclass
class Asked:
    """What came over the wire."""

    sql: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    parameters: list[list[Any]] = field(default_factory=list)
    parameter_types: list[list[pa.DataType]] = field(default_factory=list)
    actions: list[str] = field(default_factory=list)
    cancelled: int = 0


class _Headers(flight.ServerMiddleware):  # type: ignore[misc]  # pyarrow has no types
    def __init__(self, values: dict[str, str]) -> None:
        self.values = values


class _HeadersFactory(flight.ServerMiddlewareFactory):  # type: ignore[misc]  # pyarrow has no types
    def start_call(self, info: Any, headers: Mapping[str, Sequence[str]]) -> _Headers:
        return _Headers({name: texts[0] for name, texts in headers.items() if texts and isinstance(texts[0], str)})


class FakeFlight(flight.FlightServerBase):  # type: ignore[misc]  # pyarrow has no types
    """Answers by SQL text; ``answers[None]`` is for every other text."""

    def __init__(self) -> None:
        super().__init__("grpc://127.0.0.1:0", middleware={"headers": _HeadersFactory()})
        self.answers: dict[str | None, Laid] = {}
        self.progress: dict[str, Any] | None = None
        self.asked = Asked()

    @property
    def uri(self) -> str:
        return f"grpc://127.0.0.1:{self.port}"

    def _laid(self, sql: str) -> Laid:
        return self.answers[sql] if sql in self.answers else self.answers[None]

    def get_flight_info(self, context: Any, descriptor: Any) -> flight.FlightInfo:
        self.asked.headers.append(context.get_middleware("headers").values)
        command = decode_command(descriptor.command)
        if isinstance(command, GetTables):
            ticket, schema = descriptor.command, _TABLES.schema
        else:
            if isinstance(command, StatementQuery):
                sql = command.query
            else:
                assert isinstance(command, PreparedStatementQuery)
                sql = command.handle.decode().removeprefix("bound:").removeprefix("prepared:")
            self.asked.sql.append(sql)
            laid = self._laid(sql)
            if laid.fail_bind:
                raise laid.fail_bind
            ticket, schema = encode_statement_ticket(sql.encode()), _schema_of(laid)
        return flight.FlightInfo(schema, descriptor, [flight.FlightEndpoint(ticket, [])], -1, -1)

    def do_get(self, context: Any, ticket: Any) -> Any:
        command = decode_ticket(ticket.ticket)
        if isinstance(command, GetTables):
            return flight.RecordBatchStream(_TABLES)
        assert isinstance(command, StatementTicket)
        self.asked.headers.append(context.get_middleware("headers").values)
        laid = self._laid(command.handle.decode())
        context.add_header("x-query-id", "query-1")

        def batches() -> Iterator[pa.RecordBatch]:
            deadline = time.monotonic() + laid.wait_s
            while time.monotonic() < deadline:
                if context.is_cancelled():
                    self.asked.cancelled += 1
                    return
                time.sleep(0.01)
            for batch in laid.batches:
                time.sleep(laid.pause_s)
                yield batch
            if laid.fail_midway:
                raise laid.fail_midway
            context.add_trailer("missing_blocks", str(laid.missing_blocks))

        return flight.GeneratorStream(_schema_of(laid), batches())

    def do_action(self, context: Any, action: Any) -> list[bytes]:
        self.asked.actions.append(action.type)
        body = action.body.to_pybytes()
        match action.type:
            case "CreatePreparedStatement":
                sql = unpack_as("ActionCreatePreparedStatementRequest", body).query
                laid = self._laid(sql)
                created = SQL["ActionCreatePreparedStatementResult"](
                    prepared_statement_handle=f"prepared:{sql}".encode(),
                    dataset_schema=_schema_of(laid).serialize().to_pybytes(),
                    parameter_schema=pa.schema(laid.parameters).serialize().to_pybytes(),
                )
                return [pack(created)]
            case "lakeflight.QueryProgress":
                if self.progress is None:
                    raise KeyError(f"no running query {body.decode()}")
                return [json.dumps(self.progress).encode()]
            case _:
                return []

    def do_put(self, context: Any, descriptor: Any, reader: Any, writer: Any) -> None:
        table = reader.read_all()
        self.asked.parameters.append([column[0].as_py() for column in table.columns])
        self.asked.parameter_types.append(table.schema.types)
        command = decode_command(descriptor.command)
        assert isinstance(command, PreparedStatementQuery)
        handle = command.handle.replace(b"prepared:", b"bound:")
        result = SQL["DoPutPreparedStatementResult"](prepared_statement_handle=handle)
        writer.write(pa.py_buffer(result.SerializeToString()))


_TABLES = pa.table(
    {
        "catalog_name": ["lakeflight"],
        "db_schema_name": ["main"],
        "table_name": ["log_entries"],
        "table_type": ["TABLE"],
    }
)


def _schema_of(laid: Laid) -> pa.Schema:
    if laid.schema is not None:
        return laid.schema
    return laid.batches[0].schema if laid.batches else pa.schema([("n", pa.int64())])


@contextmanager
def fake_flight() -> Iterator[FakeFlight]:
    server = FakeFlight()
    try:
        yield server
    finally:
        server.shutdown()
