"""Builds every object of a server once, in order, and closes them in reverse: ``lakeflight serve`` in code.

    data folder → (database ‖ worker processes) → store → ingestion → catalog → materializer → maintenance → Flight → ready

What takes long starts side by side: the database, and the worker processes with their libraries and kernels. What no role of
this server needs is left out.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import secrets
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import structlog

from lakeflight.version import VERSION
from lakehouse.buckets.freshen import MaterializerLimits
from lakehouse.buckets.materialize import Materializer
from lakehouse.catalog.connect import database_errors, open_pool
from lakehouse.catalog.keys import StoredKeys
from lakehouse.catalog.metadata import MetadataExport
from lakehouse.catalog.migrate import migrate
from lakehouse.catalog.partitions import PartitionCatalog
from lakehouse.catalog.settings import shared_value
from lakehouse.catalog.tasks import SessionLeadership
from lakehouse.errors import InternalError
from lakehouse.jobs.executor import LocalExecutor
from lakehouse.model import KeyUse
from lakehouse.sources import SourceRegistry
from lakehouse.storage import BlobStore
from server.access import Authenticate, Identities, anonymous
from server.access.identities import Tokens
from server.access.issuers import issuers_of
from server.access.keys import Keyring, digest_of, keyring, new_key
from server.access.self_signed import self_signed
from server.access.tls import Certificates, TlsFiles, trusting
from server.access.writers import WritersSpec
from server.administration import Administration
from server.children import IngestionProcesses, IngestionSpec
from server.data_folder import DataFolder
from server.embedded_postgres import EmbeddedPostgres
from server.flight.server import FlightLimits, FlightServer
from server.heap import give_back, keep_frames
from server.ingestion.listener import listen, reserve
from server.maintenance import Maintenance
from server.query import LakeQueryService
from server.retention import Kept
from server.settings import Role, Settings, host_and_port, spelled
from server.surroundings import (
    address_errors,
    address_taken,
    check_address,
    check_process_limits,
    check_ready_file,
    check_view_sets,
    check_writable,
    database_errors_of,
    kernel_cache,
    opened_store,
    refuse_lost_database,
    store_cache,
    store_errors,
    store_folder,
)
from server.workers.executor import LocalQueryExecutor
from server.workers.pool import BuildPoolLimits, BuildWorkerPool, QueryPoolLimits, QueryWorkerPool
from server.workers.spool import SpoolLimits
from views import default_registry

if TYPE_CHECKING:
    from lakeflight.telemetry.sink import HttpSink

log = structlog.get_logger(__name__)

BUILDERS_AT_ONCE_MAX: Final = 8  # buckets under construction
QUERY_CONNECTIONS_MAX: Final = 16
RENEWING_CONNECTIONS_MAX: Final = 2  # leases and write intents are renewed however busy the others are
HANDLE_KEY_BYTES: Final = 32
OTLP_GRPC_PORT: Final = 4317  # where exporters send if nobody tells them
PLANNING_TIMEOUT_MAX_S: Final = 10.0
WARM_UP_NOTICE_S: Final = 1.5  # a start that takes longer says why


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where a running server answers."""

    flight: str | None  # each is there if its role is
    http: str | None
    otlp_grpc: str | None = None  # where OTLP over gRPC is served, if it is

    def as_json(self) -> str:
        known = {name: address for name, address in asdict(self).items() if address is not None}
        return json.dumps({**known, "pid": os.getpid()})


async def serve(settings: Settings) -> None:
    """Run a server until SIGTERM or SIGINT; a second signal ends the waiting for running statements.

    A signal that comes before the server is ready ends its start, whatever that waits for.

    Raises:
        InternalError: One of its own tasks ended, and the server with it: better restarted as a whole than half a server.
    """
    keep_frames()
    loop = asyncio.get_running_loop()
    up, stop, hurry = asyncio.Event(), asyncio.Event(), asyncio.Event()
    failed: asyncio.Future[str] = loop.create_future()

    async def run() -> None:
        async with running(settings, hurry, failed) as addresses:
            up.set()
            log.info("server.ready", flight=addresses.flight, http=addresses.http)
            await stop.wait()
            log.info("server.stopping")

    server = asyncio.create_task(run())

    def end() -> None:
        if stop.is_set():
            return
        stop.set()
        if not up.is_set():
            log.info("server.stopping")
            server.cancel()

    def signalled() -> None:
        (hurry.set if stop.is_set() else end)()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, signalled)
    failed.add_done_callback(lambda _: end())
    try:
        await server
    except asyncio.CancelledError:
        if not stop.is_set():
            raise
    except Exception:
        if up.is_set() or not stop.is_set():
            raise
        log.warning("server.start_abandoned", exc_info=True)  # what the end of the start broke off
    if failed.done():
        raise InternalError(f"the server stopped because its {failed.result()} ended; the log says why, start it again")


@asynccontextmanager
async def running(
    settings: Settings, hurry: asyncio.Event | None = None, failed: asyncio.Future[str] | None = None
) -> AsyncIterator[Addresses]:
    """A server for the length of a block, with the roles that it is told; ``failed`` gets the name of a task that ends before."""
    started = time.monotonic()
    async with AsyncExitStack() as closing:
        check_process_limits(settings)
        check_ready_file(settings)
        check_view_sets(settings)
        parts = _Parts(settings, closing, failed)
        folder = parts.folder = _own_folder(settings, closing)
        parts.tls = parts.certificate()
        if Role.FLIGHT in settings.roles_served:
            check_address("flight_address", settings.flight_address)
        ingress = _Ingress.take(settings, closing) if Role.INGESTION in settings.roles_served else None
        if (place := store_folder(settings, folder)) is not None:
            check_writable("the store's folder", place, "store_url")
        await refuse_lost_database(settings, folder)

        kernels, trouble = kernel_cache(folder)
        if trouble is not None:
            log.warning("server.kernel_cache", reason=trouble)
        environment = {**os.environ, "NUMBA_CACHE_DIR": str(kernels)}
        lake_roles = settings.roles_served & {Role.FLIGHT, Role.MAINTENANCE}  # those that make partitions
        queries_pool = await parts.query_workers(environment) if Role.FLIGHT in lake_roles else None
        builders = await parts.build_workers(environment) if lake_roles else None
        database_url = await parts.database()
        store = await parts.store()
        ready: list[Awaitable[object]] = []
        if ingress is not None:
            ready.append(parts.ingestion(ingress, database_url, store.name))
        flight = None
        if builders is not None:
            lake = await parts.lake(database_url, store, builders)
            ready.append(builders.ready())
            if Role.MAINTENANCE in lake_roles:
                parts.maintenance(lake)
            if queries_pool is not None:
                ready.append(queries_pool.ready())
                flight = await parts.flight(lake, queries_pool)
                closing.push_async_callback(_drain, flight, settings.drain_s, hurry)
            notice = asyncio.create_task(_explain_long_start(kernels))
            closing.push_async_callback(_cancelled, notice)
            await asyncio.gather(*ready)
            notice.cancel()
        else:
            await asyncio.gather(*ready)
        if flight is not None:
            flight.set_serving(True)

        parts.watch("keeper of the heap", give_back())
        addresses = _addresses(settings, flight, ingress)
        for announcement in _announcements(settings, folder):
            _announce(announcement, addresses)
            closing.callback(announcement.unlink, missing_ok=True)
        if (
            settings.self_telemetry
            and (endpoint := settings.telemetry_url or _own_ingestion(settings, addresses)) is not None
        ):
            closing.callback(_watch_itself(parts.own_sink(endpoint)))
            closing.push_async_callback(_cancelled, asyncio.create_task(_measure_itself(store)))
        log.info("server.started", seconds=round(time.monotonic() - started, 2))
        yield addresses


def _own_ingestion(settings: Settings, addresses: Addresses) -> str | None:
    """Where it may send its own telemetry: it has no certificate of an authority that clients need one of."""
    if settings.tls_client_ca_file is not None:
        log.warning("server.no_self_telemetry", reason="clients need a certificate", setting=spelled("telemetry_url"))
        return None
    return addresses.http


def _own_folder(settings: Settings, closing: AsyncExitStack) -> DataFolder:
    folder = DataFolder(settings.data_dir, beside=() if settings.ready_file is None else (settings.ready_file,))
    folder.acquire()
    closing.callback(folder.release)
    for announcement in _announcements(settings, folder):
        announcement.unlink(missing_ok=True)  # of a server that was killed
    return folder


def _addresses(settings: Settings, flight: FlightServer | None, ingress: _Ingress | None) -> Addresses:
    http = "https" if settings.has_tls else "http"
    flight_host = host_and_port(settings.flight_address)[0]
    otlp_grpc = None if ingress is None else ingress.otlp_grpc
    return Addresses(
        flight=None if flight is None else url_of("grpc+tls" if settings.has_tls else "grpc", flight_host, flight.port),
        http=None if ingress is None else url_of(http, *ingress.http.getsockname()[:2]),
        otlp_grpc=None if otlp_grpc is None else url_of(http, *otlp_grpc.getsockname()[:2]),
    )


@dataclass(frozen=True, slots=True)
class _Ingress:
    """The ports of ingestion, taken before anything else is made."""

    http: socket.socket
    otlp_grpc: socket.socket | None

    @classmethod
    def take(cls, settings: Settings, closing: AsyncExitStack) -> _Ingress:
        with address_errors("http_address", settings.http_address):
            http = listen(*host_and_port(settings.http_address))
        closing.callback(http.close)
        otlp_grpc = _reserve_otlp_grpc(settings, http.getsockname()[0])
        if otlp_grpc is not None:
            closing.callback(otlp_grpc.close)
        return cls(http, otlp_grpc)


@dataclass(frozen=True, slots=True)
class _LakeParts:
    """What queries and maintenance work with."""

    database_url: str
    connections: Any
    store: BlobStore
    catalog: PartitionCatalog
    materializer: Materializer
    registry: SourceRegistry


@dataclass(slots=True)
class _Parts:
    """Makes the parts of a server. Each is closed when ``closing`` is, in reverse."""

    settings: Settings
    closing: AsyncExitStack
    failed: asyncio.Future[str] | None
    folder: DataFolder = field(init=False)
    tls: TlsFiles | None = field(default=None, init=False)
    own_key: str = field(default_factory=partial(new_key, KeyUse.WRITER), repr=False)  # of its telemetry, for its life

    def certificate(self) -> TlsFiles | None:
        """The files of TLS, which are good now; ``None`` where it is not spoken."""
        settings = self.settings
        if settings.tls_self_signed:
            addresses = (settings.flight_address, settings.http_address)
            files = self_signed(self.folder.tls, [host_and_port(address)[0] for address in addresses])
        elif settings.tls_cert_file is not None and settings.tls_key_file is not None:
            files = TlsFiles(settings.tls_cert_file, settings.tls_key_file, settings.tls_client_ca_file)
        else:
            return None
        Certificates(files)
        return files

    def own_sink(self, endpoint: str) -> HttpSink:
        """Where its own telemetry goes."""
        from lakeflight.telemetry.sink import HttpSink

        if self.settings.telemetry_url is not None:
            return HttpSink(endpoint, api_key=self.settings.telemetry_key)
        context = None if self.tls is None else partial(trusting, self.tls.certificate)
        return HttpSink(endpoint, api_key=self.own_key, context=context)

    @property
    def writers(self) -> WritersSpec | None:
        """Who may send; ``None`` where everybody may."""
        if not self.settings.requires_identities:
            return None
        of_own = Keyring({digest_of(self.own_key.encode()): "lakeflight"})
        return WritersSpec(of_own | keyring(self.settings.writer_keys))

    async def readers(self, connections: Any) -> Authenticate:
        """Finds out who asks."""
        if not self.settings.requires_identities:
            return anonymous
        identities = Identities(
            KeyUse.READER,
            keyring(self.settings.reader_keys),
            StoredKeys(connections, KeyUse.READER),
            tokens=_tokens(self.settings),
            admins=self.settings.admins_named,
        )
        return await self.closing.enter_async_context(identities.noting_use())

    async def query_workers(self, environment: Mapping[str, str]) -> QueryWorkerPool:
        pool = QueryWorkerPool(
            _query_limits(self.settings, self.folder.scratch),
            engine_options={"threads": self.settings.query_threads},
            environment=environment,
        )
        self.closing.push_async_callback(pool.close)
        await pool.start()
        return pool

    async def build_workers(self, environment: Mapping[str, str]) -> BuildWorkerPool:
        pool = BuildWorkerPool(_build_limits(self.settings), environment=environment)
        self.closing.push_async_callback(pool.close)
        await pool.start()
        return pool

    async def database(self) -> str:
        """The URL of the database, which has the schema of this version."""
        url = self.settings.postgres_url
        if url is None:
            postgres = EmbeddedPostgres(self.folder.postgres)
            self.closing.push_async_callback(postgres.stop)
            await postgres.start()
            url = postgres.url
            self.watch("database supervisor", postgres.supervise())
        with database_errors_of(self.settings.postgres_url):
            await migrate(url)
        return url

    async def store(self) -> BlobStore:
        with store_errors(self.settings, self.folder):
            store = opened_store(self.settings, self.folder)
            self.closing.push_async_callback(store.close)
            await store.prepare()
        return store

    def ingestion(self, ingress: _Ingress, database_url: str, store_name: str) -> asyncio.Task[None]:
        """The start of its processes."""
        settings = self.settings
        processes = IngestionProcesses(
            ingress.http,
            IngestionSpec(
                database_url,
                settings.store_url or self.folder.store.as_uri(),
                store_name,
                store_cache(settings, self.folder),
                settings.log_level,
                None if ingress.otlp_grpc is None else _host_and_port(*ingress.otlp_grpc.getsockname()[:2]),
                settings.s3,
                self.writers,
                self.tls,
            ),
            settings.http_processes,
        )
        self.closing.push_async_callback(processes.stop, settings.drain_s)
        starting = asyncio.create_task(processes.start())
        self.closing.push_async_callback(_cancelled, starting)
        return starting

    async def lake(self, database_url: str, store: BlobStore, builders: BuildWorkerPool) -> _LakeParts:
        connections = await open_pool(database_url, connections_max=QUERY_CONNECTIONS_MAX, connections_min=2)
        self.closing.push_async_callback(_closed_soon, connections)
        renewing = await open_pool(database_url, connections_max=RENEWING_CONNECTIONS_MAX, connections_min=1)
        self.closing.push_async_callback(_closed_soon, renewing)
        catalog = PartitionCatalog(connections, store.name, renewing)
        materializer = Materializer(
            catalog,
            store,
            LocalExecutor(store, builders, _ahead_bytes_max(self.settings, store)),
            self.folder.scratch,
            _materializer_limits(self.settings, min(BUILDERS_AT_ONCE_MAX, self.settings.build_workers + 2)),
            prune=_prunes(),
        )
        return _LakeParts(database_url, connections, store, catalog, materializer, default_registry())

    def maintenance(self, lake: _LakeParts) -> None:
        leadership = SessionLeadership(lake.database_url)
        self.closing.push_async_callback(leadership.close)
        maintenance = Maintenance(
            lake.registry,
            lake.catalog,
            lake.materializer,
            lake.store,
            self.settings.maintenance_interval_s,
            self.settings.retired_grace_s,
            _kept(self.settings),
            leadership=leadership,
        )
        self.watch("housekeeping", maintenance.run())

    async def flight(self, lake: _LakeParts, workers: QueryWorkerPool) -> FlightServer:
        settings, registry = self.settings, lake.registry
        administration = Administration(registry, lake.catalog, lake.materializer)
        queries = LakeQueryService(
            registry,
            lake.materializer,
            LocalQueryExecutor(
                workers,
                lake.store,
                MetadataExport(lake.connections, settings.metadata_bytes_max),
                self.folder.scratch,
                tables={name: registry.declarations[name] for name in registry.tables},
                sources=registry.declarations,
                answers={
                    "lakeflight_retire_partitions": administration.retire_by_metadata,
                    "retire_partition_by_file": administration.retire_by_file,
                },
            ),
            administration=administration,
            statement_timeout_s=settings.statement_timeout_s,
            prune=_prunes(),
        )
        flight = FlightServer(
            queries,
            address=settings.flight_address,
            handle_key=await _handle_key(lake.connections),
            product_version=VERSION,
            authenticate=await self.readers(lake.connections),
            open_to_anybody=settings.open_to_anybody,
            own_socket=settings.flight_socket,
            credentials=None if self.tls is None else Certificates(self.tls).grpc_credentials(),
            limits=FlightLimits(
                stalled_reader_s=settings.stall_timeout_s,
                statements_per_identity_max=settings.statements_per_identity_max,
                silent_call_s=settings.silent_call_timeout_s,
                idle_connection_s=settings.idle_connection_timeout_s,
                calls_per_connection_max=settings.calls_per_connection_max,
                calls_max=settings.calls_max,
            ),
        )
        try:
            await flight.start()
        except RuntimeError as error:  # of gRPC, whose text has the address and an error number
            raise address_taken("flight_address", settings.flight_address) from error
        return flight

    def watch(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Run what is to run until the server ends."""
        self.closing.push_async_callback(_cancelled, _watched(name, work, self.failed))


def _tokens(settings: Settings) -> Tokens | None:
    """Who knows tokens of issuers, if any are believed."""
    if settings.oidc_issuers is None:
        return None
    from server.access.tokens import IssuedTokens  # its library: only where somebody wants it

    return IssuedTokens(issuers_of(settings.oidc_issuers))


def _prunes() -> bool:
    """Tests compare with a server that reads all that there is."""
    return os.environ.get("LAKEFLIGHT_TEST_UNPRUNED") != "1"


def _query_limits(settings: Settings, scratch: Path) -> QueryPoolLimits:
    return QueryPoolLimits(
        slots=settings.query_workers,
        short_slots=settings.short_query_workers,
        statement_timeout_s=settings.statement_timeout_s,
        # The engine folds constants while it binds, so planning can be made to take as long as running.
        inspect_timeout_s=min(PLANNING_TIMEOUT_MAX_S, settings.statement_timeout_s),
        memory_bytes=settings.query_memory_bytes_max,
        spill_folder=str(scratch / "spill"),
        spill_bytes_max=settings.query_spill_bytes_max,
        stall_max_s=settings.stall_timeout_s,
        spool=SpoolLimits(scratch, settings.spool_bytes_max, settings.spool_bytes_per_identity_max),
    )


def _build_limits(settings: Settings) -> BuildPoolLimits:
    return BuildPoolLimits(slots=settings.build_workers, memory_bytes=settings.build_memory_bytes_max)


def _ahead_bytes_max(settings: Settings, store: BlobStore) -> int | None:
    """Half of the copies' room at most is payloads that wait for a decoder: the rest is for what statements read."""
    return None if store.cache_figures() is None else settings.store_cache_bytes_max // 2


def _materializer_limits(settings: Settings, buckets_at_once: int) -> MaterializerLimits:
    return MaterializerLimits(
        buckets_at_once=buckets_at_once,
        freshen_bytes_max=settings.freshen_bytes_max,
        freshen_s_max=settings.freshen_timeout_s,
        margin_s=settings.event_margin_s,
    )


def _kept(settings: Settings) -> Kept:
    of_view_sets = {name: _period(days) for name, days in settings.partition_retention.items() if name is not None}
    return Kept(_period(settings.block_retention_days), _period(settings.partition_retention[None]), of_view_sets)


def _period(days: float | None) -> timedelta | None:
    return None if days is None else timedelta(days=days)


async def _handle_key(pool: Any) -> bytes:
    """The key that seals prepared handles: the same for all servers of a lake, made by the first."""
    with database_errors():
        return await shared_value(pool, "handle_key", secrets.token_bytes(HANDLE_KEY_BYTES))


async def _explain_long_start(kernel_cache: Path) -> None:
    if any(kernel_cache.rglob("*.nbi")):
        return
    await asyncio.sleep(WARM_UP_NOTICE_S)
    print(
        "compiling the decoders for this machine (once per machine and version, about half a minute) ...",
        file=sys.stderr,
        flush=True,
    )


async def _drain(flight: FlightServer, grace_s: float, hurry: asyncio.Event | None) -> None:
    stopping = asyncio.create_task(flight.stop(grace_s))
    if hurry is not None:
        hurried = asyncio.create_task(hurry.wait())
        await asyncio.wait({stopping, hurried}, return_when=asyncio.FIRST_COMPLETED)
        hurried.cancel()
        if not stopping.done():
            await flight.stop(0)
    await stopping


def _watch_itself(sink: HttpSink) -> Any:
    """The server's own log lines and metrics go into its own lake, like any program's."""
    from lakeflight.telemetry import Telemetry  # once the server answers: it takes a while to load

    telemetry = Telemetry(sink.endpoint, exe="lakeflight", properties={"version": VERSION}, sink=sink)
    telemetry.install()
    handler = telemetry.logging_handler()
    logging.getLogger().addHandler(handler)

    def close() -> None:
        logging.getLogger().removeHandler(handler)
        telemetry.close()

    return close


async def _measure_itself(store: BlobStore) -> None:
    from server.own_metrics import record_cache  # for the same reason

    await record_cache(store)


def _watched(name: str, work: Coroutine[Any, Any, None], failed: asyncio.Future[str] | None) -> asyncio.Task[None]:
    """A task that is to run until it is cancelled."""
    task = asyncio.create_task(work)

    def ended(task: asyncio.Task[None]) -> None:
        if task.cancelled():
            return
        log.error("server.task_ended", task=name, exc_info=task.exception())
        if failed is not None and not failed.done():
            failed.set_result(name)

    task.add_done_callback(ended)
    return task


async def _cancelled(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError, Exception):
        await task


async def _closed_soon(pool: Any) -> None:
    """A pool waits for its connections to come back; a builder that hangs must not hold up the end."""
    try:
        async with asyncio.timeout(5):
            await pool.close()
    except TimeoutError:
        pool.terminate()


def _announcements(settings: Settings, folder: DataFolder) -> list[Path]:
    """The files that say where a running server answers."""
    return [folder.announcement] if settings.ready_file is None else [folder.announcement, settings.ready_file]


def _announce(path: Path, addresses: Addresses) -> None:
    """Written whole, or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(addresses.as_json())
    temporary.replace(path)


def _reserve_otlp_grpc(settings: Settings, http_host: str) -> socket.socket | None:
    """The port of OTLP over gRPC, taken for the ingestion processes; ``None`` where nobody asked for it and it is taken."""
    address = settings.otlp_grpc_address
    if address is not None:
        with address_errors("otlp_grpc_address", address):
            return reserve(*host_and_port(address))
    _, http_port = host_and_port(settings.http_address)
    try:
        return reserve(http_host, OTLP_GRPC_PORT if http_port else 0)
    except OSError as error:
        log.warning("server.no_otlp_grpc", port=OTLP_GRPC_PORT, error=str(error), setting=spelled("otlp_grpc_address"))
        return None


def url_of(scheme: str, host: str, port: int) -> str:
    return f"{scheme}://{_host_and_port(host, port)}"


def _host_and_port(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
