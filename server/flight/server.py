"""The Flight SQL server: gRPC options, start, health, drain. Knows no command."""

from __future__ import annotations

import asyncio
import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc.aio

from server.access import Authenticate, anonymous
from server.flight.handles import HandleSealer
from server.flight.health import Health
from server.flight.open_calls import OpenCalls
from server.flight.service import FlightService
from server.query.ports import QueryService
from server.query.running import RunningStatements


@dataclass(frozen=True, slots=True)
class FlightLimits:
    """What one server takes from its clients. Statement length and running statements are the query service's."""

    message_bytes_max: int = 16 << 20  # of a received message
    metadata_bytes_max: int = 64 << 10  # of a request's headers: room for a fat token, refused above
    calls_per_connection_max: int = 256  # at once, those included whose results are half read
    calls_max: int = 2_000  # the same, of all connections
    silent_call_s: float = 30.0  # a client that owes a message, or does not take its answer, is waited for so long
    idle_connection_s: float = 1_800.0  # a connection without a call is closed; clients open a new one by themselves
    statements_per_identity_max: int = 256  # results that one caller reads, or waits for, at once
    stalled_reader_s: float = 1_800.0  # a write that waits longer ends the statement
    stalled_reader_while_refused_s: float = 30.0  # the same, while another statement of the caller is refused for it


_KEEPALIVE_MS: Final = 60_000  # load balancers cut idle connections after 4 to 6 minutes
_KEEPALIVE_TIMEOUT_MS: Final = 20_000
_CLIENT_PING_INTERVAL_MIN_MS: Final = 10_000  # stock servers cut a client that pings more often than every 5 minutes
_HANDSHAKE_TIMEOUT_MS: Final = 20_000  # of a connection that never begins to speak HTTP/2
# Above what one connection may have open: a call beyond HTTP/2's own limit would wait in the client without a word.
_STREAMS_PER_CONNECTION_MAX: Final = 4_096
_CONNECTION_AGE_MAX_MS: Final = 3_600_000  # so that balancers may rebalance; running calls finish


class FlightServer:
    """One listening server on the running event loop."""

    def __init__(
        self,
        queries: QueryService,
        *,
        address: str,
        handle_key: bytes,
        product_version: str,
        limits: FlightLimits = FlightLimits(),
        authenticate: Authenticate = anonymous,
        reuse_port: bool = False,
        open_to_anybody: bool = False,
        own_socket: Path | None = None,
        credentials: Any = None,
    ) -> None:
        """``address`` is ``host:port``, port 0 for any, or ``unix:/path``. ``handle_key`` is one per installation.

        Args:
            open_to_anybody: The operator wants whoever reaches the address to ask.
            credentials: Of TLS, from gRPC; without them the address speaks plaintext.
            own_socket: A socket besides, which nobody but this user (and root) can open.

        Raises:
            ValueError: The address is not of this machine alone and nobody is asked who they are, or the key is too short.
        """
        if authenticate is anonymous and not open_to_anybody:
            _refuse_other_than_loopback(address)
        self._address = address
        self._running = RunningStatements(
            per_identity_max=limits.statements_per_identity_max,
            stall_limit_s=limits.stalled_reader_s,
            stall_limit_while_refused_s=limits.stalled_reader_while_refused_s,
        )
        self._calls = OpenCalls(
            per_peer_max=limits.calls_per_connection_max, all_max=limits.calls_max, silence_s=limits.silent_call_s
        )
        self._service = FlightService(
            queries,
            HandleSealer(handle_key),
            self._running,
            self._calls,
            product_version=product_version,
            authenticate=authenticate,
        )
        self._limits = limits
        self._reuse_port = reuse_port
        self._own_socket = own_socket
        self._credentials = credentials
        self._health = Health(limits.silent_call_s)
        self._server: Any = None
        self._watches: list[asyncio.Task[None]] = []
        self._port = 0

    @property
    def port(self) -> int:
        """The bound port; 0 before ``start``."""
        return self._port

    @property
    def open_calls(self) -> int:
        return len(self._calls)

    @property
    def running_statements(self) -> int:
        return len(self._running)

    async def start(self) -> None:
        """Listen. Health says "not serving" until ``set_serving``."""
        self._server = grpc.aio.server(options=_grpc_options(self._limits, reuse_port=self._reuse_port))
        self._server.add_generic_rpc_handlers((self._service.handler(), self._health.handler()))
        if self._credentials is None:
            self._port = self._server.add_insecure_port(self._address)
        else:
            self._port = self._server.add_secure_port(self._address, self._credentials)
        if self._own_socket is not None:
            _add_own_socket(self._server, self._own_socket)
        await self._server.start()
        self._watches = [
            asyncio.create_task(self._running.watch(), name="flight-stalled-readers"),
            asyncio.create_task(self._calls.watch(), name="flight-silent-calls"),
            asyncio.create_task(self._health.watch_clients(), name="flight-silent-health-calls"),
        ]

    def set_serving(self, serving: bool) -> None:
        """What health says: true once everything a query needs answers."""
        self._health.set_serving(serving)

    async def stop(self, grace_s: float) -> None:
        """Drain: refuse new calls, let running ones end within the grace, then cut them.

        May be called again while it waits, with a shorter grace, and then cuts sooner.
        """
        if self._server is None:
            return
        self._health.set_serving(False)
        await self._server.stop(grace_s)
        for watch in self._watches:
            watch.cancel()
        await asyncio.gather(*self._watches, return_exceptions=True)
        await self._service.closed()


def _grpc_options(limits: FlightLimits, *, reuse_port: bool) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", limits.message_bytes_max),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_metadata_size", limits.metadata_bytes_max),
        ("grpc.absolute_max_metadata_size", limits.metadata_bytes_max * 2),
        ("grpc.max_concurrent_streams", _STREAMS_PER_CONNECTION_MAX),
        ("grpc.keepalive_time_ms", _KEEPALIVE_MS),
        ("grpc.keepalive_timeout_ms", _KEEPALIVE_TIMEOUT_MS),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", _CLIENT_PING_INTERVAL_MIN_MS),
        ("grpc.server_handshake_timeout_ms", _HANDSHAKE_TIMEOUT_MS),
        ("grpc.max_connection_idle_ms", max(1, round(limits.idle_connection_s * 1e3))),
        ("grpc.max_connection_age_ms", _CONNECTION_AGE_MAX_MS),
        ("grpc.so_reuseport", int(reuse_port)),
    ]


def _add_own_socket(server: Any, path: Path) -> None:
    """A socket that is closed to others from its first moment on."""
    before = os.umask(0o177)
    try:
        server.add_insecure_port(f"unix:{path}")
    finally:
        os.umask(before)


def _refuse_other_than_loopback(address: str) -> None:
    if address.startswith("unix:"):
        return
    host = address.rpartition(":")[0].strip("[]")
    if host == "localhost":
        return
    try:
        if ipaddress.ip_address(host).is_loopback:
            return
    except ValueError:
        pass
    raise ValueError(f"cannot listen on {address!r}: callers are not identified, so only loopback addresses are served")
