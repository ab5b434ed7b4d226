"""The HTTP application: routes, who calls, bodies under limits, answers. Plain ASGI around endpoints that know none of it.

Senders in the field decide on the status alone: exactly 200 is success, 4xx means drop, 503 means send again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, Final

import asyncpg
import structlog

from lakehouse.catalog.connect import database_errors
from lakehouse.errors import LakeflightError
from lakehouse.storage import BlobStore
from server.access import ELSEWHERE, Authenticate, Origin, anonymous
from server.ingestion.deliveries import delivery_routes
from server.ingestion.exchange import Answer, Request, Route, text_answer
from server.ingestion.group_commit import GroupCommit
from server.ingestion.limits import (
    BodyLimits,
    ByteBudget,
    ClientGoneError,
    Headers,
    Receive,
    RequestRefusedError,
    Share,
    check_framing,
)
from server.ingestion.native import NativeIngestion
from server.ingestion.otlp import OtlpIngestion
from server.ingestion.protocol import CERTIFICATE, OVER_LIMIT
from server.ingestion.status import answer_to, is_foreseen

log = structlog.get_logger(__name__)

READY_TIMEOUT_S: Final = 2.0
READY_CACHE_S: Final = 1.0

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class IngestionServices:
    """What the application needs, made and closed by somebody else."""

    pool: asyncpg.Pool
    store: BlobStore
    blocks: GroupCommit
    native: NativeIngestion
    otlp: OtlpIngestion
    limits: BodyLimits


def create_app(services: IngestionServices, authenticate: Authenticate = anonymous) -> App:
    """The ASGI application over ``services``; it has no lifespan of its own."""
    health = _Health(services)
    native = services.native
    routes = {
        "/ingestion/insert_process": Route("POST", native.insert_process),
        "/ingestion/insert_stream": Route("POST", native.insert_stream),
        "/ingestion/insert_block": Route("POST", native.insert_block),
        "/health": Route("GET", health.is_alive),
        "/ready": Route("GET", health.is_ready),
        **services.otlp.routes(),
        **delivery_routes(services.otlp),
    }
    return application(routes, services.limits, authenticate)


def application(routes: Mapping[str, Route], limits: BodyLimits, authenticate: Authenticate = anonymous) -> App:
    """The ASGI application over endpoints, by their paths."""
    return _Application(routes, limits, authenticate)


class _Application:
    def __init__(self, routes: Mapping[str, Route], limits: BodyLimits, authenticate: Authenticate) -> None:
        self._routes = routes
        self._authenticate = authenticate
        self._limits = limits
        self._budget = ByteBudget(limits.bodies_bytes_max, limits.bodies_bytes_per_peer_max)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise NotImplementedError(f"only HTTP is served, not {scope['type']}")
        path, method = scope["path"], scope["method"]
        route = self._routes.get(path)
        if route is None:
            answer = text_answer(404, "no such path")
        elif method not in route.methods:
            answer = text_answer(405, f"this path takes {route.method}", {"allow": ", ".join(route.methods)})
        elif route.method == "GET":
            answer = await route.endpoint(Request(method, path, {}, b"", await anonymous({})))
        else:
            headers = _texts(scope["headers"])
            try:
                if scope.get(OVER_LIMIT):
                    answer = _refusal(route, headers, RequestRefusedError(503, "too many connections are open"))
                else:
                    answer = await self._serve(route, scope, headers, receive)
            except ClientGoneError:
                return
            except asyncio.CancelledError:  # the server is stopping and has waited for this one long enough
                await _send(send, _refusal(route, headers, RequestRefusedError(503, "the server is stopping")))
                raise
        await _send(send, answer)

    async def _serve(self, route: Route, scope: Scope, headers: Mapping[str, str], receive: Receive) -> Answer:
        """The endpoint's answer, or the one to whatever kept it from answering."""
        is_read = False
        try:
            check_framing(scope["headers"], self._limits)
            async with asyncio.timeout(self._limits.caller_timeout_s):
                caller = await self._authenticate(route.credentials(headers), _origin(scope))
            with Share(self._budget, _peer(scope)) as share:
                content = await share.read(receive, self._limits)
                is_read = True
                async with asyncio.timeout(self._limits.answer_timeout_s):
                    return await route.endpoint(
                        Request(scope["method"], scope["path"], headers, content, caller, share, scope["headers"])
                    )
        except ClientGoneError:
            raise
        except TimeoutError:
            log.error("ingestion.too_slow", path=scope["path"])
            refused: Exception = RequestRefusedError(503, "the request took too long")
        except Exception as error:
            if not is_foreseen(error):
                log.error("ingestion.failed", path=scope["path"], exc_info=error)
            refused = error
        return _refusal(route, headers, refused, closing=not is_read)  # the rest of the body is not worth reading


class _Health:
    """Whether the process runs, and whether both backends answer. One look at a time, and a good one counts for a second."""

    def __init__(self, services: IngestionServices) -> None:
        self._services = services
        self._good_until = 0.0
        self._looking = asyncio.Lock()

    async def is_alive(self, request: Request) -> Answer:
        return Answer()

    async def is_ready(self, request: Request) -> Answer:
        if await self._look():
            return Answer()
        return answer_to(RequestRefusedError(503, "a backend does not answer"))

    async def _look(self) -> bool:
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


def _texts(headers: Headers) -> dict[str, str]:
    texts: dict[str, str] = {}
    for name, value in headers:
        key, text = name.decode("latin-1"), value.decode("latin-1")
        texts[key] = f"{texts[key]}, {text}" if key in texts else text
    return texts


def _origin(scope: Scope) -> Origin:
    name = scope.get(CERTIFICATE)
    return ELSEWHERE if name is None else Origin(certificate=name)


def _peer(scope: Scope) -> str:
    client = scope.get("client")
    return client[0] if client else ""


def _refusal(route: Route, headers: Mapping[str, str], error: Exception, *, closing: bool = True) -> Answer:
    answer = answer_to(error) if route.refuse is None else route.refuse(headers, error)
    if not closing:
        return answer
    return Answer(answer.status, {**answer.headers, "connection": "close"}, answer.body)


async def _send(send: Send, answer: Answer) -> None:
    headers = [(name.encode(), value.encode()) for name, value in answer.headers.items()]
    headers.append((b"content-length", str(len(answer.body)).encode()))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})
