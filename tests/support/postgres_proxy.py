"""Stands between a program and Postgres and breaks one connection at one moment: before a statement arrives, or after it
has been committed and before its answer is heard."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import parse_qs, unquote, urlsplit

Moment = Literal["before", "after"]
_IDLE = b"Z\x00\x00\x00\x05I"  # ReadyForQuery outside of any transaction: what came before it is committed


@dataclass
class PostgresProxy:
    """One listening address. Armed, it waits for the statement whose values have ``mark`` in them."""

    url: str
    upstream: str
    broken: int = 0
    is_away: bool = False  # new connections are refused
    _mark: bytes = b""
    _moment: Moment = "before"
    _then_away: bool = False
    _links: set[asyncio.Task[None]] = field(default_factory=set)

    def arm(self, mark: bytes, moment: Moment, *, then_away: bool = False) -> None:
        self._mark, self._moment, self._then_away = mark, moment, then_away

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._links.add(task)
        try:
            if not self.is_away:
                await self._link(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self._links.discard(task)
            writer.close()

    async def _link(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await _connect(self.upstream)
        answers = asyncio.create_task(_copy(server_reader, writer))
        try:
            while data := await reader.read(1 << 16):
                if self._mark and self._mark in data:
                    self._mark = b""
                    self.is_away = self._then_away
                    self.broken += 1
                    if self._moment == "after":
                        answers.cancel()
                        await asyncio.gather(answers, return_exceptions=True)
                        server_writer.write(data)
                        await _until_committed(server_reader)
                    writer.transport.abort()
                    return
                server_writer.write(data)
                await server_writer.drain()
        finally:
            answers.cancel()
            await asyncio.gather(answers, return_exceptions=True)
            server_writer.close()

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


async def _until_committed(reader: asyncio.StreamReader) -> None:
    heard = b""
    while not heard.endswith(_IDLE):
        data = await asyncio.wait_for(reader.read(1 << 16), 30)
        assert data, "the server ended before it had committed"
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
