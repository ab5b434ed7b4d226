"""The HTTP application: routes, answers, health. Plain ASGI, because every request is one body and one status.

Senders in the field decide on the status alone: exactly 200 is success, 4xx means drop, 5xx means send again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, Final

import asyncpg
import structlog

from lakehouse.catalog.connect import database_errors
from lakehouse.errors import LakeflightError
from lakehouse.storage import BlobStore
from server.ingestion.group_commit import GroupCommit
from server.ingestion.limits import RETRY_AFTER_S, Body, BodyLimits, ByteBudget, ClientGoneError, Receive
from server.ingestion.native import NativeIngestion
from server.ingestion.status import status_of

log = structlog.get_logger(__name__)

READY_TIMEOUT_S: Final = 2.0
READY_CACHE_S: Final = 1.0

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Endpoint = Callable[[bytes], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class IngestionServices:
    """What the application needs, made and closed by somebody else."""

    pool: asyncpg.Pool
    store: BlobStore
    blocks: GroupCommit
    native: NativeIngestion
    limits: BodyLimits


def create_app(services: IngestionServices) -> App:
    """The ASGI application over ``services``; it has no lifespan of its own."""
    return _Ingestion(services)


class _Ingestion:
    def __init__(self, services: IngestionServices) -> None:
        self._limits = services.limits
        self._budget = ByteBudget(services.limits.bodies_bytes_max)
        self._readiness = _Readiness(services)
        native = services.native
        self._endpoints: dict[str, Endpoint] = {
            "/ingestion/insert_process": native.insert_process,
            "/ingestion/insert_stream": native.insert_stream,
            "/ingestion/insert_block": native.insert_block,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise NotImplementedError(f"only HTTP is served, not {scope['type']}")
        endpoint = self._endpoints.get(scope["path"])
        if endpoint is None:
            await self._serve_other(scope, send)
        elif scope["method"] != "POST":
            await _answer(send, 405, "this path takes POST", (b"allow", b"POST"))
        else:
            await self._serve_endpoint(endpoint, scope, receive, send)

    async def _serve_endpoint(self, endpoint: Endpoint, scope: Scope, receive: Receive, send: Send) -> None:
        complete = False
        try:
            with Body(self._budget) as body:
                content = await body.read(scope["headers"], receive, self._limits)
                complete = True
                await endpoint(content)
        except ClientGoneError:
            return
        except Exception as error:
            status, reason = status_of(error)
            if status == 500:
                log.error("ingestion.failed", path=scope["path"], exc_info=error)
            more = [(b"retry-after", str(RETRY_AFTER_S).encode())] if status == 503 else []
            if not complete:
                more.append((b"connection", b"close"))  # the rest of the body is not worth reading
            await _answer(send, status, reason, *more)
        else:
            await send(_ACCEPTED)
            await send(_NO_BODY)

    async def _serve_other(self, scope: Scope, send: Send) -> None:
        path = scope["path"]
        if path not in ("/health", "/ready"):
            await _answer(send, 404, "no such path")
        elif scope["method"] not in ("GET", "HEAD"):
            await _answer(send, 405, "this path takes GET", (b"allow", b"GET, HEAD"))
        elif path == "/health" or await self._readiness.is_ready():
            await send(_ACCEPTED)
            await send(_NO_BODY)
        else:
            await _answer(send, 503, "a backend does not answer", (b"retry-after", str(RETRY_AFTER_S).encode()))


class _Readiness:
    """Whether both backends answer. One look at a time, and a good one counts for a second."""

    def __init__(self, services: IngestionServices) -> None:
        self._services = services
        self._good_until = 0.0
        self._looking = asyncio.Lock()

    async def is_ready(self) -> bool:
        loop = asyncio.get_running_loop()
        if loop.time() < self._good_until:
            return True
        async with self._looking:
            if loop.time() < self._good_until:
                return True
            try:
                async with asyncio.timeout(READY_TIMEOUT_S):
                    await asyncio.gather(self._ask_database(), self._services.store.probe())
            except (LakeflightError, TimeoutError) as error:
                log.warning("ingestion.not_ready", error=str(error) or "no answer in time")
                return False
            self._good_until = loop.time() + READY_CACHE_S
            return True

    async def _ask_database(self) -> None:
        with database_errors():
            async with self._services.pool.acquire(timeout=READY_TIMEOUT_S) as connection:
                await connection.execute("SELECT 1")


_ACCEPTED: Final[dict[str, Any]] = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-length", b"0")],
}
_NO_BODY: Final[dict[str, Any]] = {"type": "http.response.body", "body": b""}


async def _answer(send: Send, status: int, reason: str, *more: tuple[bytes, bytes]) -> None:
    body = f"{reason}\n".encode("utf-8", "replace")
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode()), *more]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
