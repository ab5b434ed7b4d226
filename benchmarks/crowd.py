"""One client that asks for little, beside many that ask for much: loops of heavy statements, and readers that pause."""

from __future__ import annotations

import contextlib
import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from pyarrow import flight

from benchmarks.clients import Raw
from benchmarks.figures import Figure, at_most
from benchmarks.serving import Server
from benchmarks.sizes import Size
from lakeflight.wire.flight_sql import encode_statement_ticket

SMALL: Final = "SELECT 1"
HEAVY: Final = (
    "SELECT count(*) FROM range(20000) a(i), range(10000) b(i) WHERE (a.i * b.i) % 7 = 3"  # seconds of two cores
)
PAUSED_ROWS: Final = 700_000
PAUSED: Final = f"SELECT i, i * 3 AS three, (i % 1000) / 7.0::DOUBLE AS seventh FROM range({PAUSED_ROWS}) t(i)"  # 17 MB
_ASK_EVERY_S: Final = 0.25
_ROOT: Final = Path(__file__).resolve().parents[1]
# each a program of its own: threads of this one would keep the measured client waiting
_LOOP: Final = """
import sys
from benchmarks.clients import Raw
client = Raw(sys.argv[1])
while True:
    client.rows(sys.argv[2])
    print(flush=True)
"""


def measure(server: Server, size: Size) -> list[Figure]:
    with _heavy_loops(server.flight, size.heavy_loops) as loops:
        beside_loops = _latencies_ms(server.flight, size.crowd_s)
    ended = sum(loop.count(b"\n") for loop in loops)
    with _paused_readers(server.flight, size.paused_readers):
        beside_readers = _latencies_ms(server.flight, size.crowd_s / 3)
    heavy_p99, paused_p99 = _percentile(beside_loops, 0.99), _percentile(beside_readers, 0.99)
    return [
        Figure(
            "select_1_beside_heavy_loops_p99_ms",
            f"SELECT 1 beside {size.heavy_loops} loops of heavy statements, of which {ended} ended: p99",
            heavy_p99,
            "ms",
            (beside_loops[0], beside_loops[-1]),
            targets=(at_most(heavy_p99, 1_000, "1 s"),),
        ),
        Figure(
            "select_1_beside_paused_readers_p99_ms",
            f"SELECT 1 beside {size.paused_readers} readers that pause: p99",
            paused_p99,
            "ms",
            (beside_readers[0], beside_readers[-1]),
            targets=(at_most(paused_p99, 100, "100 ms"),),
        ),
    ]


def _latencies_ms(address: str, seconds: float) -> list[float]:
    """What a client waits that asks for little now and then, ascending."""
    client = Raw(address)
    found: list[float] = []
    end = time.perf_counter() + seconds
    while not found or time.perf_counter() < end:
        started = time.perf_counter()
        client.rows(SMALL)
        found.append((time.perf_counter() - started) * 1e3)
        time.sleep(_ASK_EVERY_S)
    client.close()
    return sorted(found)


def _percentile(ascending: list[float], share: float) -> float:
    return ascending[min(len(ascending) - 1, math.ceil(share * len(ascending)) - 1)]


@contextlib.contextmanager
def _heavy_loops(address: str, count: int) -> Iterator[list[bytes]]:
    """Programs that ask for much without a pause; afterwards, a line of each for every statement that ended."""
    environment = os.environ | {"PYTHONPATH": str(_ROOT)}
    command = [sys.executable, "-c", _LOOP, address, HEAVY]
    programs = [subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) for _ in range(count)]
    ended: list[bytes] = []
    try:
        time.sleep(2)  # they load their libraries, and fill every place
        yield ended
    finally:
        for program in programs:
            program.kill()
        ended += [program.communicate()[0] for program in programs]


@contextlib.contextmanager
def _paused_readers(address: str, count: int) -> Iterator[None]:
    """Readers that took one frame; at the end they read on, and each must get all its rows.

    Raises:
        RuntimeError: One did not.
    """
    ticket = flight.Ticket(encode_statement_ticket(PAUSED.encode()))
    readers: list[tuple[Any, int]] = []
    rows: list[int] = []

    def take_one() -> None:
        reader: Any = flight.FlightClient(address).do_get(ticket)
        readers.append((reader, reader.read_chunk().data.num_rows))

    def take_rest(reader: Any, taken: int) -> None:
        rows.append(taken + sum(chunk.data.num_rows for chunk in reader))

    _together([threading.Thread(target=take_one) for _ in range(count)])
    yield
    _together([threading.Thread(target=take_rest, args=reader) for reader in readers])
    if rows != [PAUSED_ROWS] * count:
        raise RuntimeError(f"of {count} paused readers {rows.count(PAUSED_ROWS)} got all their rows")


def _together(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
