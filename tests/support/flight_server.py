"""A Flight server on an event loop in a thread of its own, for clients that block."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import grpc
import uvloop

from lakeflight.wire.flight_sql import FLIGHT, SQL, pack, parse
from server.flight import FlightLimits, FlightServer
from server.query.ports import QueryService

T = TypeVar("T")
KEY = b"a key for tests only, 32 bytes.."


class LoopThread:
    """An event loop that runs until ``close``."""

    def __init__(self) -> None:
        self.loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T], timeout_s: float = 30) -> T:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(timeout_s)

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


class RawCalls:
    """A client of bytes, for messages that no driver would send and moments that none would show."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.uri = f"grpc://{address}"
        self.channel = grpc.insecure_channel(address, options=[("grpc.max_receive_message_length", -1)])

    def unary(self, method: str, request: bytes, metadata: Sequence[tuple[str, str]] = ()) -> bytes:
        call = self.channel.unary_unary(f"/arrow.flight.protocol.FlightService/{method}")
        reply: bytes = call(request, metadata=metadata, timeout=10)
        return reply

    def stream(self, method: str, request: bytes, metadata: Sequence[tuple[str, str]] = (), timeout: float = 10) -> Any:
        call = self.channel.unary_stream(f"/arrow.flight.protocol.FlightService/{method}")
        return call(request, metadata=metadata, timeout=timeout)

    def both(self, method: str, requests: Iterator[bytes], metadata: Sequence[tuple[str, str]] = ()) -> Any:
        call = self.channel.stream_stream(f"/arrow.flight.protocol.FlightService/{method}")
        return call(requests, metadata=metadata, timeout=10)

    def info(self, command: bytes, metadata: Sequence[tuple[str, str]] = ()) -> Any:
        """``GetFlightInfo`` of a command's bytes, parsed."""
        return parse(FLIGHT["FlightInfo"], self.unary("GetFlightInfo", descriptor(command), metadata))

    def action(self, name: str, body: bytes, metadata: Sequence[tuple[str, str]] = ()) -> list[bytes]:
        request = FLIGHT["Action"](type=name, body=body).SerializeToString()
        return [parse(FLIGHT["Result"], reply).body for reply in self.stream("DoAction", request, metadata)]


class ServerInThread(RawCalls):
    """One started server, with a raw client for odd bytes."""

    def __init__(self, thread: LoopThread, queries: QueryService, limits: FlightLimits) -> None:
        self.thread = thread

        async def start() -> FlightServer:
            server = FlightServer(
                queries, address="127.0.0.1:0", handle_key=KEY, product_version="1.2.3", limits=limits
            )
            await server.start()
            server.set_serving(True)
            return server

        self.server = thread.run(start())
        super().__init__(f"127.0.0.1:{self.server.port}")

    def stop(self, grace_s: float = 0) -> None:
        self.thread.run(self.server.stop(grace_s))


@contextmanager
def flight_server(
    thread: LoopThread, queries: QueryService, limits: FlightLimits | None = None
) -> Iterator[ServerInThread]:
    server = ServerInThread(thread, queries, limits or FlightLimits())
    try:
        yield server
    finally:
        server.channel.close()
        server.stop()


def descriptor(command: bytes) -> bytes:
    encoded: bytes = FLIGHT["FlightDescriptor"](type=2, cmd=command).SerializeToString()
    return encoded


def ticket(data: bytes) -> bytes:
    encoded: bytes = FLIGHT["Ticket"](ticket=data).SerializeToString()
    return encoded


def sql_command(name: str, **fields: Any) -> bytes:
    """A Flight SQL message in its ``Any``."""
    return pack(SQL[name](**fields))
