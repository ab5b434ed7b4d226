"""A hundred readers of a real server that take one frame and pause, as open grids of database tools do."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.flight as flight
import pytest

from lakeflight.wire.flight_sql import encode_statement_ticket
from tests.support.serving import Server, serving

READERS = 100
ROWS = 700_000
LARGE = f"SELECT i, i * 3 AS three, (i % 1000) / 7.0::DOUBLE AS seventh FROM range({ROWS}) t(i)"  # 17 MB
SELECT_1_S_MAX = 0.1


def ticket(sql: str) -> flight.Ticket:
    return flight.Ticket(encode_statement_ticket(sql.encode()))


READ_NOTHING_AHEAD = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 65_535)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One of their own: a hundred large results are no company for others."""
    with serving(tmp_path_factory.mktemp("paused")) as running:
        yield running


class PausedReader:
    """Takes a frame and pauses."""

    def __init__(self, server: Server) -> None:
        # Nothing is read ahead: a fast connection would otherwise take whole results, and leave nothing to keep.
        self.client = flight.connect(server.flight, generic_options=READ_NOTHING_AHEAD)
        self._reader = self.client.do_get(ticket(LARGE))
        self._taken = [self._reader.read_chunk().data]

    def rest(self) -> tuple[int, int]:
        """Rows and a sum of the whole result."""
        rows, total = 0, 0
        for batch in self._batches():
            rows += batch.num_rows
            total += pc.sum(batch["three"]).as_py()
        return rows, total

    def _batches(self) -> Iterator[pa.RecordBatch]:
        yield from self._taken
        for chunk in self._reader:
            yield chunk.data

    def close(self) -> None:
        self._reader.cancel()
        self.client.close()


def spool_bytes(server: Server) -> int:
    """Disk space of files without a name that the server holds in its folder for scratch files."""
    total = 0
    process = psutil.Process(server.process.pid)
    for descriptor in Path(f"/proc/{process.pid}/fd").iterdir():
        try:
            target = str(descriptor.readlink())
            if target.startswith(str(server.data_dir)) and target.endswith("(deleted)"):
                total += descriptor.stat().st_blocks * 512
        except FileNotFoundError:
            continue
    return total


def latencies_s(server: Server, seconds: float) -> list[float]:
    found = []
    with flight.connect(server.flight) as client:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            began = time.monotonic()
            assert client.do_get(ticket("SELECT 1 AS one")).read_all().to_pylist() == [{"one": 1}]
            found.append(time.monotonic() - began)
            time.sleep(0.02)
    return sorted(found)


def wait_until(condition: Any, timeout_s: float = 240) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def test_a_hundred_paused_readers_leave_everybody_else_alone_and_get_all_their_rows(server: Server) -> None:
    with ThreadPoolExecutor(READERS) as threads:
        readers = list(threads.map(lambda _: PausedReader(server), range(READERS)))
        wait_until(lambda: spool_bytes(server) > READERS * 5_000_000)

        answered = latencies_s(server, 3)
        assert len(answered) > 10
        assert statistics.median(answered) <= SELECT_1_S_MAX

        whole = (ROWS, 3 * ROWS * (ROWS - 1) // 2)
        assert set(threads.map(PausedReader.rest, readers)) == {whole}
    wait_until(lambda: spool_bytes(server) == 0)


def test_paused_readers_that_go_away_leave_nothing_behind(server: Server) -> None:
    readers = [PausedReader(server) for _ in range(8)]
    wait_until(lambda: spool_bytes(server) > 8 * 5_000_000)

    for reader in readers[:4]:
        reader.close()
    wait_until(lambda: spool_bytes(server) < 5 * 17_000_000)
    closing = [threading.Thread(target=reader.close) for reader in readers[4:]]
    for thread in closing:
        thread.start()
    for thread in closing:
        thread.join()

    wait_until(lambda: spool_bytes(server) == 0)
