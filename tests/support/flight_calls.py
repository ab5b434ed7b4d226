"""Raw Flight calls, for what no driver would send: a ticket that nobody was given, a statement nobody prepared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.flight as flight

from wire.flight_sql import SQL, encode_statement_ticket, pack

CALL_TIMEOUT_S = 60.0


class RawFlight:
    """A Flight connection without any manners."""

    def __init__(self, uri: str, headers: Mapping[str, str] | None = None) -> None:
        self._client = flight.connect(uri)
        pairs = [(name.encode(), text.encode()) for name, text in (headers or {}).items()]
        self._options = flight.FlightCallOptions(timeout=CALL_TIMEOUT_S, headers=pairs)

    def get(self, sql: str) -> pa.Table:
        """``DoGet`` with the ticket of a statement, and no call before it."""
        return self.reader(sql).read_all()

    def reader(self, sql: str) -> Any:
        """The stream of such a call."""
        return self._client.do_get(flight.Ticket(encode_statement_ticket(sql.encode())), self._options)

    def promised(self, sql: str) -> pa.Schema:
        """The schema that ``GetFlightInfo`` says a statement has."""
        return self._client.get_flight_info(self._descriptor(sql), self._options).schema

    def schema(self, sql: str) -> pa.Schema:
        """The schema that ``GetSchema`` says a statement has."""
        return self._client.get_schema(self._descriptor(sql), self._options).schema

    def close(self) -> None:
        self._client.close()

    @staticmethod
    def _descriptor(sql: str) -> Any:
        return flight.FlightDescriptor.for_command(pack(SQL["CommandStatementQuery"](query=sql)))


@contextmanager
def raw_flight(uri: str, headers: Mapping[str, str] | None = None) -> Iterator[RawFlight]:
    """A raw connection for the length of a block."""
    client = RawFlight(uri, headers)
    try:
        yield client
    finally:
        client.close()
