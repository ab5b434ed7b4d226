"""``grpc.health.v1``, for load balancers: needs no credential and says nothing but whether to send traffic here."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import grpc

from lakeflight.wire.errors import MalformedRequestError
from lakeflight.wire.flight_sql import FLIGHT_PACKAGE, MessagePool, parse

SERVICE: Final = "grpc.health.v1.Health"
SERVING: Final = 1
NOT_SERVING: Final = 2
SERVICE_UNKNOWN: Final = 3

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

    def __init__(self) -> None:
        self._status = NOT_SERVING
        self._changed = asyncio.Event()

    @property
    def is_serving(self) -> bool:
        return self._status == SERVING

    def set_serving(self, serving: bool) -> None:
        self._status = SERVING if serving else NOT_SERVING
        self._changed.set()
        self._changed = asyncio.Event()

    def handler(self) -> Any:
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "Check": grpc.unary_unary_rpc_method_handler(self._check),
                "Watch": grpc.unary_stream_rpc_method_handler(self._watch),
            },
        )

    async def _check(self, request: bytes, context: Any) -> bytes:
        name = await _service_name(request, context)
        if name not in _KNOWN:
            await context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
        return _response(self._status)

    async def _watch(self, request: bytes, context: Any) -> None:
        name = await _service_name(request, context)
        while True:
            changed = self._changed
            await context.write(_response(self._status if name in _KNOWN else SERVICE_UNKNOWN))
            await changed.wait()


async def _service_name(request: bytes, context: Any) -> str:
    try:
        name: str = parse(_MESSAGES["HealthCheckRequest"], request).service
    except MalformedRequestError as error:
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        raise
    return name


def _response(status: int) -> bytes:
    response: bytes = _MESSAGES["HealthCheckResponse"](status=status).SerializeToString()
    return response
