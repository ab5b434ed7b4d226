"""The data folder: where things are below it, that it is a lake's own, and that one server owns it.

A folder with something else in it is refused: nothing is made beside a user's files, and none of them is deleted. A server
that finds the folder owned refuses to start and names the owner. The lock is the kernel's: it ends with the process,
however that ends, so nothing stale can be left behind.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import stat
import time
from collections.abc import Collection
from pathlib import Path
from typing import Final

from server.settings import spelled

LOCK_FILE: Final = "lock"
LOCK_BYTES_MAX: Final = 32
LOCK_TRIES: Final = 5  # somebody may only be looking who owns it
LOCK_PAUSE_S: Final = 0.02
CHOOSE_ANOTHER: Final = f"choose another with {spelled('data_dir')}"
NAMES_SHOWN_MAX: Final = 3


class DataFolderError(RuntimeError):
    """The folder cannot be used; the message says why and what to do."""


class DataFolderInUseError(DataFolderError):
    """Another server owns the folder."""


class DataFolder:
    """Paths below one data folder. Use ``acquire`` before touching anything in it.

    Args:
        beside: Files of whoever starts the server that may lie in a new folder, such as the ready file.
    """

    def __init__(self, root: Path, *, beside: Collection[Path] = ()) -> None:
        self.root = root.absolute()
        self._beside = {path.absolute() for path in beside}
        self._lock_fd: int | None = None

    @property
    def postgres(self) -> Path:
        """The embedded database."""
        return self.root / "postgres"

    @property
    def has_database(self) -> bool:
        return (self.postgres / "PG_VERSION").is_file()

    @property
    def store(self) -> Path:
        """The embedded object store."""
        return self.root / "store"

    @property
    def scratch(self) -> Path:
        """Files of the running server only; emptied at start."""
        return self.root / "scratch"

    @property
    def numba_cache(self) -> Path:
        """Compiled kernels; may be deleted at any time."""
        return self.root / "numba"

    @property
    def object_cache(self) -> Path:
        """Copies of objects of a store that is far away; may be deleted while no server runs."""
        return self.root / "objects"

    @property
    def tls(self) -> Path:
        """The certificate that the server made itself."""
        return self.root / "tls"

    @property
    def announcement(self) -> Path:
        """Where the running server says where it answers."""
        return self.root / "server.json"

    # --- looking: makes and changes nothing ---

    def owner(self) -> str | None:
        """Who holds the lock; ``None`` if nobody does."""
        try:
            lock_fd = os.open(self.root / LOCK_FILE, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            fcntl.flock(lock_fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _named_in(lock_fd)
        finally:
            os.close(lock_fd)
        return None

    def check_contents(self) -> None:
        """See that the folder is absent, new, or a lake's.

        Raises:
            DataFolderError: It has something else in it, or cannot be looked into.
        """
        if (link := dangling_link(self.root)) is not None:
            raise DataFolderError(f"the data folder {self.root} cannot be used: {link}; {CHOOSE_ANOTHER}")
        try:
            strangers = [] if self._is_marked() else self._strangers()
        except FileNotFoundError:
            return
        except OSError as error:
            raise self._unusable(error) from error
        if strangers:
            more = ", ..." if len(strangers) > NAMES_SHOWN_MAX else ""
            raise DataFolderError(
                f"{self.root} is not empty and is not a data folder of lakeflight (it has"
                f" {', '.join(strangers[:NAMES_SHOWN_MAX])}{more}): {CHOOSE_ANOTHER}"
            )

    # --- owning ---

    def acquire(self) -> None:
        """Make the folder, take its lock, empty ``scratch``.

        Raises:
            DataFolderInUseError: Somebody else holds the lock; the message names the folder and the owner.
            DataFolderError: It is not a lake's, or cannot be written.
        """
        self.check_contents()
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            lock_fd = os.open(self.root / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise self._unusable(error) from error
        try:
            _lock(lock_fd)
        except BlockingIOError as error:
            who = _named_in(lock_fd)
            os.close(lock_fd)
            raise DataFolderInUseError(
                f"the data folder {self.root} is in use by {who}: stop it, or {CHOOSE_ANOTHER}"
            ) from error
        except BaseException:
            os.close(lock_fd)
            raise
        try:
            self._sign(lock_fd)
            self._empty_scratch()
        except OSError as error:
            os.close(lock_fd)
            raise self._unusable(error) from error
        self._lock_fd = lock_fd

    def release(self) -> None:
        """Give the folder up; harmless if it was not held."""
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None

    def _empty_scratch(self) -> None:
        if self.scratch.is_dir():
            shutil.rmtree(self.scratch)
        self.scratch.mkdir(mode=0o700)

    def _sign(self, lock_fd: int) -> None:
        """Write our pid into the lock: in one piece, and durably before anything else is made in the folder."""
        signed_before = _is_signature(os.pread(lock_fd, LOCK_BYTES_MAX + 1, 0))
        os.pwrite(lock_fd, f"{os.getpid()}".ljust(LOCK_BYTES_MAX - 1).encode() + b"\n", 0)
        os.ftruncate(lock_fd, LOCK_BYTES_MAX)
        if not signed_before:
            os.fsync(lock_fd)
            fsync_folder(self.root)

    def _is_marked(self) -> bool:
        """Whether a server has owned it before: its lock says so, or what it keeps, if a crash or a backup lost that."""
        lock = self.root / LOCK_FILE
        with contextlib.suppress(FileNotFoundError):
            status = os.lstat(lock)
            if stat.S_ISREG(status.st_mode) and status.st_size <= LOCK_BYTES_MAX and _is_signature(lock.read_bytes()):
                return True
        return self.has_database or has_blobs(self.store)

    def _strangers(self) -> list[str]:
        """What is in the folder and comes neither with a disk nor from whoever starts a server in it."""
        ours = [os.fstat(number) for number in (1, 2) if _is_open(number)]
        return sorted(entry.name for entry in os.scandir(self.root) if not self._may_lie_there(entry, ours))

    def _may_lie_there(self, entry: os.DirEntry[str], outputs: Collection[os.stat_result]) -> bool:
        if entry.name == "lost+found":
            return True
        if not entry.is_file(follow_symlinks=False):
            return False
        if entry.name == LOCK_FILE:  # of a start that was killed, or lost its power, before it wrote its pid
            return entry.stat().st_size <= LOCK_BYTES_MAX and not Path(entry.path).read_bytes().strip(b"\0")
        return (
            entry.name.startswith(".")
            or entry.name.endswith((".log", ".pid"))
            or Path(entry.path) in self._beside
            or any(os.path.samestat(output, entry.stat()) for output in outputs)
        )

    def _unusable(self, error: OSError) -> DataFolderError:
        reason = (error.strerror or str(error)).lower()
        at = f" ({error.filename})" if error.filename and Path(str(error.filename)) != self.root else ""
        return DataFolderError(f"the data folder {self.root} cannot be used: {reason}{at}; {CHOOSE_ANOTHER}")


def has_blobs(store: Path) -> bool:
    """Whether something was ever ingested into a store; its files are ``blobs/<process>/<stream>/<block>``."""
    return any(files for _, _, files in os.walk(store / "blobs"))


def dangling_link(path: Path) -> str | None:
    """Of a path whose way leads over a link to nothing, which nothing can be made behind: which one it is."""
    for place in (path, *path.parents):
        if place.is_symlink() and not place.exists():
            return f"{place} is a link to {os.readlink(place)}, which is not there"
    return None


def fsync_folder(folder: Path) -> None:
    """Make durable what was made, renamed or removed directly in a folder."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _is_signature(content: bytes) -> bool:
    return re.fullmatch(rb"\d+\s*", content) is not None


def _lock(fd: int) -> None:
    for left in reversed(range(LOCK_TRIES)):
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if not left:
                raise
            time.sleep(LOCK_PAUSE_S)


def _named_in(lock_fd: int) -> str:
    owner = os.pread(lock_fd, LOCK_BYTES_MAX, 0).decode("ascii", "replace").strip()
    return f"process {owner}" if owner.isdigit() else "another process"


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True
