"""Clients that say nothing: calls without a message, answers that nobody takes, connections without a call."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest

from lakeflight.wire.flight_data import flight_data_frames
from lakeflight.wire.flight_sql import SQL, encode_statement_ticket, pack
from lakehouse.errors import BackendUnavailableError, LimitExceededError, QueryTimeoutError
from server.flight import FlightLimits
from server.flight.open_calls import WAITS_IN_ALL_MAX, YIELDS_AFTER_S, OpenCall, OpenCalls
from tests.support.fake_query_service import FakeQueryService
from tests.support.flight_server import LoopThread, ServerInThread, descriptor, flight_server, ticket

SERVICE = "/arrow.flight.protocol.FlightService"
SELECT_1 = ticket(encode_statement_ticket(b"SELECT 1"))
BULK = ticket(encode_statement_ticket(b"frames 1000 1000000"))
OWN_CONNECTION = [("grpc.use_local_subchannel_pool", 1)]  # as another program's


def wait_until(condition: Callable[[], bool], timeout_s: float = 10) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


class SilentClient:
    """Opens calls on a connection of its own and sends nothing; ``close`` ends them all."""

    def __init__(self, address: str) -> None:
        self._quiet = threading.Event()
        self.channel = grpc.insecure_channel(address, options=OWN_CONNECTION)
        self.calls: list[Any] = []

    def open(self, path: str, first: bytes | None = None) -> Any:
        def say_nothing() -> Iterator[bytes]:
            if first is not None:
                yield first
            self._quiet.wait()

        call = self.channel.stream_stream(path)(say_nothing(), timeout=60)
        self.calls.append(call)
        return call

    def open_many(self, path: str, count: int) -> None:
        for _ in range(count):
            self.open(path)

    def close(self) -> None:
        for call in self.calls:
            call.cancel()
        self._quiet.set()
        self.channel.close()


@pytest.fixture
def impatient(loop_thread: LoopThread, queries: FakeQueryService) -> Iterator[ServerInThread]:
    limits = FlightLimits(silent_call_s=1.0, calls_per_connection_max=24, calls_max=60)
    with flight_server(loop_thread, queries, limits) as server:
        yield server


@pytest.fixture
def silent(impatient: ServerInThread) -> Iterator[SilentClient]:
    client = SilentClient(impatient.address)
    yield client
    client.close()


def outcome(call: Any) -> tuple[grpc.StatusCode, str]:
    try:
        list(call)
    except grpc.RpcError as error:
        return error.code(), str(error.details())
    return grpc.StatusCode.OK, ""


def healthy(channel: Any) -> bool:
    return bool(channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=5) == b"\x08\x01")


def answers(channel: Any) -> bool:
    return len(list(channel.unary_stream(f"{SERVICE}/DoGet")(SELECT_1, timeout=5))) == 2


@pytest.mark.parametrize("method", ["DoPut", "DoGet", "GetFlightInfo", "GetSchema", "DoAction", "ListFlights"])
def test_a_call_without_its_message_ends_by_the_deadline_and_says_why(
    impatient: ServerInThread, silent: SilentClient, method: str
) -> None:
    began = time.monotonic()

    code, details = outcome(silent.open(f"{SERVICE}/{method}"))

    assert code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert "neither sent nor took anything for 1 s: send the whole request at once" in details
    assert 0.9 < time.monotonic() - began < 5
    assert impatient.server.open_calls == 0


@pytest.mark.parametrize("method", ["Handshake", "DoExchange"])
def test_calls_that_need_no_message_are_answered_without_one(
    impatient: ServerInThread, silent: SilentClient, method: str
) -> None:
    outcome(silent.open(f"{SERVICE}/{method}"))

    assert impatient.server.open_calls == 0


def test_an_upload_that_stops_half_way_ends_by_the_deadline(impatient: ServerInThread, silent: SilentClient) -> None:
    prepared = impatient.action(
        "CreatePreparedStatement", pack(SQL["ActionCreatePreparedStatementRequest"](query="SELECT ?"))
    )
    handle = SQL["ActionCreatePreparedStatementResult"].FromString(_any_value(prepared[0])).prepared_statement_handle
    first = _first_upload_message(pack(SQL["CommandPreparedStatementQuery"](prepared_statement_handle=handle)))

    code, _ = outcome(silent.open(f"{SERVICE}/DoPut", first))

    assert code is grpc.StatusCode.DEADLINE_EXCEEDED


@pytest.mark.parametrize("path", [f"{SERVICE}/DoPut", f"{SERVICE}/DoGet", "/grpc.health.v1.Health/Check"])
def test_silent_calls_of_one_connection_shut_nobody_else_out(
    impatient: ServerInThread, silent: SilentClient, path: str
) -> None:
    silent.open_many(path, 300)  # more than the connection may have, more than the server takes
    wait_until(lambda: impatient.server.open_calls >= 24 or "Health" in path)

    for _ in range(5):
        assert healthy(impatient.channel)
        assert answers(impatient.channel)

    assert impatient.server.open_calls <= 24 + 1
    codes = {outcome(call)[0] for call in silent.calls}
    assert codes == {grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.DEADLINE_EXCEEDED}
    wait_until(lambda: impatient.server.open_calls == 0)


def test_a_connection_full_of_silent_calls_goes_on_once_they_make_room(
    loop_thread: LoopThread, queries: FakeQueryService
) -> None:
    limits = FlightLimits(silent_call_s=60.0, calls_per_connection_max=4)
    with flight_server(loop_thread, queries, limits) as server:
        client = SilentClient(server.address)
        client.open_many(f"{SERVICE}/DoPut", 4)
        wait_until(lambda: server.server.open_calls == 4)

        time.sleep(YIELDS_AFTER_S + 0.1)
        assert answers(client.channel)  # the one that was silent for longest had to go
        wait_until(lambda: any(call.done() for call in client.calls))
        assert [call.code() for call in client.calls if call.done()] == [grpc.StatusCode.RESOURCE_EXHAUSTED]
        assert server.server.open_calls == 3
        client.close()


def test_a_server_full_of_calls_is_busy_and_health_answers_all_the_same(
    loop_thread: LoopThread, queries: FakeQueryService
) -> None:
    with flight_server(loop_thread, queries, FlightLimits(calls_max=3)) as server:
        running = [server.stream("DoGet", ticket(encode_statement_ticket(b"stall"))) for _ in range(3)]
        wait_until(lambda: len(queries.open_streams) == 3)

        code, details = outcome(server.stream("DoGet", SELECT_1))

        assert code is grpc.StatusCode.UNAVAILABLE
        assert "the server is busy: 3 calls are open" in details
        assert "try again in a moment" in details
        assert healthy(server.channel)
        for call in running:
            call.cancel()


def test_many_connections_full_of_silent_calls_make_room_for_a_newcomer(
    loop_thread: LoopThread, queries: FakeQueryService
) -> None:
    limits = FlightLimits(silent_call_s=60.0, calls_per_connection_max=20, calls_max=40)
    with flight_server(loop_thread, queries, limits) as server:
        clients = [SilentClient(server.address) for _ in range(3)]
        for client in clients:
            client.open_many(f"{SERVICE}/DoPut", 20)
        wait_until(lambda: server.server.open_calls == 40)
        time.sleep(YIELDS_AFTER_S + 0.1)

        for _ in range(5):
            assert healthy(server.channel)
            assert answers(server.channel)

        for client in clients:
            client.close()


def test_a_half_read_result_is_no_silent_call(impatient: ServerInThread) -> None:
    call = impatient.stream("DoGet", BULK, timeout=60)
    next(call)
    time.sleep(2)

    assert impatient.server.running_statements == 1
    assert next(call)
    call.cancel()


def test_watchers_of_health_leave_room_for_those_who_ask_once(impatient: ServerInThread) -> None:
    watch = impatient.channel.unary_stream("/grpc.health.v1.Health/Watch")
    watching = [watch(b"", timeout=30) for _ in range(8)]
    assert [next(call) for call in watching] == [b"\x08\x01"] * 8

    code, details = outcome(watch(b"", timeout=5))

    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "use Check" in details
    assert healthy(impatient.channel)
    for call in watching:
        call.cancel()


def test_connections_without_a_call_are_closed(loop_thread: LoopThread, queries: FakeQueryService) -> None:
    with flight_server(loop_thread, queries, FlightLimits(idle_connection_s=0.5)) as server:
        host, port = server.address.split(":")
        with socket.create_connection((host, int(port)), timeout=10) as idle:
            idle.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0")  # preface, empty settings
            while idle.recv(65536):
                pass  # ends when the server closes; the socket's own deadline is a failure

        assert answers(server.channel)  # a client whose connection was closed opens another by itself
        time.sleep(1.2)
        assert answers(server.channel)


# --- the rules, without sockets and without waiting --------------------------------------------------------------------


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def rules(clock: Clock, **limits: Any) -> OpenCalls:
    return OpenCalls(**{"per_peer_max": 3, "all_max": 5, "silence_s": 30.0, "clock": clock, **limits})


class Pretended:
    """A call whose handler waits until it is ended."""

    def __init__(self, calls: OpenCalls, peer: str) -> None:
        self.place: OpenCall | None = None
        self.refused: Exception | None = None
        self.task = asyncio.create_task(self._run(calls, peer))

    async def _run(self, calls: OpenCalls, peer: str) -> None:
        try:
            self.place = calls.enter(peer)
            await asyncio.Event().wait()
        except (LimitExceededError, BackendUnavailableError) as error:
            self.refused = error


async def pretended(calls: OpenCalls, *peers: str) -> list[Pretended]:
    made = []
    for peer in peers:
        made.append(Pretended(calls, peer))
        await asyncio.sleep(0)
    return made


async def test_a_call_at_work_is_never_ended_for_another() -> None:
    clock = Clock()
    calls = rules(clock)
    await pretended(calls, "a", "a", "a", "b", "b")
    clock.now += 1_000

    (same, other) = await pretended(calls, "a", "c")
    calls.look()

    assert isinstance(same.refused, LimitExceededError)
    assert isinstance(other.refused, BackendUnavailableError)
    assert len(calls) == 5


async def test_the_connection_with_the_most_silent_calls_makes_room() -> None:
    clock = Clock()
    calls = rules(clock)
    made = await pretended(calls, "a", "a", "a", "b", "b")
    for index, call in enumerate(made):
        assert call.place is not None
        call.place.wait_begins(clock.now - 10 + (index + 2) % 3)

    (newcomer,) = await pretended(calls, "c")

    assert newcomer.refused is None
    cut = [index for index, call in enumerate(made) if call.place is not None and call.place.cut is not None]
    assert cut == [1]  # of the connection with three, the one that is silent for longest
    assert len(calls) == 5


async def test_a_client_that_sends_little_by_little_has_a_deadline_too() -> None:
    clock = Clock()
    calls = rules(clock)
    (call,) = await pretended(calls, "a")
    assert call.place is not None

    waits = 0
    while call.place.cut is None:
        waits += 1
        call.place.wait_begins(clock.now)
        clock.now += 20.0
        calls.look()
        call.place.wait_ends(clock.now)

    assert isinstance(call.place.cut, QueryTimeoutError)
    assert waits == WAITS_IN_ALL_MAX * 30 / 20 + 1


def _any_value(body: bytes) -> bytes:
    """The value of an ``Any``: its second field."""
    from google.protobuf.any_pb2 import Any as AnyMessage

    value: bytes = AnyMessage.FromString(body).value
    return value


def _first_upload_message(command: bytes) -> bytes:
    import pyarrow as pa

    from lakeflight.wire.flight_sql import FLIGHT, parse

    batch = pa.record_batch([pa.array([1])], names=["1"])
    schema_frame = next(iter(flight_data_frames(batch.schema, [batch])))
    message = parse(FLIGHT["FlightData"], schema_frame)
    message.flight_descriptor.CopyFrom(parse(FLIGHT["FlightDescriptor"], descriptor(command)))
    encoded: bytes = message.SerializeToString()
    return encoded
