"""What is decoded counts: as much as it grows to, and for as long as a thread works on it, whoever still waits."""

from __future__ import annotations

import asyncio
import gzip
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import grpc
import grpc.aio
import pytest

from lakeflight.wire.otlp.resources import LOGS, Signal
from lakehouse.model import Caller
from server.ingestion import native, otlp
from server.ingestion.app import application
from server.ingestion.decode_threads import DecodeThreads
from server.ingestion.deliveries import UNPACKED_BYTES_MAX, delivery_routes
from server.ingestion.exchange import Answer, Request, Route
from server.ingestion.limits import BodyLimits, ByteBudget, RequestRefusedError, Share
from server.ingestion.native import NativeIngestion
from server.ingestion.otlp import DECODED_BYTES_MAX, JSON_BYTES_MAX, LARGE_BYTES, OtlpIngestion
from server.ingestion.otlp_grpc import REQUESTS_BYTES_MAX, OtlpGrpcServer
from tests.support.deliveries import LOGS_FIREHOSE, envelope, subscription

PROTOBUF = {"content-type": "application/x-protobuf", "content-encoding": "gzip"}
LATE_S = 30.0  # nothing here takes so long


class Gate:
    """Work that a thread cannot end before it is told to."""

    def __init__(self) -> None:
        self._begun = threading.Event()
        self._open = threading.Event()
        self.number_begun = 0

    def __call__(self, *_: Any) -> Any:
        self.number_begun += 1
        self._begun.set()
        assert self._open.wait(LATE_S)
        raise ValueError("it was for nothing")

    async def begun(self) -> None:
        assert await asyncio.to_thread(self._begun.wait, LATE_S)

    def open(self) -> None:
        self._open.set()


@pytest.fixture
def gate() -> Iterator[Gate]:
    made = Gate()
    yield made
    made.open()


async def until_there_is_room(budget: ByteBudget, count: int) -> None:
    async with asyncio.timeout(LATE_S):
        while not has_room(budget, count):  # noqa: ASYNC110  # nobody tells
            await asyncio.sleep(0.01)


def has_room(budget: ByteBudget, count: int) -> bool:
    if budget.take("", count) is not None:
        return False
    budget.give_back("", count)
    return True


async def cancelled(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def logs(size_bytes: int, filling: Callable[[int], bytes] = bytes) -> bytes:
    """A request of about this size; a single record may not be as large as a request."""
    request = LOGS.request()
    records = request.resource_logs.add().scope_logs.add().log_records
    for begin in range(0, size_bytes, 1 << 20):
        records.add(time_unix_nano=1).body.bytes_value = filling(min(1 << 20, size_bytes - begin))
    encoded: bytes = request.SerializeToString()
    return encoded


class Blocks:
    """Stores nothing before it may."""

    def __init__(self) -> None:
        self.may_store = asyncio.Event()
        self.waiting = 0

    async def put(self, block: Any) -> None:
        self.waiting += 1
        await self.may_store.wait()

    async def until_waiting(self, number: int) -> None:
        async with asyncio.timeout(LATE_S):
            while self.waiting < number:  # noqa: ASYNC110
                await asyncio.sleep(0.01)


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    async def insert(*_: Any, **__: Any) -> None:
        pass

    for name in ("insert_process", "insert_stream"):
        monkeypatch.setattr(otlp, name, insert)


# --- what a thread works on


async def test_work_that_nobody_waits_for_keeps_its_bytes_and_its_turn(gate: Gate) -> None:
    threads, budget = DecodeThreads("test"), ByteBudget(100)

    async def decode() -> None:
        with Share(budget, "") as share:
            share.take(40)
            await threads.run(gate, share, more_bytes=20, is_large=True)

    first = asyncio.create_task(decode())
    await gate.begun()
    await cancelled(first)

    with Share(budget, "") as share:
        second = asyncio.create_task(threads.run(lambda: "done", share, is_large=True))
        assert await threads.run(lambda: "small", share) == "small"
        assert not second.done()
        assert (has_room(budget, 40), has_room(budget, 41)) == (True, False)
        gate.open()
        assert await second == "done"
    await until_there_is_room(budget, 100)
    threads.close()


async def test_whoever_goes_away_before_its_turn_gives_everything_back(gate: Gate) -> None:
    threads, budget = DecodeThreads("test"), ByteBudget(1_000)

    async def decode() -> None:
        with Share(budget, "") as share:
            share.take(10)
            await threads.run(gate, share, more_bytes=100, is_large=True)

    tasks = [asyncio.create_task(decode()) for _ in range(40)]
    await gate.begun()
    assert has_room(budget, 1_000 - 40 * 10 - 100)
    for task in tasks:
        await cancelled(task)

    assert (has_room(budget, 890), has_room(budget, 891)) == (True, False)
    gate.open()
    await until_there_is_room(budget, 1_000)
    assert gate.number_begun == 1
    threads.close()


async def test_a_share_that_cannot_grow_is_503_and_costs_no_turn() -> None:
    threads, budget = DecodeThreads("test"), ByteBudget(100)
    with Share(budget, "") as share:
        for _ in range(3):
            with pytest.raises(RequestRefusedError) as refused:
                await threads.run(lambda: None, share, more_bytes=101, is_large=True)
            assert refused.value.status == 503
        assert await threads.run(lambda: 1, share, is_large=True) == 1
    threads.close()


async def test_an_otlp_call_that_is_cancelled_keeps_its_bytes_while_its_body_is_decoded(gate: Gate) -> None:
    ingestion, budget = OtlpIngestion(None, Blocks()), ByteBudget(1 << 20)  # type: ignore[arg-type]
    body = logs(100_000)

    async def store() -> None:
        with Share(budget, "") as share:
            share.take(len(body))
            await ingestion.store(replace(LOGS, look=gate), body, share)

    storing = asyncio.create_task(store())
    await gate.begun()
    await cancelled(storing)

    assert not has_room(budget, 1 << 20)
    gate.open()
    await until_there_is_room(budget, 1 << 20)
    ingestion.close()


async def test_grpc_counts_the_bodies_of_callers_that_are_gone(gate: Gate) -> None:
    """They are decoded one after the other: what waits for its turn is forgotten, what has it is counted."""

    class Slow(OtlpIngestion):
        async def store(self, signal: Signal, body: bytes, share: Share, **options: Any) -> None:
            await super().store(replace(signal, look=gate) if len(body) > 1_000 else signal, body, share, **options)

    ingestion = Slow(None, Blocks())  # type: ignore[arg-type]
    server = OtlpGrpcServer(ingestion, "127.0.0.1:0")
    await server.start()
    body = logs(19 << 20)
    number = REQUESTS_BYTES_MAX // len(body)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        export = channel.unary_unary("/opentelemetry.proto.collector.logs.v1.LogsService/Export")
        first = asyncio.ensure_future(_answer(export(body)))
        await gate.begun()
        await cancelled(first)
        others = [asyncio.ensure_future(_answer(export(body))) for _ in range(number)]
        done, _ = await asyncio.wait(others, timeout=LATE_S, return_when=asyncio.FIRST_COMPLETED)
        refused = [call.exception() for call in done]
        for other in others:
            other.cancel()
        await asyncio.wait(others)
    gate.open()
    await server.stop(0)
    ingestion.close()

    assert len(refused) == 1
    assert isinstance(refused[0], grpc.aio.AioRpcError)
    assert (refused[0].code(), refused[0].details()) == (
        grpc.StatusCode.UNAVAILABLE,
        "too many bytes are on their way in",
    )


async def _answer(call: Any) -> Any:
    return await call


async def test_a_native_request_that_took_too_long_keeps_its_bytes_while_it_is_decoded(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "decode_block", gate)
    ingestion = NativeIngestion(None, Blocks())  # type: ignore[arg-type]
    body = bytes(native.DECODE_INLINE_BYTES_MAX + 1)
    limits = BodyLimits(answer_timeout_s=0.2, bodies_bytes_max=len(body), bodies_bytes_per_peer_max=len(body))
    app = application({"/block": Route("POST", ingestion.insert_block)}, limits)

    async def ask() -> tuple[int, bytes]:
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": "/block", "headers": [], "client": ("peer", 1)}
        await app(scope, receive, send)
        return sent[0]["status"], sent[1]["body"]

    assert await ask() == (503, b"the request took too long\n")
    status, sentence = await ask()
    assert (status, b"too many bytes are on their way in" in sentence) == (503, True)
    gate.open()
    ingestion.close()


# --- what a body grows to


def endpoint_of(ingestion: OtlpIngestion, budget: ByteBudget) -> Any:
    async def export(body: bytes, headers: dict[str, str] = PROTOBUF) -> Answer:
        with Share(budget, "") as share:
            share.take(len(body))
            request = Request("POST", "/v1/logs", headers, body, Caller(), share)
            route = ingestion.routes()["/v1/logs"]
            assert route.refuse is not None
            try:
                return await route.endpoint(request)
            except RequestRefusedError as error:
                return route.refuse(headers, error)

    return export


@pytest.mark.usefixtures("registered")
async def test_a_body_counts_as_much_as_it_becomes_until_it_is_stored() -> None:
    blocks = Blocks()
    ingestion, budget = OtlpIngestion(None, blocks), ByteBudget(DECODED_BYTES_MAX + (8 << 20))  # type: ignore[arg-type]
    export = endpoint_of(ingestion, budget)
    body = gzip.compress(logs(15 << 20))
    assert len(body) < 32 << 10

    first = asyncio.create_task(export(body))
    await blocks.until_waiting(1)
    assert (has_room(budget, 12 << 20), has_room(budget, 14 << 20)) == (True, False)
    refused = await export(body)
    small = asyncio.create_task(export(gzip.compress(logs(100))))
    await blocks.until_waiting(2)
    blocks.may_store.set()

    assert (refused.status, int(refused.headers["retry-after"]) > 0) == (503, True)
    assert ((await first).status, (await small).status) == (200, 200)
    assert (await export(body)).status == 200
    assert has_room(budget, DECODED_BYTES_MAX + (8 << 20))
    ingestion.close()


@pytest.mark.usefixtures("registered")
async def test_a_delivery_counts_as_all_that_is_in_it_until_it_is_stored() -> None:
    blocks = Blocks()
    limit = UNPACKED_BYTES_MAX + (1 << 20)
    ingestion, budget = OtlpIngestion(None, blocks), ByteBudget(limit)  # type: ignore[arg-type]
    endpoint = delivery_routes(ingestion)[LOGS_FIREHOSE].endpoint
    body = envelope([subscription("x" * 7_000_000, logStream=str(number)) for number in range(3)])
    assert len(body) < 64 << 10

    async def deliver() -> Answer:
        with Share(budget, "") as share:
            share.take(len(body))
            return await endpoint(Request("POST", LOGS_FIREHOSE, {}, body, Caller(), share))

    first = asyncio.create_task(deliver())
    await blocks.until_waiting(3)
    assert not has_room(budget, limit - 6 * 7_000_000)  # three documents, and three blocks of them
    assert (await deliver()).status == 503
    blocks.may_store.set()

    assert (await first).status == 200
    assert (await deliver()).status == 200
    assert has_room(budget, limit)
    ingestion.close()


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize("size", [100, 40_000, LARGE_BYTES - 1_000, LARGE_BYTES + 1_000, DECODED_BYTES_MAX - 20_000])
@pytest.mark.parametrize("filling", [bytes, os.urandom], ids=["grows", "does not"])
async def test_bodies_of_every_size_are_stored_and_leave_nothing_behind(size: int, filling: Any) -> None:
    blocks = Blocks()
    blocks.may_store.set()
    ingestion, budget = OtlpIngestion(None, blocks), ByteBudget(64 << 20)  # type: ignore[arg-type]
    body = gzip.compress(logs(size, filling), 1)

    assert (await endpoint_of(ingestion, budget)(body)).status == 200

    assert blocks.waiting == 1
    assert has_room(budget, 64 << 20)
    ingestion.close()


@pytest.mark.parametrize("compressed", [False, True])
async def test_json_is_bounded_lower_for_it_is_read_at_once(compressed: bool) -> None:
    ingestion, budget = OtlpIngestion(None, Blocks()), ByteBudget(64 << 20)  # type: ignore[arg-type]
    headers = {"content-type": "application/json"} | ({"content-encoding": "gzip"} if compressed else {})
    for size, status in ((JSON_BYTES_MAX, 200), (JSON_BYTES_MAX + 1, 413)):
        body = b"{}".ljust(size)
        answer = await endpoint_of(ingestion, budget)(gzip.compress(body) if compressed else body, headers)
        assert answer.status == status
    ingestion.close()
