"""Request in, answer out: what an endpoint is given, and what becomes of everything that it or its caller may do."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Mapping
from dataclasses import replace

import pytest

import lakehouse.errors as errors
from lakeflight.wire.errors import MalformedRequestError
from lakehouse.model import Caller
from server.access import Origin
from server.ingestion.exchange import Answer, Request
from server.ingestion.limits import BodyLimits
from tests.support.ingestion import Connection, running_endpoint


async def test_an_endpoint_gets_the_whole_request_and_says_the_whole_answer() -> None:
    asked: list[Request] = []

    async def endpoint(request: Request) -> Answer:
        asked.append(request)
        return Answer(201, {"content-type": "application/json"}, b"{}")

    async with running_endpoint(endpoint) as server:
        answer = await server.post("/echo?x=1", b"hello", {"Content-Type": "text/plain", "X-Two": "a"})

    assert (answer.status, answer.body) == (201, b"{}")
    assert (answer.headers["content-type"], answer.headers["content-length"]) == ("application/json", "2")
    (request,) = asked
    assert (request.method, request.path, request.body, request.caller) == ("POST", "/echo", b"hello", Caller())
    assert (request.headers["content-type"], request.headers["x-two"]) == ("text/plain", "a")


async def test_the_caller_is_awaited_and_known_before_the_body_is_read() -> None:
    async def by_token(headers: Mapping[str, str], origin: Origin) -> Caller:
        await asyncio.sleep(0)
        match headers.get("authorization"):
            case "Bearer ann":
                return Caller("ann")
            case "Bearer bob":
                raise errors.PermissionDeniedError("bob may not send")
            case "Bearer late":
                await asyncio.sleep(60)
        raise errors.UnauthenticatedError("no credential that is known")

    async def endpoint(request: Request) -> Answer:
        return Answer(200, {}, request.caller.name.encode())

    async with running_endpoint(endpoint, by_token, BodyLimits(caller_timeout_s=0.2)) as server:
        assert (await server.post("/echo", b"", {"authorization": "Bearer ann"})).body == b"ann"

        for token, status in (("eve", 401), ("bob", 403), ("late", 503)):
            connection = await Connection.open(server.port)
            head = f"POST /echo HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {token}\r\ncontent-length: 99\r\n\r\n"
            await connection.send(head.encode())  # its body never comes
            answer = await connection.answer()
            assert answer.status == status, token
            assert ("www-authenticate" in answer.headers) == (status == 401)
            assert ("retry-after" in answer.headers) == (status == 503)
            assert await connection.is_closed()
            await connection.close()


TROUBLE: dict[str, tuple[Exception, int]] = {
    "not a request": (MalformedRequestError("x is missing"), 400),
    "nobody known": (errors.UnauthenticatedError("no credential"), 401),
    "not allowed": (errors.PermissionDeniedError("not yours"), 403),
    "backend": (errors.BackendUnavailableError("the database is not available"), 503),
    "limit": (errors.LimitExceededError("too much"), 503),
    "ours": (errors.InternalError("secret"), 503),
    "disk": (OSError(errno.EIO, "secret"), 503),
    "memory": (MemoryError("secret"), 503),
    "no thread": (RuntimeError("can't start new thread"), 503),
    "time": (TimeoutError(), 503),
    "bug": (KeyError("secret"), 503),
}


@pytest.mark.parametrize("kind", TROUBLE)
async def test_trouble_is_503_and_only_what_never_works_is_refused(kind: str) -> None:
    error, status = TROUBLE[kind]

    async def endpoint(request: Request) -> Answer:
        raise error

    async with running_endpoint(endpoint) as server:
        connection = await Connection.open(server.port)
        answer = await connection.post("/echo", b"x")
        again = await connection.post("/echo", b"x")  # the connection goes on
        await connection.close()

    assert (answer.status, again.status) == (status, status)
    assert (answer.headers.get("retry-after") == "1") == (status == 503)
    assert b"secret" not in answer.body


@pytest.mark.parametrize(
    "kind", [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
)
async def test_no_error_of_the_lake_is_told_as_the_senders_but_those_of_access(kind: type[Exception]) -> None:
    async def endpoint(request: Request) -> Answer:
        raise kind("a reason")

    async with running_endpoint(endpoint) as server:
        answer = await server.post("/echo", b"x")

    is_refusal = issubclass(kind, (errors.UnauthenticatedError, errors.PermissionDeniedError))
    assert (answer.status in (401, 403)) == is_refusal
    assert is_refusal or answer.status == 503


async def test_an_endpoint_that_hangs_is_answered_for() -> None:
    async def endpoint(request: Request) -> Answer:
        await asyncio.sleep(60)
        return Answer()

    async with running_endpoint(endpoint, limits=replace(BodyLimits(), answer_timeout_s=0.1)) as server:
        answer = await server.post("/echo", b"x")

    assert (answer.status, answer.headers["retry-after"]) == (503, "1")


async def test_a_request_that_the_servers_end_breaks_off_hears_503() -> None:
    begun = asyncio.Event()

    async def endpoint(request: Request) -> Answer:
        begun.set()
        await asyncio.sleep(60)
        return Answer()

    async with running_endpoint(endpoint) as server:
        connection = await Connection.open(server.port)
        asking = asyncio.create_task(connection.post("/echo", b"x"))
        await begun.wait()

    answer = await asking
    await connection.close()
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
