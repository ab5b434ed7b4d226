"""Damaged requests of OTLP against a whole server: each is refused, or its blocks are rows, or they are set aside by name."""

from __future__ import annotations

import contextlib
import http.client
import random
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from lakeflight.wire.envelope import decode_payload
from lakeflight.wire.otlp.resources import LOGS, METRICS, SIGNALS, TRACES, Signal, decode_request
from tests.support import otlp
from tests.support.corruption import damaged_bytes
from tests.support.serving import Server
from tests.support.sizes import SEED, size

VIEW_SETS = {LOGS: "log_entries", METRICS: "measures", TRACES: "otel_spans"}
SPAN_PROCESSES_MAX = 5  # otel_spans are of one process, and each takes a query


@pytest.mark.parametrize("signal", SIGNALS, ids=lambda signal: signal.name)
def test_what_is_not_refused_is_rows_or_set_aside(server: Server, signal: Signal) -> None:
    connection = http.client.HTTPConnection(urlsplit(server.http).netloc, timeout=60)
    statuses = set()
    rows: dict[str, int] = {}  # of the blocks that were taken, as a slow reading has them
    processes: dict[str, str] = {}
    with contextlib.closing(connection):
        for body, is_json in bodies(signal):
            kind = "application/json" if is_json else "application/x-protobuf"
            connection.request("POST", f"/v1/{signal.name}", body, {"Content-Type": kind})
            answer = connection.getresponse()
            said = answer.read()
            assert answer.status in (200, 400), said
            statuses.add(answer.status)
            for stored in decode_request(signal, body, otlp.NOW_NS, is_json=is_json) if answer.status == 200 else ():
                block = stored.block
                rows[block.block_id] = len(otlp.rows_of(signal, decode_payload(block.payload)[1]))
                processes[block.block_id] = block.process_id
    assert statuses == {200, 400}

    asked = sorted(set(processes.values()))
    if signal is TRACES:
        asked = asked[:SPAN_PROCESSES_MAX]
    found = count(server, signal, asked)
    aside = server.query("SELECT block_id FROM quarantined_blocks WHERE view_set = ?", [VIEW_SETS[signal]])
    left_out = set(aside.column(0).to_pylist())
    expected = {block: number for block, number in rows.items() if processes[block] in asked}
    assert found == sum(number for block, number in expected.items() if block not in left_out)
    assert found > 0


def bodies(signal: Signal) -> Iterator[tuple[bytes, bool]]:
    """Every cut of a short request, and damage to longer ones, in both encodings."""
    chance = random.Random(f"{SEED}/server/{signal.name}")
    requests = [otlp.random_request(chance, signal) for _ in range(12)]
    whole = min((request.SerializeToString() for request in requests), key=len)
    for end in range(0, len(whole), 1 if size(0, 1) else 5):
        yield whole[:end], False
    for number in range(size(60, 700)):
        request: Any = requests[number % len(requests)]
        is_json = number % 3 == 0
        yield damaged_bytes(chance, otlp.as_json(request) if is_json else request.SerializeToString()), is_json


def count(server: Server, signal: Signal, processes: list[str]) -> int:
    """The rows of these processes."""
    ids = ", ".join(f"'{process}'" for process in processes)
    statements = [f"SELECT count(*) FROM {VIEW_SETS[signal]} WHERE process_id IN ({ids})"]
    if signal is TRACES:
        statements = [f"SELECT count(*) FROM view_instance('otel_spans', '{process}')" for process in processes]
    return sum(server.query(statement).column(0)[0].as_py() for statement in statements)
