"""``grpc.health.v1``, for load balancers: needs no credential and says nothing but whether to send traffic here.

It always answers: its calls have places of their own, of which those that watch hold a part, and a call that sends
nothing makes room for the next one. What the rest of the server is busy with does not matter here.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, Final

import grpc
import grpc.aio

from lakeflight.wire.errors import MalformedRequestError
from lakeflight.wire.flight_sql import FLIGHT_PACKAGE
from lakeflight.wire.protobuf import MessagePool, parse
from lakehouse.errors import BackendUnavailableError, LakeflightError, LimitExceededError, NotFoundError
from server.flight.open_calls import OpenCall, OpenCalls
from server.flight.status import STATUS_WAIT_S, status_of

SERVICE: Final = "grpc.health.v1.Health"
SERVING: Final = 1
NOT_SERVING: Final = 2
SERVICE_UNKNOWN: Final = 3
CALLS_PER_PEER_MAX: Final = 64
CALLS_MAX: Final = 1_024
WATCHES_PER_PEER_MAX: Final = 8
WATCHES_MAX: Final = 512
WATCH_MAX_S: Final = 3_600.0  # then the watcher asks again; one that has gone silently is not kept for longer

_MESSAGES: Final = MessagePool().declare(
    "grpc.health.v1",
    """
    HealthCheckRequest { string service = 1; }
    HealthCheckResponse { int32 status = 1; }
    """,
)
_KNOWN: Final = ("", f"{FLIGHT_PACKAGE}.FlightService", SERVICE)


class Health:
    """Not serving until told otherwise."""

    def __init__(self, silence_s: float) -> None:
        self._status = NOT_SERVING
        self._changed = asyncio.Event()
        self._calls = OpenCalls(per_peer_max=CALLS_PER_PEER_MAX, all_max=CALLS_MAX, silence_s=silence_s)
        self._watches: Counter[str] = Counter()  # by connection

    @property
    def is_serving(self) -> bool:
        return self._status == SERVING

    def set_serving(self, serving: bool) -> None:
        self._status = SERVING if serving else NOT_SERVING
        self._changed.set()
        self._changed = asyncio.Event()

    async def watch_clients(self) -> None:
        """End calls whose clients are silent, until cancelled."""
        await self._calls.watch()

    def handler(self) -> Any:
        methods = {"Check": self._check, "Watch": self._watch}
        return grpc.method_handlers_generic_handler(
            SERVICE, {name: grpc.stream_stream_rpc_method_handler(method) for name, method in methods.items()}
        )

    async def _check(self, _: None, context: Any) -> None:
        await self._answer(context, self._say_once)

    async def _watch(self, _: None, context: Any) -> None:
        await self._answer(context, self._say_again)

    async def _answer(self, context: Any, say: Callable[[str, Any, OpenCall], Awaitable[None]]) -> None:
        """One call: its request, its answers, or the one status for what is wrong."""
        place = None
        try:
            place = self._calls.enter(context.peer())
            place.wait_begins(self._calls.now())
            message = await context.read()
            request = b"" if message is grpc.aio.EOF else message
            name: str = parse(_MESSAGES["HealthCheckRequest"], request).service
            await say(name, context, place)
            return
        except asyncio.CancelledError:
            if place is None or place.cut is None:
                raise
            place.task.uncancel()
            problem: Exception = place.cut
        except (LakeflightError, MalformedRequestError) as error:
            problem = error
        finally:
            if place is not None:
                self._calls.leave(place)
        code, sentence = status_of(problem)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(context.abort(code, sentence), STATUS_WAIT_S)

    async def _say_once(self, name: str, context: Any, place: OpenCall) -> None:
        if name not in _KNOWN:
            raise NotFoundError("unknown service")
        await context.write(_response(self._status))

    async def _say_again(self, name: str, context: Any, place: OpenCall) -> None:
        """The status, and each change of it."""
        if self._watches[place.peer] >= WATCHES_PER_PEER_MAX or self._watches.total() >= WATCHES_MAX:
            raise LimitExceededError("too many watch the health of this server already: end some, or use Check")
        self._watches[place.peer] += 1
        try:
            async with asyncio.timeout(WATCH_MAX_S):
                while True:
                    changed = self._changed
                    place.wait_begins(self._calls.now())
                    await context.write(_response(self._status if name in _KNOWN else SERVICE_UNKNOWN))
                    place.wait_ends(self._calls.now())
                    await changed.wait()
        except TimeoutError:
            raise BackendUnavailableError(f"watched for {WATCH_MAX_S:g} s: watch again") from None
        finally:
            self._watches[place.peer] -= 1
            if not self._watches[place.peer]:
                del self._watches[place.peer]


def _response(status: int) -> bytes:
    response: bytes = _MESSAGES["HealthCheckResponse"](status=status).SerializeToString()
    return response
