"""The three native requests: a CBOR body in, rows and payloads durable when they are answered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

import asyncpg
import structlog

from lakeflight.wire.envelope import decode_block, decode_process, decode_stream
from lakehouse.catalog.telemetry import insert_process, insert_stream
from server.ingestion.decode_threads import DecodeThreads
from server.ingestion.exchange import Answer, Request
from server.ingestion.group_commit import GroupCommit

log = structlog.get_logger(__name__)

DECODE_INLINE_BYTES_MAX: Final = 256 << 10  # above, decoding would hold up every other request
RESERVED_PREFIX: Final = "micromegas."  # of property keys that only servers may set

STORED: Final = Answer()

T = TypeVar("T")


class NativeIngestion:
    """Decodes and stores. Raises ``MalformedRequestError`` and ``BackendUnavailableError``."""

    def __init__(self, pool: asyncpg.Pool, blocks: GroupCommit) -> None:
        self._pool = pool
        self._blocks = blocks
        self._threads = DecodeThreads("decode")

    async def insert_process(self, request: Request) -> Answer:
        process = await self._decode(decode_process, request)
        _drop_reserved(process.properties, process_id=process.process_id)
        await insert_process(self._pool, process)
        return STORED

    async def insert_stream(self, request: Request) -> Answer:
        stream = await self._decode(decode_stream, request)
        _drop_reserved(stream.properties, stream_id=stream.stream_id)
        await insert_stream(self._pool, stream)
        return STORED

    async def insert_block(self, request: Request) -> Answer:
        await self._blocks.put(await self._decode(decode_block, request))
        return STORED

    async def _decode(self, decode: Callable[[bytes], T], request: Request) -> T:
        body = request.body
        if len(body) <= DECODE_INLINE_BYTES_MAX:
            return decode(body)
        return await self._threads.run(lambda: decode(body), request.share)

    def close(self) -> None:
        self._threads.close()


def _drop_reserved(properties: dict[str, str], **about: Any) -> None:
    reserved = [key for key in properties if key.startswith(RESERVED_PREFIX)]
    for key in reserved:
        del properties[key]
    if reserved:
        log.warning("ingestion.reserved_properties_dropped", keys=reserved[:10], **about)
