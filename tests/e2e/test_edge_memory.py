"""What statements say does not stay in the server's memory, whoever sends how many of them."""

from __future__ import annotations

import psutil

from tests.support.flight_calls import raw_flight
from tests.support.serving import Server

MB = 1 << 20


def wide(number: int) -> str:
    """A statement of some 20 KB whose schema has megabytes."""
    columns = ", ".join(
        f"{n} AS a_column_with_a_name_that_takes_its_room_in_every_schema_{number}_{n}" for n in range(120)
    )
    return f"WITH t AS (SELECT {columns}) SELECT {', '.join(['t.*'] * 150)} FROM t"


def test_statements_with_large_schemas_do_not_add_up(server: Server) -> None:
    edge = psutil.Process(server.process.pid)
    with raw_flight(server.flight) as client:
        assert len(client.schema(wide(0)).serialize()) > MB
        before = edge.memory_info().rss
        for number in range(1, 31):
            client.schema(wide(number))

    assert edge.memory_info().rss - before < 40 * MB
