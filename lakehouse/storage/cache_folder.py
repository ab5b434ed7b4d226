"""The folder of a cache, as several processes share it: which copies are held, who is filling one, how many bytes there are.

Nothing here relies on a process coming to its end. What one holds are locks of the kernel, which go with it however it dies:
a shared one on a byte of a lock file for each copy that is read, an exclusive one for each that is being filled, and one that
says that the process lives. (Locks of open files would take a descriptor for each copy that a query reads, and links in a
folder of each process somebody to remove them after a kill; these cost neither. They belong to an open file and not to a
process, so that two caches in one process are strangers to each other.) The bytes are counted before they are written, so the
count is never too low, and what a kill leaves of it is put right by the next look at the folder, before anything is refused.

    copies/NAME          whole, and as it was stored
    parts/NAME.PROCESS   being filled; already as long as it will be
    locks/00 … 3f        no content, locks alone
    ledger               the bytes of copies and parts, as 8 bytes
    boot                 which start of the machine the copies are from

All calls block, for microseconds but for ``open`` and ``reserve``. The folder is of one machine: locks reach no further.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import struct
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from lakehouse.errors import BackendUnavailableError, LimitExceededError

LOCK_FILES: Final = 64  # the kernel looks through all locks of a file for each that is taken
LEDGER_WAIT_S: Final = 10.0  # it is held for a look at the folder at most, unless its holder is stopped
LEDGER_PAUSE_S: Final = 0.002
BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_NAME: Final = re.compile(r"[0-9a-f]{32,64}")
_DISK_FULL: Final = (errno.ENOSPC, errno.EDQUOT)
_FLOCK: Final = struct.Struct("@hhqqi4x")  # of fcntl(2): kind, whence, start, length, no process
_COUNT: Final = struct.Struct("<q")


class _Copy(NamedTuple):
    used_ns: int
    name: str
    size: int


class CacheFolder:
    """What one process sees and holds of it. ``reserve`` may be called from any thread, all else from one."""

    def __init__(self, folder: Path, bytes_max: int) -> None:
        self._folder, self._bytes_max = folder, bytes_max
        self._copies, self._parts = folder / "copies", folder / "parts"
        self._token = uuid.uuid4().hex
        self._holding = _Locks(folder / "locks")
        self._trying = _Locks(folder / "locks")  # another owner, so that what is held here is met like what others hold
        self._ledger: int | None = None
        self._mutex = threading.Lock()
        self._oldest: deque[_Copy] = deque()  # as they were at the last look
        self.evicted_files = self.evicted_bytes = 0

    def open(self) -> None:
        """Make the folder, remove what cannot be believed, count the rest and make it fit. Again after it failed.

        Raises:
            BackendUnavailableError: It cannot be written.
        """
        with cache_errors():
            for folder in (self._copies, self._parts, self._folder / "locks"):
                folder.mkdir(parents=True, exist_ok=True)
            self._holding.exclude(self._token)
            if self._ledger is None:
                self._ledger = os.open(self._folder / "ledger", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            with self._counting():
                self._leave_earlier_boot()
                self._look()
                with contextlib.suppress(LimitExceededError):  # what is held goes when it is released
                    self._make_room(0)

    def close(self) -> None:
        self._holding.close()
        self._trying.close()
        if self._ledger is not None:
            os.close(self._ledger)
            self._ledger = None

    @property
    def bytes_kept(self) -> int:
        """Of copies, and of what is being fetched; less, if something was killed or removed by hand since the last look."""
        return 0 if self._ledger is None else self._count()

    def path(self, name: str) -> Path:
        return self._copies / name

    # --- one copy ---

    def hold(self, name: str) -> bool:
        """Keep the copy from being removed, if it is there or comes. False: somebody is removing it right now."""
        with cache_errors():
            return self._holding.share(name)

    def release(self, name: str) -> None:
        with contextlib.suppress(OSError):
            self._holding.release(name)

    def use(self, name: str) -> bool:
        """Whether the copy is there; it is the one used last from now on."""
        path = self._copies / name
        try:
            # Not the time of change: by that one knows whether something was done to a file since one looked into it.
            os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns))
        except FileNotFoundError:
            return False
        except OSError:
            return path.exists()  # it can be read and not be marked
        return True

    def begin_filling(self, name: str) -> bool:
        """Whether nobody else is at it."""
        with cache_errors():
            return self._holding.exclude(name, 1)

    def end_filling(self, name: str) -> None:
        with contextlib.suppress(OSError):
            self._holding.release(name, 1)

    def reserve(self, name: str, size: int, is_wanted: Callable[[], bool]) -> Path:
        """A file of this size to write a copy into, for which others made room.

        Args:
            is_wanted: Not any more, if ``give_up`` came first: then there is none.

        Raises:
            LimitExceededError: There is none, because too much is held.
            BackendUnavailableError: The disk is full, or the folder cannot be written.
        """
        part = self._part(name)
        with cache_errors(), self._counting():
            if _size_of(part) == size:
                return part  # another try
            part.unlink(missing_ok=True)
            self._make_room(size)
            self._set_count(self._count() + size)
            while True:
                try:
                    _allocate(part, size)
                    break
                except OSError as error:
                    part.unlink(missing_ok=True)
                    if error.errno not in _DISK_FULL or not self._evict_for_the_disk(size):
                        raise
            if not is_wanted():
                part.unlink(missing_ok=True)
            return part

    def publish(self, name: str, size: int) -> bool:
        """Have the copy from now on. False: it is not as long as it should be."""
        with cache_errors():
            part = self._part(name)
            if _size_of(part) != size:
                return False
            part.rename(self._copies / name)
            return True

    def give_up(self, name: str) -> None:
        with contextlib.suppress(OSError):
            self._part(name).unlink(missing_ok=True)

    def remove(self, name: str) -> None:
        """Also if it is held: who has it open keeps it."""
        with contextlib.suppress(OSError):
            (self._copies / name).unlink()

    # --- all of them: with the ledger held ---

    def _part(self, name: str) -> Path:
        return self._parts / f"{name}.{self._token}"

    @contextlib.contextmanager
    def _counting(self) -> Iterator[None]:
        assert self._ledger is not None
        with self._mutex:
            deadline = time.monotonic() + LEDGER_WAIT_S
            while not _lock(self._ledger, fcntl.F_WRLCK, 0):
                if time.monotonic() > deadline:
                    raise BackendUnavailableError("another server on this machine holds the local cache: ask again")
                time.sleep(LEDGER_PAUSE_S)
            try:
                yield
            finally:
                _lock(self._ledger, fcntl.F_UNLCK, 0)

    def _count(self) -> int:
        assert self._ledger is not None
        found = os.pread(self._ledger, _COUNT.size, 0)
        return int(_COUNT.unpack(found)[0]) if len(found) == _COUNT.size else 0

    def _set_count(self, count: int) -> None:
        assert self._ledger is not None
        os.pwrite(self._ledger, _COUNT.pack(count), 0)

    def _make_room(self, needed: int) -> None:
        for is_last in (False, True):
            while self._count() + needed > self._bytes_max and self._evict_oldest():
                pass
            if self._count() + needed <= self._bytes_max:
                return
            if not is_last:
                self._look()
        raise LimitExceededError(
            f"the files that running statements read take more than the {self._bytes_max} bytes of the local cache:"
            " ask for a shorter time range, or again when others are done"
        )

    def _evict_for_the_disk(self, needed: int) -> bool:
        """Whether copies went that took as much, since something else fills the disk."""
        self._look()
        freed, before = 0, self.evicted_bytes
        while freed < needed and self._evict_oldest():
            freed = self.evicted_bytes - before
        return freed >= needed > 0

    def _evict_oldest(self) -> bool:
        """Whether one went that nobody holds and that was not used since the last look."""
        while self._oldest:
            copy = self._oldest.popleft()
            path = self._copies / copy.name
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_atime_ns == copy.used_ns and self._unlink_unheld(copy.name):
                    self._set_count(self._count() - copy.size)
                    self.evicted_files += 1
                    self.evicted_bytes += copy.size
                    return True
        return False

    def _unlink_unheld(self, name: str) -> bool:
        if not self._trying.exclude(name):
            return False
        try:
            (self._copies / name).unlink()
        finally:
            self._trying.release(name)
        return True

    def _look(self) -> None:
        """Count what is there, without the parts of processes that are gone."""
        total = 0
        for entry in os.scandir(self._parts):
            token = entry.name.rpartition(".")[2]
            with contextlib.suppress(FileNotFoundError):
                if not _NAME.fullmatch(token):
                    continue  # not of a cache
                if self._trying.exclude(token):
                    self._trying.release(token)
                    os.unlink(entry.path)
                else:
                    total += entry.stat().st_size
        found = []
        for entry in os.scandir(self._copies):
            with contextlib.suppress(FileNotFoundError):
                status = entry.stat(follow_symlinks=False)
                if _NAME.fullmatch(entry.name):
                    found.append(_Copy(status.st_atime_ns, entry.name, status.st_size))
        self._oldest = deque(sorted(found))
        self._set_count(total + sum(copy.size for copy in found))

    def _leave_earlier_boot(self) -> None:
        """Copies are not synced, so after a loss of power they may be anything. A kill harms none of them."""
        mark = self._folder / "boot"
        try:
            now = BOOT_ID.read_text()
            if mark.exists() and mark.read_text() == now:
                return
        except FileNotFoundError:
            now = ""  # nobody knows
        for entry in os.scandir(self._copies):
            if _NAME.fullmatch(entry.name):
                self._unlink_unheld(entry.name)
        mark.write_text(now)  # of a torn one nothing is believed


class _Locks:
    """Locks of one owner on bytes of a few files, each named by a hexadecimal text and which of its two bytes it is."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[int, int] = {}

    def share(self, name: str) -> bool:
        return self._set(fcntl.F_RDLCK, name, 0)

    def exclude(self, name: str, which: int = 0) -> bool:
        return self._set(fcntl.F_WRLCK, name, which)

    def release(self, name: str, which: int = 0) -> None:
        self._set(fcntl.F_UNLCK, name, which)

    def close(self) -> None:
        while self._files:
            os.close(self._files.popitem()[1])

    def _set(self, kind: int, name: str, which: int) -> bool:
        number = int(name[:2], 16) % LOCK_FILES
        file = self._files.get(number)
        if file is None:
            path = self._folder / f"{number:02x}"
            file = self._files[number] = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        return _lock(file, kind, 2 * int(name[2:17], 16) + which)


def _lock(file: int, kind: int, at: int) -> bool:
    """Whether the lock was to be had at once."""
    try:
        fcntl.fcntl(file, fcntl.F_OFD_SETLK, _FLOCK.pack(kind, os.SEEK_SET, at, 1, 0))
    except (BlockingIOError, PermissionError):
        return False
    return True


def _allocate(path: Path, size: int) -> None:
    """A new file whose bytes the disk has."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        if size:
            os.posix_fallocate(file, 0, size)
    finally:
        os.close(file)


def _size_of(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


@contextlib.contextmanager
def cache_errors() -> Iterator[None]:
    """What the system says of the folder, in words that name no path."""
    try:
        yield
    except OSError as error:
        if error.errno in _DISK_FULL:
            raise BackendUnavailableError("the disk of the local cache is full: make room, and ask again") from error
        reason = os.strerror(error.errno).lower() if error.errno else "it does not answer"
        raise BackendUnavailableError(f"the local cache cannot be written: {reason}") from error
