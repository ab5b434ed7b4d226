"""An ingestion process keeps bytes, not entries: filled in every way that a sender can fill it, it stays below its limits."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from lakeflight.wire.envelope import encode_payload
from server.ingestion.listener import listen
from tests.support.ingestion import Connection, block_request, body_of

BLOCK = "/ingestion/insert_block"
BODIES_BYTES_MAX = 32 << 20
COPIES_MAX = 3  # as it came, decoded, to be stored
SENDERS = 60
SLACK_BYTES = 64 << 20  # of sockets, parsers and the allocator, over all connections; without the bound, 240 MiB more


class Child:
    """An ingestion process with limits of its own whose database accepts connections and says nothing."""

    def __init__(self, folder: Path) -> None:
        self._database = listen("127.0.0.1", 0)
        self._listener = listen("127.0.0.1", 0)
        self.port = self._listener.getsockname()[1]
        program = textwrap.dedent(
            """
            import os, socket, sys
            from pathlib import Path
            from server.ingestion.limits import BodyLimits
            from server.ingestion.process import IngestionSettings, run_ingestion_process
            listener = socket.socket(fileno=int(sys.argv[1]))
            folder = Path(sys.argv[3])
            limits = BodyLimits(
                bodies_bytes_max=int(sys.argv[5]), bodies_bytes_per_peer_max=int(sys.argv[5]), rate_grace_s=60.0
            )
            settings = IngestionSettings(sys.argv[2], (folder / "store").as_uri(), folder / "objects", limits=limits)
            run_ingestion_process(listener, settings, int(sys.argv[4]), lambda: print("ready", flush=True))
            """
        )
        url = f"postgresql://x@127.0.0.1:{self._database.getsockname()[1]}/x?sslmode=disable"
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-c", program, str(self._listener.fileno()), url, str(folder)),
                *(str(os.getpid()), str(BODIES_BYTES_MAX)),
            ],
            pass_fds=[self._listener.fileno()],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n"
        self._watched = psutil.Process(self._process.pid)

    @property
    def bytes(self) -> int:
        return int(self._watched.memory_info().rss)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._listener.close()
        self._database.close()


@pytest.fixture
def child(tmp_path: Path) -> Iterator[Child]:
    running = Child(tmp_path)
    yield running
    running.close()


async def largest(child: Child, senders: list[Connection], data: bytes) -> int:
    """The most that the process took while all of them sent this, over what it took before."""
    before = most = child.bytes
    for sender in senders:
        sender.writer.write(data)
    for _ in range(30):
        await asyncio.sleep(0.1)
        most = max(most, child.bytes)
    for sender in senders:
        sender.writer.transport.abort()
    return most - before


UNFINISHED = f"POST {BLOCK} HTTP/1.1\r\nhost: a\r\ncontent-length: {64 << 20}\r\n\r\n".encode()


async def test_bodies_that_never_end_are_bounded(child: Child) -> None:
    senders = [await Connection.open(child.port) for _ in range(SENDERS)]

    grown = await largest(child, senders, UNFINISHED + bytes(4 << 20))  # 240 MiB

    assert grown < COPIES_MAX * BODIES_BYTES_MAX + SLACK_BYTES


async def test_blocks_that_wait_to_be_stored_are_bounded(child: Child) -> None:
    senders = [await Connection.open(child.port) for _ in range(SENDERS)]
    body = body_of(block_request(payload=encode_payload(b"", os.urandom(2 << 20))))
    head = f"POST {BLOCK} HTTP/1.1\r\nhost: a\r\ncontent-length: {len(body)}\r\n\r\n".encode()

    grown = await largest(child, senders, head + body)  # 120 MiB, whose rows wait for the database

    assert grown < COPIES_MAX * BODIES_BYTES_MAX + SLACK_BYTES


@pytest.mark.parametrize(
    "data",
    [
        b"GET /health HTTP/1.1\r\n" + b"a:b\r\n" * 12_000,
        UNFINISHED + b"GET /health HTTP/1.1\r\nhost: a\r\n\r\n" * 20_000,
        b"GET /health HTTP/1.1\r\nhost: a\r\n\r\n" * 20_000,
    ],
    ids=["headers", "requests behind a body", "requests ahead of their answers"],
)
async def test_heads_are_bounded(child: Child, data: bytes) -> None:
    senders = [await Connection.open(child.port) for _ in range(SENDERS)]

    assert await largest(child, senders, data) < BODIES_BYTES_MAX + SLACK_BYTES
