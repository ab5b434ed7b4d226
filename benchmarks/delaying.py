"""A relay that holds back what a client sends: the way of a request to a store that is far away, and nothing else of it.

``python -m benchmarks.delaying HOST PORT MILLISECONDS`` prints the port that it listens on.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Final, cast
from urllib.parse import urlsplit

import uvloop

_ROOT: Final = Path(__file__).resolve().parents[1]


@contextlib.contextmanager
def delayed(endpoint: str, latency_ms: float) -> Iterator[str]:
    """Where ``endpoint`` answers that much later; itself, without any latency."""
    if not latency_ms:
        yield endpoint
        return
    place = urlsplit(endpoint)
    command = [sys.executable, "-m", "benchmarks.delaying", str(place.hostname), str(place.port), str(latency_ms)]
    with subprocess.Popen(command, cwd=_ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.kill()


class _Held(asyncio.Protocol):
    """What comes from a client, passed on a while later and in order."""

    def __init__(self, host: str, port: int, delay_s: float) -> None:
        self._upstream = (host, port)
        self._delay_s = delay_s
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[float, bytes]] = deque()
        self._to: asyncio.Transport | None = None
        self._is_timed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._from = cast(asyncio.Transport, transport)
        self._connecting = self._loop.create_task(self._connect())

    async def _connect(self) -> None:
        try:
            made, _ = await self._loop.create_connection(lambda: _Passed(self._from), *self._upstream)
        except OSError:
            self._from.abort()
            return
        self._to = made
        self._pass_on()

    def data_received(self, data: bytes) -> None:
        self._waiting.append((self._loop.time() + self._delay_s, data))
        if not self._is_timed:
            self._is_timed = True
            self._loop.call_later(self._delay_s, self._pass_on)

    def connection_lost(self, error: Exception | None) -> None:
        if self._to is not None:
            self._to.close()

    def _pass_on(self) -> None:
        self._is_timed = False
        if self._to is None:
            return
        while self._waiting and self._waiting[0][0] <= self._loop.time():
            self._to.write(self._waiting.popleft()[1])
        if self._waiting:
            self._is_timed = True
            self._loop.call_at(self._waiting[0][0], self._pass_on)


class _Passed(asyncio.Protocol):
    """What comes from the store, passed on at once, and no faster than it is taken."""

    def __init__(self, to: asyncio.Transport) -> None:
        self._to = to

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._from = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._to.write(data)
        if self._to.get_write_buffer_size() > 1 << 20:
            self._from.pause_reading()
            asyncio.get_running_loop().call_later(0.001, self._look_again)

    def _look_again(self) -> None:
        if self._to.is_closing() or self._to.get_write_buffer_size() <= 1 << 18:
            self._from.resume_reading()
        else:
            asyncio.get_running_loop().call_later(0.001, self._look_again)

    def connection_lost(self, error: Exception | None) -> None:
        self._to.close()


async def _serve(host: str, port: int, delay_s: float) -> None:
    server = await asyncio.get_running_loop().create_server(lambda: _Held(host, port, delay_s), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]) / 1e3))
