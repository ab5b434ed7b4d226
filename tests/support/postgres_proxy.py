"""Stands between a program and Postgres and breaks one connection at one moment: before a statement arrives, or after it
has been done and before its answer is heard. Which statement is told by what is in its values, or by its number."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import parse_qs, unquote, urlsplit

Moment = Literal["before", "after"]
_READY = (
    b"Z\x00\x00\x00\x05"  # ReadyForQuery, and a letter: I is outside of any transaction, what came before is committed
)
_ENDS = b"QSHXp"  # Query, Sync, Flush, Terminate and a password: what came until then goes on at once


@dataclass
class PostgresProxy:
    """One listening address. Armed, it waits for the statement whose values have ``mark`` in them."""

    url: str
    upstream: str
    broken: int = 0
    is_away: bool = False  # new connections are refused
    calls_left: int = 0  # until the one that is broken off; 0: none is
    _mark: bytes = b""
    _moment: Moment = "before"
    _then_away: bool = False
    _links: set[asyncio.Task[None]] = field(default_factory=set)

    def arm(self, mark: bytes, moment: Moment, *, then_away: bool = False) -> None:
        self._mark, self._moment, self._then_away = mark, moment, then_away

    def arm_call(self, number: int, moment: Moment) -> None:
        """Break the connection at the call of this number from now on, whatever it says; 0 disarms."""
        self.calls_left, self._moment = number, moment

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._links.add(task)
        try:
            if not self.is_away:
                await self._link(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # this is the outermost frame of the task, and asyncio would print that it was cancelled
        finally:
            self._links.discard(task)
            writer.close()

    async def _link(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await _connect(self.upstream)
        answers = asyncio.create_task(_copy(server_reader, writer))
        try:
            server_writer.write(await _startup(reader))
            while call := await _call(reader):
                if self._is_due(call):
                    self.broken += 1
                    if self._moment == "after":
                        answers.cancel()
                        await asyncio.gather(answers, return_exceptions=True)
                        server_writer.write(call)
                        await _until_ready(server_reader)
                    writer.transport.abort()
                    return
                server_writer.write(call)
                await server_writer.drain()
        finally:
            answers.cancel()
            await asyncio.gather(answers, return_exceptions=True)
            server_writer.close()

    def _is_due(self, call: bytes) -> bool:
        if self._mark and self._mark in call:
            self._mark = b""
            self.is_away = self._then_away
            return True
        if not self.calls_left or not _is_answered(call):
            return False
        self.calls_left -= 1
        return not self.calls_left

    async def close(self) -> None:
        for link in list(self._links):
            link.cancel()
        await asyncio.gather(*self._links, return_exceptions=True)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    writer.close()


async def _startup(reader: asyncio.StreamReader) -> bytes:
    """What a client says first has no letter."""
    length = await reader.readexactly(4)
    return length + await reader.readexactly(int.from_bytes(length) - 4)


async def _call(reader: asyncio.StreamReader) -> bytes:
    """The messages up to the next that asks for an answer; nothing when the client has gone."""
    call = bytearray()
    while kind := await reader.read(1):
        length = await reader.readexactly(4)
        call += kind + length + await reader.readexactly(int.from_bytes(length) - 4)
        if kind in _ENDS:
            return bytes(call)
    return bytes(call)


def _is_answered(call: bytes) -> bool:
    """Sync is the last of its messages, and Query comes alone."""
    return call[0] in b"Q" or call[-5:] == b"S\x00\x00\x00\x04"


async def _until_ready(reader: asyncio.StreamReader) -> None:
    heard = b""
    while heard[-6:-1] != _READY:
        data = await asyncio.wait_for(reader.read(1 << 16), 30)
        assert data, "the server ended before it was ready"
        heard = (heard + data)[-64:]


async def _connect(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    parts = urlsplit(url)
    given = parse_qs(parts.query)
    host, port = given.get("host", [parts.hostname or "localhost"])[0], given.get("port", [parts.port or 5432])[0]
    if host.startswith("/"):
        return await asyncio.open_unix_connection(f"{unquote(host)}/.s.PGSQL.{port}")
    return await asyncio.open_connection(host, int(port))


@contextlib.asynccontextmanager
async def proxy_before(url: str) -> AsyncIterator[PostgresProxy]:
    """A proxy on a free port of loopback before the database at ``url``."""
    parts = urlsplit(url)
    user = parts.netloc.rpartition("@")[0]
    proxy = PostgresProxy("", url)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    proxy.url = f"postgresql://{user}@127.0.0.1:{port}{parts.path}?sslmode=disable"
    try:
        yield proxy
    finally:
        server.close()
        await proxy.close()
