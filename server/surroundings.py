"""What a server needs around it: folders, addresses, a database. Says what is wrong with them, and what to do.

``serve`` looks before it makes anything, and ``doctor`` looks at everything; nothing here makes or changes what it looks
at. The sentences are for the operator's terminal: they name folders, hosts and settings, which no client may see. A
password is in none of them.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import shutil
import socket
import ssl
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, unquote, urlsplit, urlunsplit

import asyncpg

from lakehouse.catalog.connect import connect as connect_database
from lakehouse.errors import BackendUnavailableError
from lakehouse.storage import BlobStore, open_store
from server.data_folder import DataFolder, dangling_link, has_blobs
from server.settings import Settings, host_and_port, spelled

EMBEDDED_STORE: Final = "embedded"  # what the catalog calls it, so that a data folder may be moved
FREE_BYTES_MIN: Final = 1 << 30
OPEN_FILES_MIN: Final = 1024  # connections, workers, and the files of one query
OPEN_FILES_WANTED: Final = 1 << 16
ADDRESS_SPACE_BYTES_BASE: Final = (
    4 << 30
)  # what libraries, threads and the compiled code reserve, and mostly never touch
FILE_BYTES_MIN: Final = 1 << 30  # one file of a partition, of a result that spills, of the database
_NO_UNNAMED_FILES: Final = (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT)  # of kernels and file systems


class Problem(Exception):
    """What is wrong, and what to do about it."""


def words_of(error: Exception) -> str:
    """The sentence of an error; of the operating system's, what it says and of which file, without numbers."""
    if isinstance(error, OSError) and error.errno:
        return f"{_reason(error)}: {error.filename}" if error.filename else _reason(error)
    return str(error)


def check_view_sets(settings: Settings) -> None:
    """View sets that a setting names are there.

    Raises:
        Problem: One is not, such as one that is misspelt: what it is about would be kept, or go, against what is meant.
    """
    from views import default_registry

    known = {view.view_set for view in default_registry().views}
    if unknown := {name for name in settings.partition_retention if name is not None} - known:
        raise Problem(
            f"{spelled('partition_retention_days')} names {', '.join(sorted(unknown))}, which keeps no partitions:"
            f" those that do are {', '.join(sorted(known))}"
        )


# --- folders ----------------------------------------------------------------------------------------------------------


def store_folder(settings: Settings, folder: DataFolder) -> Path | None:
    """Where objects are kept, if the store is a folder."""
    if settings.store_url is None:
        return folder.store
    parts = urlsplit(settings.store_url)
    return Path(unquote(parts.path)) if parts.scheme == "file" else None


def store_cache(settings: Settings, folder: DataFolder) -> Path:
    """Where copies of the objects of a store that is far away are kept."""
    return settings.store_cache_dir or folder.object_cache


def opened_store(settings: Settings, folder: DataFolder) -> BlobStore:
    """The store of these settings, for ``store_errors`` to say what is wrong with it."""
    return open_store(
        settings.store_url or folder.store.as_uri(),
        cache=store_cache(settings, folder),
        cache_bytes_max=settings.store_cache_bytes_max,
        name=None if settings.store_url else EMBEDDED_STORE,
        s3=settings.s3,
    )


async def _has_blobs(settings: Settings, folder: DataFolder) -> bool:
    """Whether something was ever ingested into the store. One that is a folder need not be there yet."""
    place = store_folder(settings, folder)
    if place is not None:
        return has_blobs(place)
    with store_errors(settings, folder):
        store = opened_store(settings, folder)
        try:
            return not await store.is_empty("blobs")
        finally:
            await store.close()


def kernel_cache(folder: DataFolder) -> tuple[Path, str | None]:
    """Where compiled decoders are kept, and why not where ``NUMBA_CACHE_DIR`` says, if they are not."""
    named = os.environ.get("NUMBA_CACHE_DIR")
    if not named:
        return folder.numba_cache, None
    place = Path(named).absolute()
    trouble = _trouble_of(place)
    if trouble is None:
        return place, None
    return (
        folder.numba_cache,
        f"NUMBA_CACHE_DIR {named} cannot be written: {trouble}; the data folder keeps the decoders",
    )


def check_writable(what: str, folder: Path, setting: str) -> None:
    """See that something could be written into ``folder``, which need not be there yet.

    Raises:
        Problem: It could not.
    """
    trouble = _trouble_of(folder)
    if trouble:
        raise Problem(f"{what} {folder} cannot be written: {trouble}; choose another with {spelled(setting)}")


def free_space(folder: Path) -> str:
    """What is left on the disk of a folder that need not be there yet.

    Raises:
        Problem: Less than ``FREE_BYTES_MIN``.
    """
    free = shutil.disk_usage(_nearest(folder)).free
    if free < FREE_BYTES_MIN:
        raise Problem(f"{folder} has {_size(free)} free, less than {_size(FREE_BYTES_MIN)}: make room")
    return f"{_size(free)} free"


def check_ready_file(settings: Settings) -> None:
    """See that the ready file can be written, once the data folder is there.

    Raises:
        Problem: It cannot.
    """
    path = settings.ready_file
    if path is None:
        return
    name = f"the ready file {path}"
    folder, data_dir = path.absolute().parent, settings.data_dir.absolute()
    try:
        if path.exists() and not path.is_file():
            raise Problem(f"{name} is no regular file: name one that may be replaced, with {spelled('ready_file')}")
        if not folder.is_dir() and folder != data_dir and folder not in data_dir.parents:
            raise Problem(
                f"{name} cannot be written: there is no folder {folder}; make it, or change {spelled('ready_file')}"
            )
        trouble = _trouble_of(folder)
    except OSError as error:
        trouble = _reason(error)
    if trouble:
        raise Problem(f"{name} cannot be written: {trouble}; change {spelled('ready_file')}")


@contextlib.contextmanager
def store_errors(settings: Settings, folder: DataFolder) -> Iterator[None]:
    """While the store is opened, what went wrong is said of it."""
    try:
        yield
    except ValueError as error:  # of a URL that names none, or of one whose libraries are not installed
        raise Problem(f"{store_name(settings, folder)} cannot be used: {error}") from error
    except BackendUnavailableError as error:
        cause = error.__cause__
        place = store_folder(settings, folder)
        link = None if place is None else dangling_link(place)
        reason = link or (_reason(cause) if isinstance(cause, OSError) and cause.errno else str(error))
        raise Problem(
            f"{store_name(settings, folder)} cannot be used: {reason}; choose another with {spelled('store_url')}"
        ) from error


def store_name(settings: Settings, folder: DataFolder) -> str:
    """What an operator calls the store: its folder, or its URL without credentials."""
    place = store_folder(settings, folder)
    if place is not None:
        return f"the store's folder {place}"
    parts = urlsplit(str(settings.store_url))
    return f"the store {urlunsplit((parts.scheme, parts.netloc.rpartition('@')[2], parts.path, '', ''))}"


def _trouble_of(folder: Path) -> str | None:
    """Why nothing could be written there. A file without a name is written, which leaves no trace."""
    if (link := dangling_link(folder)) is not None:
        return link
    try:
        place = _nearest(folder)
        if not stat.S_ISDIR(place.stat().st_mode):
            return f"{place} is not a folder"
        fd = os.open(place, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno not in _NO_UNNAMED_FILES:
            return _reason(error)
        return None if os.access(place, os.W_OK | os.X_OK) else "permission denied"
    try:
        os.write(fd, b"x")
        os.fsync(fd)
    except OSError as error:
        return _reason(error)
    finally:
        os.close(fd)
    return None


def _nearest(path: Path) -> Path:
    """The path itself, or the first of its parents that is there."""
    for place in (path, *path.parents):
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            place.stat()
            return place
    return path


def _reason(error: OSError) -> str:
    return os.strerror(error.errno).lower() if error.errno else str(error)


def _size(size: int) -> str:
    if size < FREE_BYTES_MIN:
        return f"{size >> 20} MiB"
    return f"{size / (1 << 30):.{0 if size >= 10 << 30 else 1}f} GiB"


# --- what the system lets this process have ---------------------------------------------------------------------------


def check_process_limits(settings: Settings) -> None:
    """See that the process may have what a server needs; of open files it takes as many as it may.

    Raises:
        Problem: It may not: a limit that was set for it, or for everything that its user runs.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < OPEN_FILES_MIN:
        raise _too_little(f"{hard} open files", str(OPEN_FILES_MIN), "-n", "NOFILE")
    wanted = OPEN_FILES_WANTED if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES_WANTED)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    memory = settings.query_memory_bytes_max + settings.build_memory_bytes_max + ADDRESS_SPACE_BYTES_BASE
    for kind, what, needed, flag, name in (
        (resource.RLIMIT_AS, "{} of address space", memory, "-v", "AS"),
        (resource.RLIMIT_DATA, "{} of data", memory, "-d", "DATA"),
        (resource.RLIMIT_FSIZE, "files of {}", FILE_BYTES_MIN, "-f", "FSIZE"),
    ):
        limit = resource.getrlimit(kind)[0]
        if limit != resource.RLIM_INFINITY and limit < needed:
            raise _too_little(what.format(_size(limit)), _size(needed), flag, name)


def _too_little(given: str, needed: str, flag: str, name: str) -> Problem:
    return Problem(
        f"this process may have no more than {given}, a server needs {needed}: raise the limit"
        f" (ulimit {flag}, or Limit{name}= of its systemd unit)"
    )


# --- addresses --------------------------------------------------------------------------------------------------------


def check_address(setting: str, address: str) -> None:
    """See that somebody could listen there, by doing so for a moment.

    Raises:
        Problem: Nobody could; ``AddressTakenError`` if it is because somebody does.
    """
    host, port = host_and_port(address)
    with address_errors(setting, address):
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))


class AddressTakenError(Problem):
    """Somebody else listens there."""


@contextlib.contextmanager
def address_errors(setting: str, address: str) -> Iterator[None]:
    """What goes wrong while something begins to listen is said of the address and its setting."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise address_taken(setting, address) from error
        raise Problem(f"cannot listen on {address}: {_reason(error)}; change {spelled(setting)}") from error


def address_taken(setting: str, address: str) -> AddressTakenError:
    return AddressTakenError(
        f"{address} is taken: stop what listens there, or choose another address with {spelled(setting)}"
        " (port 0 takes a free one)"
    )


# --- the database -----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def database_errors_of(url: str | None) -> Iterator[None]:
    """What keeps a database from answering is said of its host; of an embedded one there is nothing more to say."""
    try:
        yield
    except BackendUnavailableError as error:
        if url is None:
            raise
        raise Problem(
            f"the database {_place_of(url)} is not available: {_cause(error)}; see {spelled('postgres_url')}"
        ) from error
    except asyncpg.PostgresError as error:
        place = "the embedded database" if url is None else f"the database {_place_of(url)}"
        raise Problem(f"{place} refuses what a server must do: {_first_line(error)}") from error


def _place_of(url: str) -> str:
    """Host, port and name: nothing of the user, nothing of a password."""
    parts = urlsplit(url)
    given = parse_qs(parts.query)
    hosts = parts.netloc.rpartition("@")[2] or given.get("host", ["localhost"])[0]
    if ":" not in hosts.rpartition("]")[2] and not hosts.startswith("/"):
        hosts = f"{hosts}:{given.get('port', ['5432'])[0]}"
    return f"{hosts}/{parts.path.lstrip('/')}"


def _cause(error: BackendUnavailableError) -> str:
    cause = error.__cause__
    if isinstance(cause, asyncpg.PostgresError):
        return _first_line(cause)  # its own words: no such database, no such role, wrong password
    if isinstance(cause, socket.gaierror):
        return "no such host"
    if isinstance(cause, TimeoutError):
        return "no answer in time"
    if isinstance(cause, ssl.SSLError):
        return f"no TLS: {cause.strerror}"
    if isinstance(cause, ConnectionRefusedError) or "Connect call failed" in str(cause):
        return "nobody listens there (connection refused)"
    if isinstance(cause, OSError) and cause.errno:
        return _reason(cause)
    return str(cause or error).removeprefix("the database is not available: ")


def _first_line(error: Exception) -> str:
    return str(error).split("\n", 1)[0]


async def refuse_lost_database(settings: Settings, folder: DataFolder) -> None:
    """See that a database without anything in it does not come to a store with blobs: none of them would be found.

    Raises:
        Problem: The database was lost, the store belongs to another, or the database at the given URL does not answer.
    """
    store = store_folder(settings, folder)
    # The store first: a server that makes the same lake at this moment puts nothing into it before it has its database.
    if not await _has_blobs(settings, folder) or not await _is_new(settings.postgres_url, folder):
        return
    if settings.postgres_url is None:
        database, restore = f"its database {folder.postgres} is gone", "restore that folder from the backup"
    else:
        place = _place_of(settings.postgres_url)
        database, restore = f"the database {place} is new", "restore it from the backup, or name the right one"
    found = f"the store {store} has blobs" if store else f"{store_name(settings, folder)} has blobs"
    anew = f"the store moved away: mv {store} {store}.old" if store else "another prefix in its URL"
    raise Problem(f"{found}, and {database}: none of them would be found. Either {restore}, or begin anew with {anew}")


async def _is_new(url: str | None, folder: DataFolder) -> bool:
    if url is None:
        return not folder.has_database
    with database_errors_of(url):
        connection = await connect_database(url, serves=False)
    try:
        return await connection.fetchval("SELECT to_regclass('schema_migrations') IS NULL") is True
    finally:
        await connection.close()
