"""A server that answers from memory what another one answered before: the price of transport and client alone.

``python -m benchmarks.replay ADDRESS`` prints its own address. An unknown request goes to ``ADDRESS``, and the answer's
messages are kept byte for byte; the same request is then answered without it. So any client can be measured against it
once it has asked before. It knows no message of Flight.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import grpc
import grpc.aio

_ROOT: Final = Path(__file__).resolve().parents[1]
_UNLIMITED: Final = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
_SERVICE: Final = "/arrow.flight.protocol.FlightService/"
_ONE_ANSWER: Final = frozenset({f"{_SERVICE}GetFlightInfo", f"{_SERVICE}GetSchema", f"{_SERVICE}PollFlightInfo"})


@contextmanager
def replaying(flight: str) -> Iterator[str]:
    """The address of a replaying server before the one at ``flight``."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.replay", flight.removeprefix("grpc://")],
        cwd=_ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield f"grpc://{process.stdout.readline().strip()}"
    finally:
        process.terminate()
        process.wait()


class _Replay(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc has no types
    def __init__(self, upstream: Any) -> None:
        self._upstream = upstream
        self._known: dict[tuple[str, bytes], list[bytes]] = {}

    def service(self, call: Any) -> Any:
        method: str = call.method
        if method in _ONE_ANSWER:
            return grpc.unary_unary_rpc_method_handler(partial(self._one, method))
        return grpc.unary_stream_rpc_method_handler(partial(self._many, method))

    async def _one(self, method: str, request: bytes, _context: Any) -> bytes:
        key = (method, request)
        if key not in self._known:
            self._known[key] = [await self._upstream.unary_unary(method)(request)]
        return self._known[key][0]

    async def _many(self, method: str, request: bytes, _context: Any) -> AsyncIterator[bytes]:
        key = (method, request)
        if key not in self._known:
            self._known[key] = [message async for message in self._upstream.unary_stream(method)(request)]
        for message in self._known[key]:
            yield message


async def _serve(upstream: str) -> None:
    async with grpc.aio.insecure_channel(upstream, options=_UNLIMITED) as channel:
        server = grpc.aio.server(options=_UNLIMITED)
        server.add_generic_rpc_handlers((_Replay(channel),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        print(f"127.0.0.1:{port}", flush=True)
        await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1]))
