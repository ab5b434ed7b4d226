"""OTLP over gRPC: the same three requests as over HTTP, with the same durability, on a port of their own.

Every ingestion process listens on the same port; the kernel gives each connection to one of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

import grpc
import grpc.aio
import structlog

from lakeflight.wire.otlp.resources import LOGS, METRICS, TRACES, Signal
from server.access import CALLER_TIMEOUT_S, Authenticate, Origin, anonymous
from server.ingestion.limits import ByteBudget, RequestRefusedError, Share
from server.ingestion.otlp import RECEIVED_BYTES_MAX, OtlpIngestion, grpc_code_of
from server.ingestion.status import is_foreseen

log = structlog.get_logger(__name__)

_SERVICES: Final = (
    ("opentelemetry.proto.collector.logs.v1.LogsService", LOGS),
    ("opentelemetry.proto.collector.metrics.v1.MetricsService", METRICS),
    ("opentelemetry.proto.collector.trace.v1.TraceService", TRACES),
)
_CODES: Final = {code.value[0]: code for code in grpc.StatusCode}

REQUESTS_BYTES_MAX: Final = (
    128 << 20
)  # of all requests in a process at once; as messages they take several times as much
CALLS_PER_CONNECTION_MAX: Final = 64  # exporters have one or two
ANSWER_TIMEOUT_S: Final = 60.0  # to store what was read; longer than the database and the store have for it
METADATA_BYTES_MAX: Final = 64 << 10
# A call that never sends its request ends with its connection: that is asked to end after an hour, and cut a minute later.
CONNECTION_AGE_S: Final = 3_600
CONNECTION_AGE_GRACE_S: Final = 60
IDLE_CONNECTION_S: Final = 1_800
_KEEPALIVE_S: Final = 60  # load balancers cut idle connections after 4 to 6 minutes
_PING_INTERVAL_MIN_S: Final = 10  # stock servers cut a client that pings more often than every 5 minutes
_HANDSHAKE_TIMEOUT_S: Final = 20

_OPTIONS: Final = (
    ("grpc.max_receive_message_length", RECEIVED_BYTES_MAX),
    ("grpc.max_metadata_size", METADATA_BYTES_MAX),
    ("grpc.absolute_max_metadata_size", 2 * METADATA_BYTES_MAX),
    ("grpc.max_concurrent_streams", CALLS_PER_CONNECTION_MAX),
    ("grpc.keepalive_time_ms", _KEEPALIVE_S * 1_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", _PING_INTERVAL_MIN_S * 1_000),
    ("grpc.server_handshake_timeout_ms", _HANDSHAKE_TIMEOUT_S * 1_000),
    ("grpc.max_connection_idle_ms", IDLE_CONNECTION_S * 1_000),
    ("grpc.max_connection_age_ms", CONNECTION_AGE_S * 1_000),
    ("grpc.max_connection_age_grace_ms", CONNECTION_AGE_GRACE_S * 1_000),
    ("grpc.so_reuseport", 1),
)

Export = Callable[[bytes, Any], Awaitable[bytes]]


class OtlpGrpcServer:
    """One listening server on the running event loop."""

    def __init__(
        self, otlp: OtlpIngestion, address: str, authenticate: Authenticate = anonymous, credentials: Any = None
    ) -> None:
        self._otlp = otlp
        self._address = address
        self._authenticate = authenticate
        self._credentials = credentials  # of TLS
        self._budget = ByteBudget(REQUESTS_BYTES_MAX)
        self._server: Any = None
        self.port = 0

    async def start(self) -> None:
        """Listen.

        Raises:
            RuntimeError: The address cannot be had.
        """
        self._server = grpc.aio.server(options=list(_OPTIONS))
        self._server.add_generic_rpc_handlers(
            tuple(
                grpc.method_handlers_generic_handler(
                    name, {"Export": grpc.unary_unary_rpc_method_handler(self._export(signal))}
                )
                for name, signal in _SERVICES
            )
        )
        if self._credentials is None:
            self.port = self._server.add_insecure_port(self._address)
        else:
            self.port = self._server.add_secure_port(self._address, self._credentials)
        await self._server.start()

    async def stop(self, grace_s: float) -> None:
        """Refuse new calls; those in progress have the grace."""
        if self._server is not None:
            await self._server.stop(grace_s)

    def _export(self, signal: Signal) -> Export:
        async def export(body: bytes, context: Any) -> bytes:
            try:
                await self._store(signal, body, context)
            except Exception as error:
                if isinstance(error, TimeoutError):
                    error = RequestRefusedError(503, "the request took too long")
                elif not is_foreseen(error):
                    log.error("ingestion.failed", path=f"otlp/grpc/{signal.name}", exc_info=error)
                code, sentence = grpc_code_of(error)
                await context.abort(_CODES[code], sentence)
            return b""  # the empty response, which says that nothing was rejected

        return export

    async def _store(self, signal: Signal, body: bytes, context: Any) -> None:
        with Share(self._budget, "") as share:
            share.take(len(body))
            async with asyncio.timeout(CALLER_TIMEOUT_S):
                await self._authenticate(_texts(context.invocation_metadata()), _origin(context))
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                await self._otlp.store(signal, body, share)


def _origin(context: Any) -> Origin:
    names = context.auth_context().get("x509_common_name")
    return Origin(certificate=names[0].decode("utf-8", "replace") if names else None)


def _texts(metadata: Any) -> dict[str, str]:
    texts: dict[str, str] = {}
    for name, value in metadata or ():
        text = value.decode("latin-1") if isinstance(value, bytes) else value
        texts[name] = f"{texts[name]}, {text}" if name in texts else text
    return texts
