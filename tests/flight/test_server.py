"""The server around the RPCs: health, limits, stalled readers, draining, where it listens."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import grpc
import pytest
import structlog
from structlog.testing import capture_logs

from lakeflight.wire.flight_sql import SQL, encode_statement_ticket, pack
from lakehouse.errors import LimitExceededError
from lakehouse.model import Caller, QueryOptions
from server.flight import FlightLimits, FlightServer
from server.flight.streams import ReadyFrames
from server.query import Query, RunningStatements
from server.query import query as life_of_a_query
from server.query.statement import Statement
from tests.support.fake_query_service import FakeQueryService
from tests.support.flight_server import KEY, LoopThread, ServerInThread, descriptor, flight_server, ticket

BULK = ticket(encode_statement_ticket(b"frames 1000 1000000"))
TABLE_TYPES = ticket(pack(SQL["CommandGetTableTypes"]()))
SELECT_1 = ticket(encode_statement_ticket(b"SELECT 1"))


def health(server: ServerInThread, service: str = "") -> bytes:
    request = b"\x0a" + bytes([len(service)]) + service.encode() if service else b""
    reply: bytes = server.channel.unary_unary("/grpc.health.v1.Health/Check")(request, timeout=5)
    return reply


def wait_until(condition: Any, timeout_s: float = 5) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def test_health_says_whether_to_send_traffic(flight: ServerInThread) -> None:
    assert health(flight) == b"\x08\x01"
    assert health(flight, "arrow.flight.protocol.FlightService") == b"\x08\x01"
    with pytest.raises(grpc.RpcError) as caught:
        health(flight, "nothing")
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND

    flight.thread.loop.call_soon_threadsafe(flight.server.set_serving, False)
    wait_until(lambda: health(flight) == b"\x08\x02")


def test_health_can_be_watched(flight: ServerInThread) -> None:
    watch = flight.channel.unary_stream("/grpc.health.v1.Health/Watch")(b"", timeout=5)
    assert next(watch) == b"\x08\x01"

    flight.thread.loop.call_soon_threadsafe(flight.server.set_serving, False)

    assert next(watch) == b"\x08\x02"
    unknown = flight.channel.unary_stream("/grpc.health.v1.Health/Watch")(b"\x0a\x01x", timeout=5)
    assert next(unknown) == b"\x08\x03"
    unknown.cancel()
    watch.cancel()


def test_a_stalled_reader_is_cut_and_told(loop_thread: LoopThread, queries: FakeQueryService) -> None:
    with flight_server(loop_thread, queries, FlightLimits(stalled_reader_s=0.4)) as server:
        call = server.stream("DoGet", BULK, timeout=60)
        next(call)

        wait_until(lambda: queries.calls["aclose"] == 1)
        wait_until(lambda: server.server.running_statements == 0)
        assert list(server.stream("DoGet", SELECT_1)) != []
        with pytest.raises(grpc.RpcError) as caught:
            for _ in call:
                pass

    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "reader stalled" in caught.value.details()


def test_a_slow_engine_is_no_stalled_reader(loop_thread: LoopThread, queries: FakeQueryService) -> None:
    with flight_server(loop_thread, queries, FlightLimits(stalled_reader_s=0.2)) as server:
        call = server.stream("DoGet", ticket(encode_statement_ticket(b"stall")), timeout=60)
        time.sleep(0.6)

        assert server.server.running_statements == 1
        call.cancel()


def test_stalled_readers_do_not_hold_up_others(loop_thread: LoopThread, queries: FakeQueryService) -> None:
    with flight_server(loop_thread, queries) as server:
        stalled = [server.stream("DoGet", BULK, timeout=60) for _ in range(60)]
        for call in stalled:
            next(call)

        began = time.monotonic()
        assert len(list(server.stream("DoGet", SELECT_1))) == 2
        assert time.monotonic() - began < 5  # on a loaded machine; a stalled reader would hold it up for minutes

        for call in stalled:
            call.cancel()
        wait_until(lambda: server.server.running_statements == 0)


def test_an_identity_has_a_limit_of_statements_at_once(loop_thread: LoopThread, queries: FakeQueryService) -> None:
    with flight_server(loop_thread, queries, FlightLimits(statements_per_identity_max=3)) as server:
        reading = [server.stream("DoGet", BULK, timeout=60) for _ in range(3)]
        for call in reading:
            next(call)

        with pytest.raises(grpc.RpcError) as refused:
            list(server.stream("DoGet", SELECT_1))
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "runs 3 statements already" in refused.value.details()
        assert server.server.running_statements == 3  # the refused one is not counted
        assert [(sql, str(error)[:9]) for sql, error in queries.refused] == [("SELECT 1", "anonymous")]
        wait_until(lambda: len(queries.open_streams) == 3)  # and is closed

        assert len(list(server.stream("DoGet", TABLE_TYPES))) == 2  # an answer that is made already takes no place

        reading.pop().cancel()
        wait_until(lambda: server.server.running_statements == 2)
        for _ in range(4):  # those that end count no more
            assert len(list(server.stream("DoGet", SELECT_1))) == 2
        for call in reading:
            call.cancel()


def test_identities_do_not_use_up_each_others_limit() -> None:
    async def enter_and_leave() -> None:
        running = RunningStatements(
            per_identity_max=1,
            stall_limit_s=300,
            stall_limit_while_refused_s=30,
        )
        first = running.enter("1", Caller("ada"), b"SELECT 1", ReadyFrames([]))
        running.enter("2", Caller("bob"), b"SELECT 1", ReadyFrames([]))
        with pytest.raises(LimitExceededError, match="ada runs 1 statements already"):
            running.enter("3", Caller("ada"), b"SELECT 1", ReadyFrames([]))
        running.leave(first)
        running.enter("4", Caller("ada"), b"SELECT 1", ReadyFrames([]))

    asyncio.run(enter_and_leave())


async def test_readers_that_stopped_reading_lose_their_places_sooner_once_their_identity_is_refused() -> None:
    running = RunningStatements(
        per_identity_max=2,
        stall_limit_s=60,
        stall_limit_while_refused_s=0.2,
    )
    watch = asyncio.create_task(running.watch())
    loop = asyncio.get_running_loop()

    async def stop_reading(query_id: str, caller: Caller) -> None:
        statement = running.enter(query_id, caller, b"", ReadyFrames([]))
        statement.blocked_since = loop.time()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            assert isinstance(statement.cut, LimitExceededError)
        finally:
            running.leave(statement)

    stopped = [asyncio.create_task(stop_reading(str(i), Caller("ada"))) for i in range(2)]
    other = asyncio.create_task(stop_reading("other", Caller("bob")))
    await asyncio.sleep(0.5)
    assert len(running) == 3  # nobody asked for a place

    with pytest.raises(LimitExceededError):
        running.enter("refused", Caller("ada"), b"", ReadyFrames([]))
    await asyncio.wait_for(asyncio.gather(*stopped), 2)
    running.leave(running.enter("welcome", Caller("ada"), b"", ReadyFrames([])))
    assert not other.done()
    for task in (other, watch):
        task.cancel()


def test_a_refused_statement_leaves_the_log_line_of_every_statement(monkeypatch: pytest.MonkeyPatch) -> None:
    statement = Statement("SELECT 1", None, Caller("ada"), QueryOptions(query_id="7"))
    stream = Query(statement, None)  # type: ignore[arg-type]  # nothing that it could be made with is asked
    monkeypatch.setattr(life_of_a_query, "log", structlog.get_logger())  # one that no test has bound yet
    with capture_logs() as lines:
        stream.refuse(LimitExceededError("ada runs 64 statements already"))

    (line,) = lines
    assert (line["event"], line["query_id"], line["caller"], line["outcome"], line["sql"]) == (
        *("query.done", "7", "ada"),
        *("LimitExceededError", "SELECT 1"),
    )


async def test_a_refusal_is_forgotten_after_a_while() -> None:
    running = RunningStatements(
        per_identity_max=1,
        stall_limit_s=60,
        stall_limit_while_refused_s=0.1,
    )
    watch = asyncio.create_task(running.watch())
    statement = running.enter("1", Caller("ada"), b"", ReadyFrames([]))
    with pytest.raises(LimitExceededError):
        running.enter("2", Caller("ada"), b"", ReadyFrames([]))
    await asyncio.sleep(0.3)

    statement.blocked_since = asyncio.get_running_loop().time()
    await asyncio.sleep(0.3)

    assert statement.cut is None
    watch.cancel()


def test_messages_above_the_limit_are_refused(flight: ServerInThread) -> None:
    command = pack(SQL["CommandStatementQuery"](query="-" * (17 << 20)))

    with pytest.raises(grpc.RpcError) as caught:
        flight.unary("GetFlightInfo", descriptor(command))

    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_fat_tokens_are_taken_and_fatter_headers_refused(flight: ServerInThread) -> None:
    assert len(list(flight.stream("DoGet", SELECT_1, [("authorization", "Bearer " + "x" * 20_000)]))) == 2
    with pytest.raises(grpc.RpcError):
        list(flight.stream("DoGet", SELECT_1, [("authorization", "Bearer " + "x" * 200_000)]))


def test_more_calls_than_the_limit_are_refused_not_queued(loop_thread: LoopThread, queries: FakeQueryService) -> None:
    with flight_server(loop_thread, queries, FlightLimits(calls_per_connection_max=2)) as server:
        running = [server.stream("DoGet", ticket(encode_statement_ticket(b"stall"))) for _ in range(2)]
        wait_until(lambda: len(queries.open_streams) == 2)

        with pytest.raises(grpc.RpcError) as caught:
            list(server.stream("DoGet", SELECT_1))
        for call in running:
            call.cancel()

    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "this connection has 2 calls open, as many as one may have at once: end some" in caught.value.details()


def test_draining_lets_running_queries_end_and_refuses_new_ones(
    loop_thread: LoopThread, queries: FakeQueryService
) -> None:
    with flight_server(loop_thread, queries) as server:
        running = server.stream("DoGet", ticket(encode_statement_ticket(b"SELECT i FROM range(3000000) t(i)")))
        first = next(running)
        stopping = threading.Thread(target=server.stop, args=(10,))
        stopping.start()
        time.sleep(0.2)

        with pytest.raises(grpc.RpcError) as caught:
            list(server.stream("DoGet", SELECT_1))
        rest = list(running)
        stopping.join()

    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert first
    assert len(rest) > 5


def test_the_grace_cuts_what_does_not_end(loop_thread: LoopThread, queries: FakeQueryService) -> None:
    with flight_server(loop_thread, queries) as server:
        stalled = server.stream("DoGet", BULK, timeout=60)
        next(stalled)
        began = time.monotonic()
        server.stop(0.5)

        assert 0.4 < time.monotonic() - began < 3
        assert queries.calls["aclose"] == 1
        with pytest.raises(grpc.RpcError):
            list(stalled)


def test_a_second_stop_is_immediate(loop_thread: LoopThread, queries: FakeQueryService) -> None:
    with flight_server(loop_thread, queries) as server:
        call = server.stream("DoGet", ticket(encode_statement_ticket(b"stall")), timeout=60)
        wait_until(lambda: len(queries.open_streams) == 1)
        first = threading.Thread(target=server.stop, args=(20,))
        first.start()
        time.sleep(0.2)

        began = time.monotonic()
        server.stop(0)
        first.join()

        assert time.monotonic() - began < 3
        with pytest.raises(grpc.RpcError):
            list(call)


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0", "10.1.2.3:80", "example.org:80", ":0", ""])
def test_only_loopback_is_served_while_callers_are_not_identified(queries: FakeQueryService, address: str) -> None:
    with pytest.raises(ValueError, match="only loopback addresses are served"):
        FlightServer(queries, address=address, handle_key=KEY, product_version="1")


@pytest.mark.parametrize("address", ["127.0.0.1:0", "[::1]:0", "localhost:0", "127.9.9.9:0", "unix:/run/x"])
def test_every_loopback_address_may_be_served(queries: FakeQueryService, address: str) -> None:
    assert FlightServer(queries, address=address, handle_key=KEY, product_version="1").port == 0
