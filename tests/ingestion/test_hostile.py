"""Bodies and connections from somebody who means harm, or is only broken. Each ends in a 4xx or 503, never in a 5xx of
ours, and the next sender is served."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from server.ingestion import protocol
from server.ingestion.limits import BodyLimits
from tests.support.ingestion import (
    Connection,
    RunningIngestion,
    block_request,
    body_of,
    process_request,
    running_ingestion,
    stream_request,
)

BLOCK = "/ingestion/insert_block"
SMALL = BodyLimits(
    body_bytes_max=10_000, body_timeout_s=1.0, rate_bytes_per_s_min=10_000, rate_grace_s=0.3, bodies_bytes_max=25_000
)


@pytest_asyncio.fixture
async def small_server(database_url: str, tmp_path: Path) -> AsyncIterator[RunningIngestion]:
    async with running_ingestion(database_url, tmp_path, SMALL) as running:
        yield running


def bodies() -> dict[str, bytes]:
    process = process_request()
    stream = stream_request(process.process_id)
    return {
        "/ingestion/insert_process": body_of(process),
        "/ingestion/insert_stream": body_of(stream),
        BLOCK: body_of(block_request(process.process_id, stream.stream_id)),
    }


async def test_every_strict_prefix_is_refused_with_a_sentence(server: RunningIngestion) -> None:
    connection = await Connection.open(server.port)
    for path, body in bodies().items():
        for length in range(len(body)):
            answer = await connection.post(path, body[:length])
            assert answer.status == 400, (path, length)
            assert answer.headers["content-type"].startswith("text/plain")
            assert answer.body.endswith(b"\n") and answer.body.count(b"\n") == 1
        assert (await connection.post(path, body)).status == 200
    await connection.close()


async def test_corruptions_are_refused_or_stored_and_never_fail(server: RunningIngestion) -> None:
    chance = random.Random(20260301)
    connection = await Connection.open(server.port)
    seen = set()
    for path, body in bodies().items():
        for _ in range(250):
            broken = bytearray(body)
            for _ in range(chance.randint(1, 4)):
                broken[chance.randrange(len(broken))] = chance.randrange(256)
            answer = await connection.post(path, bytes(broken))
            assert answer.status in (200, 400), (path, bytes(broken).hex(), answer)
            seen.add(answer.status)
    assert seen == {200, 400}
    await connection.close()


@pytest.mark.parametrize(
    "field", [{"block_id": "../../etc/passwd"}, {"stream_id": "%2e%2e"}, {"process_id": "x\0"}, {"block_id": ""}]
)
async def test_ids_that_are_no_ids_never_reach_the_store(server: RunningIngestion, field: dict[str, str]) -> None:
    answer = await server.post(BLOCK, body_of(block_request(**field)))

    assert answer.status == 400
    assert not (server.store_folder / "blobs").exists()


async def test_other_paths_and_methods(server: RunningIngestion) -> None:
    connection = await Connection.open(server.port)

    assert (await connection.request("GET", "/")).status == 404
    assert (await connection.post("//ingestion/insert_block", b"")).status == 404
    answer = await connection.request("PUT", BLOCK, b"x")
    assert (answer.status, answer.headers["allow"]) == (405, "POST")
    assert (await connection.post("/health", b"")).status == 405
    assert (await connection.request("GET", "/health")).status == 200
    assert (await connection.request("HEAD", "/ready")).status == 200
    assert (await connection.post(BLOCK, b"")).status == 400
    await connection.close()


async def test_a_large_body_is_refused_by_its_length_before_it_is_sent(server: RunningIngestion) -> None:
    for length in ((100 << 20) + 1, 10**14):
        connection = await Connection.open(server.port)
        await connection.send(f"POST {BLOCK} HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n".encode())

        assert (await connection.answer()).status == 413
        assert await connection.is_closed()
        await connection.close()


async def test_a_large_body_without_a_length_is_refused_on_the_way(small_server: RunningIngestion) -> None:
    connection = await Connection.open(small_server.port)
    await connection.send(f"POST {BLOCK} HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n".encode())

    for _ in range(6):
        await connection.send(b"7d0\r\n" + bytes(2000) + b"\r\n")

    assert (await connection.answer()).status == 413
    await connection.close()


@pytest.mark.parametrize(
    "headers",
    [
        "content-length: 5\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked\r\ncontent-length: 5",
        "content-length: 5\r\ncontent-length: 6",
        "content-length: -1",
        "content-length: +5",
        "content-length: 0x5",
    ],
)
async def test_a_body_with_two_ends_is_refused(server: RunningIngestion, headers: str) -> None:
    connection = await Connection.open(server.port)
    await connection.send(f"POST {BLOCK} HTTP/1.1\r\nhost: a\r\n{headers}\r\n\r\n0\r\n\r\n".encode())

    assert (await connection.answer()).status == 400
    assert await connection.is_closed()
    await connection.close()


async def test_a_body_that_trickles_is_given_up(small_server: RunningIngestion) -> None:
    connection = await Connection.open(small_server.port)
    begin = asyncio.get_running_loop().time()
    await connection.send(f"POST {BLOCK} HTTP/1.1\r\nhost: a\r\ncontent-length: 9000\r\n\r\nx".encode())

    answer = await connection.answer()

    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert asyncio.get_running_loop().time() - begin < 0.9
    assert await connection.is_closed()
    await connection.close()


async def test_a_body_has_a_deadline_however_steadily_it_comes(database_url: str, tmp_path: Path) -> None:
    limits = BodyLimits(body_timeout_s=0.5, rate_bytes_per_s_min=1, rate_grace_s=0.3)
    async with running_ingestion(database_url, tmp_path, limits) as server:
        connection = await Connection.open(server.port)
        await connection.send(f"POST {BLOCK} HTTP/1.1\r\nhost: a\r\ncontent-length: 90000\r\n\r\n".encode())

        async def trickle() -> None:
            while True:
                await connection.send(b"x" * 100)
                await asyncio.sleep(0.02)

        sending = asyncio.create_task(trickle())
        answer = await asyncio.wait_for(connection.answer(), 5)
        sending.cancel()
        assert answer.status == 503
        await connection.close()


async def test_bodies_beyond_the_memory_get_503_and_the_memory_comes_back(small_server: RunningIngestion) -> None:
    held = [await Connection.open(small_server.port) for _ in range(3)]
    for connection in held:
        await connection.send(
            f"POST {BLOCK} HTTP/1.1\r\nhost: a\r\ncontent-length: 9500\r\n\r\n".encode() + bytes(9000)
        )

    answers = await asyncio.gather(*(connection.answer() for connection in held))

    assert [answer.status for answer in answers] == [503, 503, 503]  # one for memory, two for slowness
    assert {answer.body for answer in answers} == {
        b"too many bytes are on their way in\n",
        b"the body came too slowly\n",
    }
    assert (await small_server.post(BLOCK, body_of(block_request()))).status == 200
    for connection in held:
        await connection.close()


async def test_a_sender_that_goes_away_leaves_everybody_else_alone(server: RunningIngestion) -> None:
    for cut in (10, 200):
        connection = await Connection.open(server.port)
        body = body_of(block_request())
        await connection.send(
            f"POST {BLOCK} HTTP/1.1\r\nhost: a\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body[:cut]
        )
        connection.writer.transport.abort()
    for _ in range(20):  # gone before the answer
        connection = await Connection.open(server.port)
        body = body_of(block_request())
        await connection.send(
            f"POST {BLOCK} HTTP/1.1\r\nhost: a\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body
        )
        connection.writer.transport.abort()

    assert (await server.post(BLOCK, body_of(block_request()))).status == 200


async def test_heads_that_never_end_are_cut(server: RunningIngestion, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEAD_TIMEOUT_S", 0.2)
    slow = await Connection.open(server.port)
    await slow.send(b"POST /ingestion/ins")
    assert await asyncio.wait_for(slow.is_closed(), 5)

    large = await Connection.open(server.port)
    await large.send(b"GET /health HTTP/1.1\r\n")
    await large.send(b"x: " + b"y" * 200_000)
    assert await asyncio.wait_for(large.is_closed(), 5)

    idle = await Connection.open(server.port)
    assert (await idle.request("GET", "/health")).status == 200
    await asyncio.sleep(0.3)  # between two requests a connection may rest
    assert (await idle.request("GET", "/health")).status == 200
    for connection in (slow, large, idle):
        await connection.close()


async def test_trailers_and_chunk_frames_are_bounded(server: RunningIngestion) -> None:
    connection = await Connection.open(server.port)
    await connection.send(
        f"POST {BLOCK} HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n".encode()
    )

    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        for _ in range(400):
            await connection.send(b"t: " + b"y" * 2000 + b"\r\n")
        await connection.answer()
    await connection.close()
