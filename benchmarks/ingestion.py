"""How many blocks a second are acknowledged, against the same rows and files written by hand.

The sender is one event loop that does nothing but put prepared bytes on sockets, so that the server has the cores.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, cast
from urllib.parse import urlsplit

import asyncpg
import uvloop

from benchmarks.figures import Figure, Limit, at_least, at_most
from benchmarks.measure import median, percentile
from benchmarks.serving import Sender, Server
from benchmarks.sizes import Size
from benchmarks.workload import block_of, block_request, thread_of_nothing
from lakeflight.wire.envelope import BlockRequest
from lakehouse.catalog.migrate import migrate
from server.embedded_postgres import EmbeddedPostgres

BLOCK_BYTES: Final = 20_000
CONNECTIONS: Final = 16
GROUPS_IN_FLIGHT: Final = 2
GROUP_BLOCKS: Final = CONNECTIONS // GROUPS_IN_FLIGHT  # all that so many senders can have waiting
BLOCKS_PER_S: Final = 2_800
P99_MS: Final = 15.0
_OK: Final = b"HTTP/1.1 200"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
INSERT_BLOCKS: Final = """
INSERT INTO blocks (block_id, stream_id, process_id, begin_time, begin_ticks, end_time, end_ticks, nb_objects,
                    object_offset, payload_size)
SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::timestamptz[], $5::bigint[], $6::timestamptz[],
                     $7::bigint[], $8::integer[], $9::bigint[], $10::bigint[])
"""
_libc = ctypes.CDLL(None, use_errno=True)


def measure(server: Server, size: Size, folder: Path) -> list[Figure]:
    """Acknowledged blocks a second and the 99th percentile of their latency."""
    telemetry = thread_of_nothing()
    Sender(server).send_all(telemetry.requests())
    template = block_of(telemetry.process, telemetry.streams[0], BLOCK_BYTES)
    rounds = uvloop.run(_take_turns(server, size, folder, template))
    rates = [size.ingest_blocks / r.seconds for r in rounds]
    limits = [size.ingest_blocks / r.raw_seconds for r in rounds]
    p99s = [percentile(r.latencies, 99) * 1e3 for r in rounds]
    group_ms = median([r.raw_seconds * GROUPS_IN_FLIGHT / (size.ingest_blocks / GROUP_BLOCKS) * 1e3 for r in rounds])
    rate, p99 = median(rates), median(p99s)
    return [
        Figure(
            "ingest_blocks_per_s",
            f"blocks of {BLOCK_BYTES // 1000} kB acknowledged as durable, {CONNECTIONS} connections",
            rate,
            "/s",
            (min(rates), max(rates)),
            limit=Limit(median(limits), "files, syncfs and INSERT by hand, 2 groups of 8 in flight"),
            targets=(at_least(rate, BLOCKS_PER_S, f"{BLOCKS_PER_S:,} /s"),),
            original=2_800,
        ),
        Figure(
            "ingest_p99_ms",
            "the same, 99th percentile of latency",
            p99,
            "ms",
            (min(p99s), max(p99s)),
            limit=Limit(group_ms, "mean of a group by hand"),
            targets=(at_most(p99, P99_MS, f"{P99_MS:g} ms"),),
            original=13,
        ),
    ]


@dataclass(frozen=True, slots=True)
class _Round:
    seconds: float
    raw_seconds: float
    latencies: list[float]


async def _take_turns(server: Server, size: Size, folder: Path, template: BlockRequest) -> list[_Round]:
    postgres = EmbeddedPostgres(folder / "postgres")
    await postgres.start()
    try:
        await migrate(postgres.url)
        pool = await asyncpg.create_pool(postgres.url, min_size=GROUPS_IN_FLIGHT, max_size=GROUPS_IN_FLIGHT)
        async with pool:
            rounds: list[_Round] = []
            for number in range(size.ingest_rounds):
                requests = [http_request(replace(template, block_id=fresh_id())) for _ in range(size.ingest_blocks)]
                seconds, latencies = await send_all(server, requests)
                del requests
                raw_seconds = await _by_hand(pool, folder / f"round-{number}", template, size.ingest_blocks)
                rounds.append(_Round(seconds, raw_seconds, latencies))
            return rounds
    finally:
        await postgres.stop()


# --- over HTTP ------------------------------------------------------------------------------------------------------


async def send_all(server: Server, requests: Sequence[bytes]) -> tuple[float, list[float]]:
    loop = asyncio.get_running_loop()
    host, _, port = urlsplit(server.http).netloc.rpartition(":")
    left = iter(requests)
    latencies: list[float] = []
    connections = []
    for _ in range(CONNECTIONS):
        _, connection = await loop.create_connection(
            lambda: _Connection(left, latencies, loop.create_future()), host, int(port)
        )
        connections.append(connection)
    started = time.perf_counter()
    for connection in connections:
        connection.send_next()
    await asyncio.gather(*(connection.done for connection in connections))
    return time.perf_counter() - started, latencies


class _Connection(asyncio.Protocol):
    """Sends the next request when the last one was answered."""

    def __init__(self, left: Iterator[bytes], latencies: list[float], done: asyncio.Future[None]) -> None:
        self.done = done
        self._left = left
        self._latencies = latencies
        self._sent_at = 0.0
        self._answer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def send_next(self) -> None:
        request = next(self._left, None)
        if request is None:
            self._transport.close()
            self.done.set_result(None)
            return
        self._sent_at = time.perf_counter()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._answer += data
        if not self._answer.endswith(b"\r\n\r\n"):  # an acknowledgement has no body
            return
        self._latencies.append(time.perf_counter() - self._sent_at)
        answer, self._answer = self._answer, b""
        if not answer.startswith(_OK):
            self._fail(f"a block was not acknowledged: {answer[:200]!r}")
        else:
            self.send_next()

    def connection_lost(self, error: Exception | None) -> None:
        self._fail(f"the connection was lost: {error or self._answer[:200]!r}")

    def _fail(self, reason: str) -> None:
        if not self.done.done():
            self.done.set_exception(RuntimeError(reason))
            self._transport.close()


def http_request(block: BlockRequest) -> bytes:
    path, body = block_request(block)
    return b"POST %s HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: %d\r\n\r\n" % (path.encode(), len(body)) + body


# --- by hand --------------------------------------------------------------------------------------------------------


async def _by_hand(pool: Any, folder: Path, template: BlockRequest, blocks: int) -> float:
    """The same payloads as new files with a ``syncfs`` for each group, and their rows with a commit for each."""
    folder.mkdir()
    left = iter([[fresh_id() for _ in range(min(GROUP_BLOCKS, blocks - i))] for i in range(0, blocks, GROUP_BLOCKS)])

    async def work() -> None:
        async with pool.acquire() as connection:
            insert = await connection.prepare(INSERT_BLOCKS)
            for group in left:
                await asyncio.to_thread(_write, folder, group, template.payload)
                await insert.fetch(*block_columns(group, template))

    started = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(GROUPS_IN_FLIGHT)))
    return time.perf_counter() - started


def _write(folder: Path, names: Sequence[str], data: bytes) -> None:
    disk = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for name in names:
            file = os.open(folder / name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o640)
            os.write(file, data)
            os.close(file)
        if _libc.syncfs(disk):
            raise OSError(ctypes.get_errno(), "syncfs")
    finally:
        os.close(disk)


def block_columns(group: Sequence[str], block: BlockRequest) -> list[list[Any]]:
    same = [
        block.stream_id,
        block.process_id,
        _EPOCH + timedelta(microseconds=block.begin_time_ns // 1000),
        block.begin_ticks,
        _EPOCH + timedelta(microseconds=block.end_time_ns // 1000),
        block.end_ticks,
        block.nb_objects,
        block.object_offset,
        len(block.payload),
    ]
    return [list(group), *([value] * len(group) for value in same)]


def fresh_id() -> str:
    return str(uuid.uuid4())
