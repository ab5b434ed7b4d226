"""Clients as users have them: a raw Flight client that sends SQL as a ticket, and ADBC."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import adbc_driver_flightsql.dbapi as flight_sql
import grpc
import pyarrow as pa
from pyarrow import flight

from lakeflight.wire.flight_data import varint
from lakeflight.wire.flight_sql import encode_statement_ticket

_DO_GET = "/arrow.flight.protocol.FlightService/DoGet"


class Raw:
    """One round trip a statement: ``DoGet`` with a ticket that holds the SQL."""

    def __init__(self, address: str) -> None:
        self._client: Any = flight.FlightClient(address)

    def rows(self, sql: str) -> int:
        """Read everything, keep nothing."""
        rows = 0
        for chunk in self._client.do_get(flight.Ticket(encode_statement_ticket(sql.encode()))):
            rows += chunk.data.num_rows
        return rows

    def table(self, sql: str) -> pa.Table:
        return self._client.do_get(flight.Ticket(encode_statement_ticket(sql.encode()))).read_all()

    def integer(self, sql: str) -> int:
        """The first column of the first row."""
        return int(self.table(sql).column(0)[0].as_py())

    def close(self) -> None:
        self._client.close()


class Adbc:
    """The DBAPI of ADBC over one connection, a cursor for each statement."""

    def __init__(self, address: str) -> None:
        self._connection: Any = flight_sql.connect(address, autocommit=True)

    def rows(self, sql: str) -> int:
        with self._connection.cursor() as cursor:
            cursor.execute(sql)
            return int(cursor.fetch_arrow_table().num_rows)

    def close(self) -> None:
        self._connection.close()


@dataclass(frozen=True, slots=True)
class Transfer:
    """What an answer is on the wire."""

    messages: int
    size_bytes: int


def transfer_of(address: str, sql: str) -> Transfer:
    """Count an answer's gRPC messages and their bytes."""
    ticket = encode_statement_ticket(sql.encode())
    request = b"\x0a" + varint(len(ticket)) + ticket  # Ticket.ticket, field 1
    options = [("grpc.max_receive_message_length", -1)]
    messages = size = 0
    with grpc.insecure_channel(address.removeprefix("grpc://"), options=options) as channel:
        for message in channel.unary_stream(_DO_GET)(request):
            messages += 1
            size += len(message)
    return Transfer(messages, size)


def queries_per_s(clients: Sequence[Raw | Adbc], sql: str, queries: int) -> float:
    """All clients at once, each in a thread, ``queries`` statements each."""
    barrier = threading.Barrier(len(clients) + 1)
    failures: list[Exception] = []

    def ask(client: Raw | Adbc) -> None:
        try:
            client.rows(sql)  # its connection is up
            barrier.wait()
            for _ in range(queries):
                client.rows(sql)
        except Exception as error:
            failures.append(error)
            barrier.abort()

    threads = [threading.Thread(target=ask, args=(client,)) for client in clients]
    for thread in threads:
        thread.start()
    with contextlib.suppress(threading.BrokenBarrierError):
        barrier.wait()
    started = time.perf_counter()
    for thread in threads:
        thread.join()
    elapsed = time.perf_counter() - started
    if failures:
        raise failures[0]
    return len(clients) * queries / elapsed


def with_clients(make: Callable[[], Raw | Adbc], count: int, sql: str, queries: int) -> float:
    """``queries_per_s`` with ``count`` fresh clients."""
    clients = [make() for _ in range(count)]
    try:
        return queries_per_s(clients, sql, queries)
    finally:
        for client in clients:
            client.close()
