"""Raw Flight calls, for what no driver would send: a ticket that nobody was given, a statement nobody prepared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.flight as flight

from lakeflight.wire.flight_sql import SQL, encode_statement_ticket, pack

CALL_TIMEOUT_S = 60.0


class RawFlight:
    """A Flight connection without any manners."""

    def __init__(self, uri: str) -> None:
        self._client = flight.connect(uri)

    def get(self, sql: str, headers: Mapping[str, str] | None = None) -> pa.Table:
        """``DoGet`` with the ticket of a statement, and no call before it."""
        return self.reader(sql, headers).read_all()

    def reader(self, sql: str, headers: Mapping[str, str] | None = None) -> Any:
        """The stream of such a call."""
        return self._client.do_get(flight.Ticket(encode_statement_ticket(sql.encode())), _options(headers))

    def promised(self, sql: str) -> pa.Schema:
        """The schema that ``GetFlightInfo`` says a statement has."""
        return self._client.get_flight_info(self._descriptor(sql), _options()).schema

    def app_metadata(self, sql: str) -> bytes:
        """What ``GetFlightInfo`` says beside the schema."""
        return bytes(self._client.get_flight_info(self._descriptor(sql), _options()).app_metadata)

    def schema(self, sql: str) -> pa.Schema:
        """The schema that ``GetSchema`` says a statement has."""
        return self._client.get_schema(self._descriptor(sql), _options()).schema

    def close(self) -> None:
        self._client.close()

    @staticmethod
    def _descriptor(sql: str) -> Any:
        return flight.FlightDescriptor.for_command(pack(SQL["CommandStatementQuery"](query=sql)))


def _options(headers: Mapping[str, str] | None = None) -> Any:
    pairs = [(name.encode(), text.encode()) for name, text in (headers or {}).items()]
    return flight.FlightCallOptions(timeout=CALL_TIMEOUT_S, headers=pairs)


@contextmanager
def raw_flight(uri: str) -> Iterator[RawFlight]:
    """A raw connection for the length of a block."""
    client = RawFlight(uri)
    try:
        yield client
    finally:
        client.close()
