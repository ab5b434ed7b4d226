"""Every way to cancel ends the reader's stream within a second, and frees the worker, whatever the statement is at."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final

import grpc
import psutil
import pytest

from lakeflight.wire.flight_sql import FLIGHT, encode_statement_ticket, parse, unpack_as
from tests.support.flight_server import RawCalls, sql_command, ticket
from tests.support.programs import Program
from tests.support.serving import Server, serving

WITHIN_S: Final = 1.0
STATEMENT_S: Final = 60.0  # what a client waits at most; nothing here may take as long
AGGREGATE: Final = "SELECT count(*) FROM range(1000000) a, range(10000000) b WHERE a.range + b.range = -1"
STREAM: Final = "SELECT a.range, b.range AS other FROM range(1000000) a, range(100000) b"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("lake")) as running:
        yield running


@pytest.fixture
def flight(server: Server) -> Iterator[RawCalls]:
    client = RawCalls(server.flight.removeprefix("grpc://"))
    yield client
    client.channel.close()


class Reader:
    """One DoGet that a thread reads: how many frames came, and how it ended."""

    def __init__(self, flight: RawCalls, sql: str, *, pauses: bool = False, timeout_s: float = STATEMENT_S) -> None:
        self.call = flight.stream("DoGet", ticket(encode_statement_ticket(sql.encode())), timeout=timeout_s)
        self.query_id = str(dict(self.call.initial_metadata())["x-query-id"])
        self.frames = 0
        self.status: grpc.StatusCode | None = None
        self._go_on = threading.Event()
        self._pauses = pauses
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            for _ in self.call:
                self.frames += 1
                if self._pauses and self.frames == 2:
                    self._go_on.wait()
            self.status = grpc.StatusCode.OK
        except grpc.RpcError as error:
            self.status = error.code()

    def go_on(self) -> None:
        self._go_on.set()

    def end(self) -> grpc.StatusCode | None:
        """How it ended, if it did so in time."""
        self._thread.join(WITHIN_S)
        return self.status


def cancel_flight_info(flight: RawCalls, sql: str) -> int:
    info = _info(sql)
    [body] = flight.action("CancelFlightInfo", FLIGHT["CancelFlightInfoRequest"](info=info).SerializeToString())
    return int(parse(FLIGHT["CancelFlightInfoResult"], body).status)


def cancel_query(flight: RawCalls, sql: str) -> int:
    info = _info(sql).SerializeToString()
    [body] = flight.action("CancelQuery", sql_command("ActionCancelQueryRequest", info=info))
    return int(unpack_as("ActionCancelQueryResult", body).result)


def _info(sql: str) -> Any:
    endpoint = FLIGHT["FlightEndpoint"](ticket=FLIGHT["Ticket"](ticket=encode_statement_ticket(sql.encode())))
    return FLIGHT["FlightInfo"](endpoint=[endpoint])


def wait_until(condition: Callable[[], object], timeout_s: float = 20) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def is_at(flight: RawCalls, reader: Reader, stage: str) -> bool:
    try:
        [progress] = flight.action("lakeflight.QueryProgress", reader.query_id.encode())
    except grpc.RpcError:
        return False
    return f'"{stage}"' in progress.decode()


def is_over(flight: RawCalls, reader: Reader) -> bool:
    try:
        flight.action("lakeflight.QueryProgress", reader.query_id.encode())
    except grpc.RpcError as error:
        return bool(error.code() is grpc.StatusCode.NOT_FOUND)
    return False


@contextlib.contextmanager
def builders_stopped(server: Server) -> Iterator[None]:
    """Nothing that is asked of a build worker comes to an end meanwhile."""
    builders = [p for p in server.tree() if "server.workers.zygote" in p.cmdline() and "build" in p.cmdline()]
    assert builders
    for process in builders:
        process.suspend()
    try:
        yield
    finally:
        for process in builders:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGCONT)


@pytest.fixture
def unmade(server: Server) -> Iterator[str]:
    """A statement whose partitions are being made for as long as the test runs."""
    program = Program()
    server.replay([*program.registration(), program.log_block()])
    with builders_stopped(server):
        yield f"SELECT msg FROM view_instance('log_entries', '{program.process_id}')"


CANCELS = pytest.mark.parametrize("cancel", [cancel_flight_info, cancel_query])


@CANCELS
def test_a_cancelled_aggregate_ends(flight: RawCalls, cancel: Callable[[RawCalls, str], int]) -> None:
    reader = Reader(flight, AGGREGATE)
    wait_until(lambda: is_at(flight, reader, "running"))
    time.sleep(0.2)  # into the engine

    assert cancel(flight, AGGREGATE) == 1
    assert reader.end() is grpc.StatusCode.CANCELLED


@CANCELS
@pytest.mark.parametrize("pauses", [False, True], ids=["read", "paused"])
def test_a_cancelled_stream_ends(flight: RawCalls, cancel: Callable[[RawCalls, str], int], pauses: bool) -> None:
    reader = Reader(flight, STREAM, pauses=pauses)
    wait_until(lambda: reader.frames >= 2)
    time.sleep(0.2)  # until a reader that pauses holds the server up

    assert cancel(flight, STREAM) == 1
    reader.go_on()
    assert reader.end() is grpc.StatusCode.CANCELLED


@CANCELS
def test_a_statement_that_is_cancelled_while_its_partitions_are_made_ends(
    flight: RawCalls, unmade: str, cancel: Callable[[RawCalls, str], int]
) -> None:
    reader = Reader(flight, unmade)
    wait_until(lambda: is_at(flight, reader, "materializing"))

    assert cancel(flight, unmade) == 1
    assert reader.end() is grpc.StatusCode.CANCELLED


@CANCELS
def test_a_cancelled_statement_that_waits_for_its_turn_ends(
    flight: RawCalls, cancel: Callable[[RawCalls, str], int]
) -> None:
    busy = [Reader(flight, AGGREGATE) for _ in range(4)]
    for reader in busy[:2]:
        wait_until(partial(is_at, flight, reader, "running"))
    waiting = Reader(flight, "SELECT 'in vain'")

    assert cancel(flight, "SELECT 'in vain'") == 1
    ended = waiting.end()
    cancel(flight, AGGREGATE)

    assert ended in (grpc.StatusCode.CANCELLED, grpc.StatusCode.OK)  # its turn may have come
    assert [reader.end() for reader in busy] == [grpc.StatusCode.CANCELLED] * 4


@pytest.mark.parametrize("sql", [AGGREGATE, STREAM], ids=["aggregate", "stream"])
def test_a_reader_that_goes_away_takes_its_statement_along(flight: RawCalls, sql: str) -> None:
    readers = [Reader(flight, sql) for _ in range(2)]
    wait_until(lambda: is_at(flight, readers[0], "running"))

    for reader in readers:
        reader.call.cancel()

    assert [reader.end() for reader in readers] == [grpc.StatusCode.CANCELLED] * 2
    wait_until(lambda: all(is_over(flight, reader) for reader in readers), WITHIN_S)
    began = time.monotonic()
    list(flight.stream("DoGet", ticket(encode_statement_ticket(b"SELECT 1"))))
    assert time.monotonic() - began < 2 * WITHIN_S


def test_a_reader_that_goes_away_while_partitions_are_made_takes_its_statement_along(
    flight: RawCalls, unmade: str
) -> None:
    reader = Reader(flight, unmade)
    wait_until(lambda: is_at(flight, reader, "materializing"))

    reader.call.cancel()

    wait_until(lambda: is_over(flight, reader), WITHIN_S)


@pytest.mark.parametrize("sql", [AGGREGATE, STREAM], ids=["aggregate", "stream"])
def test_a_deadline_ends_the_statement(flight: RawCalls, sql: str) -> None:
    reader = Reader(flight, sql, timeout_s=1.0)

    wait_until(lambda: reader.status is not None, 1.0 + WITHIN_S)

    assert reader.status is grpc.StatusCode.DEADLINE_EXCEEDED
    wait_until(lambda: is_over(flight, reader), WITHIN_S)


def test_the_worker_of_a_cancelled_statement_serves_the_next(flight: RawCalls) -> None:
    for _ in range(3):
        readers = [Reader(flight, AGGREGATE) for _ in range(2)]
        for reader in readers:
            wait_until(partial(is_at, flight, reader, "running"))
        cancel_flight_info(flight, AGGREGATE)
        assert [reader.end() for reader in readers] == [grpc.StatusCode.CANCELLED] * 2

        began = time.monotonic()
        list(flight.stream("DoGet", ticket(encode_statement_ticket(b"SELECT 1"))))
        assert time.monotonic() - began < 2 * WITHIN_S


def test_nobody_cancels_what_does_not_run(flight: RawCalls) -> None:
    assert cancel_flight_info(flight, "SELECT 'never asked'") == 3
