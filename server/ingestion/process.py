"""Runs ingestion: makes its services, serves one listening socket, closes everything in reverse.

``serve_ingestion`` for a process that does other things as well; ``run_ingestion_process`` is the whole life of a
child. Any number of processes may serve one socket: they share nothing but the database and the store.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import resource
import signal
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import uvicorn
import uvloop

from lakehouse.catalog.connect import INGEST_LIMITS, close_pool, open_pool
from lakehouse.catalog.telemetry import BlockRows
from lakehouse.storage import S3Options, open_store
from server.access import Authenticate, anonymous
from server.access.tls import Certificates, TlsFiles
from server.access.writers import WritersSpec
from server.ingestion.app import App, IngestionServices, create_app
from server.ingestion.group_commit import GroupCommit
from server.ingestion.limits import BodyLimits
from server.ingestion.listener import BACKLOG
from server.ingestion.native import NativeIngestion
from server.ingestion.otlp import OtlpIngestion
from server.ingestion.protocol import (
    CONNECTIONS_MAX,
    CONNECTIONS_PER_PEER_MAX,
    KEEP_ALIVE_S,
    Connections,
    guarded_by,
)

POOL_CONNECTIONS_MAX: Final = 4  # of each process, beside those of the group commit
FILES_MIN: Final = 256  # what is no connection of a sender
SHUTDOWN_S: Final = 25.0
PR_SET_PDEATHSIG: Final = 1


@dataclass(frozen=True, slots=True)
class IngestionSettings:
    """What an ingestion process must know; plain values that can be sent to a child."""

    database_url: str
    store_url: str
    object_cache: Path
    store_name: str | None = None
    s3: S3Options = field(default_factory=S3Options)
    limits: BodyLimits = field(default_factory=BodyLimits)
    otlp_grpc_address: str | None = None
    writers: WritersSpec | None = None  # ``None``: senders need no key
    tls: TlsFiles | None = None
    connections_max: int = CONNECTIONS_MAX
    connections_per_peer_max: int = CONNECTIONS_PER_PEER_MAX


@contextlib.asynccontextmanager
async def ingestion_services(settings: IngestionSettings) -> AsyncIterator[IngestionServices]:
    """The services of one process, closed in reverse order. The database need not be up yet."""
    async with contextlib.AsyncExitStack() as closing:
        store = open_store(settings.store_url, cache=settings.object_cache, name=settings.store_name, s3=settings.s3)
        closing.push_async_callback(store.close)
        pool = await open_pool(settings.database_url, connections_max=POOL_CONNECTIONS_MAX, limits=INGEST_LIMITS)
        closing.push_async_callback(close_pool, pool)
        rows = BlockRows(settings.database_url)
        closing.push_async_callback(rows.close)
        blocks = GroupCommit(store, rows)
        closing.push_async_callback(blocks.close)
        native = NativeIngestion(pool, blocks)
        closing.callback(native.close)
        otlp = OtlpIngestion(pool, blocks)
        closing.callback(otlp.close)
        yield IngestionServices(pool=pool, store=store, blocks=blocks, native=native, otlp=otlp, limits=settings.limits)


async def serve_ingestion(
    listener: socket.socket,
    settings: IngestionSettings,
    *,
    stop: asyncio.Event,
    on_ready: Callable[[], None] | None = None,
) -> None:
    """Serve until ``stop`` is set, then finish what has been accepted. Handles no signals."""
    async with contextlib.AsyncExitStack() as closing:
        services = await closing.enter_async_context(ingestion_services(settings))
        authenticate: Authenticate = anonymous
        if settings.writers is not None:
            authenticate = await closing.enter_async_context(settings.writers.identities(services.pool))
        certificates = None if settings.tls is None else Certificates(settings.tls)
        if settings.otlp_grpc_address is not None:
            from server.ingestion.otlp_grpc import OtlpGrpcServer  # gRPC: only where somebody wants it

            otlp_grpc = OtlpGrpcServer(
                services.otlp,
                settings.otlp_grpc_address,
                authenticate,
                None if certificates is None else certificates.grpc_credentials(),
            )
            await otlp_grpc.start()
            closing.push_async_callback(otlp_grpc.stop, SHUTDOWN_S)
        await serve_application(
            listener,
            create_app(services, authenticate),
            Connections(_within_open_files(settings.connections_max), settings.connections_per_peer_max),
            stop=stop,
            on_ready=on_ready,
            certificates=certificates,
        )


async def serve_application(
    listener: socket.socket,
    app: App,
    connections: Connections | None = None,
    *,
    stop: asyncio.Event,
    on_ready: Callable[[], None] | None = None,
    drain_s: float = SHUTDOWN_S,
    certificates: Certificates | None = None,
) -> None:
    """Serve any application until ``stop`` is set; requests in progress then have ``drain_s``."""
    server = _Server(
        uvicorn.Config(
            app,
            http=guarded_by(connections or Connections()),
            ws="none",
            ssl_context_factory=None if certificates is None else _contexts(certificates),
            lifespan="off",
            loop="none",
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=drain_s,  # type: ignore[arg-type]  # declared as a whole number, used as any
            backlog=BACKLOG,
        ),
        on_ready,
    )
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait((serving, stopping), return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
        server.should_exit = True
        await serving


def _contexts(certificates: Certificates) -> Callable[..., ssl.SSLContext]:
    """What uvicorn asks for a context, with its own settings, of which none is used."""
    return lambda *_: certificates.context()


def _within_open_files(connections_max: int) -> int:
    """Where the process may have few open files, fewer connections: the rest is for the store, the database and itself."""
    open_files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return connections_max if open_files == resource.RLIM_INFINITY else min(connections_max, open_files - FILES_MIN)


def run_ingestion_process(
    listener: socket.socket,
    settings: IngestionSettings,
    parent_pid: int,
    on_ready: Callable[[], None] | None = None,
) -> None:
    """The main function of a child: serves until SIGTERM, and ends with its parent, however that ends."""
    _end_with_parent(parent_pid)
    uvloop.run(_serve_until_signal(listener, settings, on_ready))


async def _serve_until_signal(
    listener: socket.socket, settings: IngestionSettings, on_ready: Callable[[], None] | None
) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await serve_ingestion(listener, settings, stop=stop, on_ready=on_ready)


def _end_with_parent(parent_pid: int) -> None:
    libc: Any = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGTERM), *(ctypes.c_ulong(0),) * 3)
    if os.getppid() != parent_pid:
        raise SystemExit(1)  # it died before we asked to be told


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None] | None) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._on_ready is not None:
            self._on_ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals belong to whoever runs the loop."""
        yield
