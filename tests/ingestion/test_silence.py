"""Silence has a deadline and locks nobody out; what comes too fast is bounded; each peer has its share before all have theirs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from server.ingestion import protocol
from server.ingestion.exchange import Answer, Request
from server.ingestion.limits import BodyLimits
from server.ingestion.protocol import Connections
from tests.support.ingestion import (
    Connection,
    RunningIngestion,
    block_request,
    body_of,
    running_endpoint,
    running_ingestion,
)

BLOCK = "/ingestion/insert_block"
UNFINISHED = f"POST {BLOCK} HTTP/1.1\r\nhost: a\r\ncontent-length: 900\r\n\r\n".encode()
PATIENT = BodyLimits(rate_grace_s=20.0)
OTHER_PEER = "127.0.0.2"


@pytest_asyncio.fixture
async def server(database_url: str, tmp_path: Path) -> AsyncIterator[RunningIngestion]:
    """Eight connections, of which one peer may have five."""
    async with running_ingestion(
        database_url, tmp_path, PATIENT, connections_max=8, connections_per_peer_max=5
    ) as running:
        yield running


async def open_all(
    server: RunningIngestion, count: int, peer: str = "127.0.0.1", data: bytes = b""
) -> list[Connection]:
    """Connections that have arrived at the server: another of the same peer was answered after them."""
    connections = [await Connection.open(server.port, peer) for _ in range(count)]
    for connection in connections:
        await connection.send(data)
    await asyncio.sleep(0.1)
    return connections


async def close_all(connections: list[Connection]) -> None:
    for connection in connections:
        await connection.close()


async def is_cut(connection: Connection) -> bool:
    return await asyncio.wait_for(connection.is_closed(), 10)


@pytest.mark.parametrize("data", [b"", b"POST /ingestion/ins"], ids=["silent", "slow"])
async def test_silent_connections_lock_nobody_out(database_url: str, tmp_path: Path, data: bytes) -> None:
    async with running_ingestion(database_url, tmp_path, connections_max=64) as server:
        silent = await open_all(server, 200, data=data)

        answers = [await server.post(BLOCK, body_of(block_request())) for _ in range(5)]

        assert [answer.status for answer in answers] == [200] * 5
        assert (await server.get("/health")).status == 200
        assert await is_cut(silent[0])  # the one that was quiet for longest
        await close_all(silent)


async def test_a_resting_connection_gives_way_before_one_at_work(server: RunningIngestion) -> None:
    (working,) = await open_all(server, 1, data=UNFINISHED)
    resting = await Connection.open(server.port)
    assert (await resting.request("GET", "/health")).status == 200
    others = await open_all(server, 4)

    assert await is_cut(resting)
    body = body_of(block_request())
    await working.send(b"x" * 900)
    assert (await working.answer()).status == 400  # it was heard to its end
    assert (await others[-1].post(BLOCK, body)).status == 200
    await close_all([working, resting, *others])


async def test_a_peer_reaches_its_own_limit_before_it_reaches_the_others(server: RunningIngestion) -> None:
    greedy = await open_all(server, 5, OTHER_PEER, UNFINISHED)
    sixth = await Connection.open(server.port, OTHER_PEER)

    refused = await sixth.post(BLOCK, body_of(block_request()))
    served = await server.post(BLOCK, body_of(block_request()))

    assert (refused.status, refused.headers["retry-after"], refused.body) == (
        503,
        "1",
        b"too many connections are open\n",
    )
    assert await is_cut(sixth)
    assert served.status == 200
    await close_all([*greedy, sixth])


async def test_health_answers_where_every_connection_is_at_work(server: RunningIngestion) -> None:
    working = [*await open_all(server, 4, data=UNFINISHED), *await open_all(server, 4, OTHER_PEER, UNFINISHED)]

    assert (await server.get("/health")).status == 200
    assert (await server.get("/ready")).status == 200
    assert (await server.post(BLOCK, body_of(block_request()))).status == 503

    await close_all(working)
    await asyncio.sleep(0.1)
    assert (await server.post(BLOCK, body_of(block_request()))).status == 200


class Working:
    is_busy = True
    quiet_since = 0.0

    def give_up(self) -> None:
        raise AssertionError("a connection at work was closed")


def test_beyond_what_may_hear_a_refusal_connections_are_cut() -> None:
    known = Connections(connections_max=2, per_peer_max=2)

    admissions = [known.admit(Working(), str(peer)) for peer in range(protocol.CONNECTIONS_OVER_LIMIT_MAX + 3)]

    assert admissions == ["served"] * 2 + ["told"] * protocol.CONNECTIONS_OVER_LIMIT_MAX + ["cut"]


async def test_bytes_that_begin_no_request_do_not_hold_a_connection(
    server: RunningIngestion, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "KEEP_ALIVE_S", 0.3)
    connection = await Connection.open(server.port)
    assert (await connection.request("GET", "/health")).status == 200

    async def trickle() -> None:
        while True:
            await connection.send(b"\r\n")
            await asyncio.sleep(0.05)

    trickling = asyncio.create_task(trickle())
    assert await is_cut(connection)
    trickling.cancel()
    await asyncio.gather(trickling, return_exceptions=True)
    await connection.close()


async def test_a_peer_that_reads_no_answer_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "UNREAD_ANSWER_TIMEOUT_S", 0.2)

    async def talk(request: Request) -> Answer:
        return Answer(200, {}, bytes(32 << 20))  # more than the kernel keeps for a peer

    async with running_endpoint(talk) as server:
        connection = await Connection.open(server.port)
        connection.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await connection.send(b"POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n")
        await asyncio.sleep(1)
        connection.writer.transport.resume_reading()  # type: ignore[attr-defined]

        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await connection.answer()
        await connection.close()


async def test_requests_ahead_of_their_answers_are_bounded(server: RunningIngestion) -> None:
    connection = await Connection.open(server.port)

    await connection.send(UNFINISHED + b"x" * 900 + b"GET /health HTTP/1.1\r\nhost: a\r\n\r\n" * 5000)

    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        for _ in range(protocol.PIPELINED_MAX + 2):
            assert (await connection.answer()).status in (200, 400)
    await connection.close()


async def test_headers_are_bounded_in_number(server: RunningIngestion) -> None:
    connection = await Connection.open(server.port)

    await connection.send(b"GET /health HTTP/1.1\r\n" + b"a:b\r\n" * 10_000 + b"\r\n")

    assert await is_cut(connection)
    await connection.close()


async def test_noise_after_a_request_is_not_taken_for_its_answer(server: RunningIngestion) -> None:
    """A 400 would make the sender drop a block that may have been stored."""
    connection = await Connection.open(server.port)
    body = body_of(block_request())
    head = f"POST {BLOCK} HTTP/1.1\r\nhost: a\r\ncontent-length: {len(body)}\r\n\r\n".encode()

    await connection.send(head + body + b"\x00\x01 noise\r\n\r\n")

    heard = await asyncio.wait_for(connection.reader.read(), 10)
    assert b" 400 " not in heard
    await connection.close()


async def test_a_peer_has_its_share_of_the_memory_for_bodies(database_url: str, tmp_path: Path) -> None:
    limits = BodyLimits(bodies_bytes_max=20_000, bodies_bytes_per_peer_max=10_000, rate_grace_s=20.0)
    head = f"POST {BLOCK} HTTP/1.1\r\nhost: a\r\ncontent-length: 9000\r\n\r\n".encode()
    async with running_ingestion(database_url, tmp_path, limits) as server:
        held = await open_all(server, 1, OTHER_PEER, head + bytes(8000))
        (second,) = await open_all(server, 1, OTHER_PEER, head + bytes(8000))

        answer = await second.answer()
        served = await server.post(BLOCK, body_of(block_request()) + bytes(8000))

        assert (answer.status, answer.body) == (503, b"too many bytes are on their way in from this address\n")
        assert served.status == 200
        await close_all([*held, second])
