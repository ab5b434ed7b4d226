"""What paused readers have not taken yet, in files of the scratch folder: as much as a budget allows, and no byte more.

A file has no name from its first moment on, so a crash leaves nothing. Frames are written at its end and read once, in
order; what was read is given back to the disk at once. Whoever keeps frames in memory for a reader that pauses counts
them here, too. Every access to the disk happens in a few threads of its own: a slow disk holds up spools alone. Only how
much of it is free is asked for in passing, now and then.
"""

from __future__ import annotations

import asyncio
import math
import os
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import structlog

from server.workers.ring import give_back

log = structlog.get_logger(__name__)

T = TypeVar("T")
THREADS: Final = 4  # two disks' worth; more would only queue in the kernel
DISK_LOOK_S: Final = 1.0  # between looks at how much of the disk is free: a slow one holds up everybody meanwhile …
DISK_LOOK_BYTES: Final = 64 << 20  # … and so much, that is taken meanwhile, has one more look
FREE_BYTES_MIN: Final = 1 << 30  # of the disk: the database and the store may be on it, and come first


@dataclass(frozen=True, slots=True)
class SpoolLimits:
    """What the results of paused readers may keep."""

    folder: Path | None = None  # ``None``: the system's folder for temporary files
    bytes_max: int = 8 << 30  # in all
    bytes_per_identity_max: int = 4 << 30
    free_bytes_min: int = FREE_BYTES_MIN


class SpoolBudget:
    """The bytes that are kept, by identity, and the threads that move them."""

    def __init__(self, limits: SpoolLimits) -> None:
        self.limits = limits
        self.kept_bytes = 0
        self._of_identity: Counter[str] = Counter()
        self._free_bytes = 0  # of the disk, when it was looked at, less what was taken since
        self._look_at, self._look_below_bytes = -math.inf, 0
        self._folder = str(limits.folder or tempfile.gettempdir())
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="spool")

    def take(self, identity: str, size: int) -> str | None:
        """Count bytes that will be kept. Not counted, for the reason given in return, if they may not be."""
        limits = self.limits
        if self._of_identity[identity] + size > limits.bytes_per_identity_max:
            return (
                f"the {limits.bytes_per_identity_max} bytes that half-read results of one identity may keep are used up"
            )
        if self.kept_bytes + size > limits.bytes_max:
            return f"the {limits.bytes_max} bytes that half-read results may keep on this server are used up"
        if not self._look_at_disk():
            return "the server has no disk to keep half-read results on"
        if self._free_bytes - size < limits.free_bytes_min:
            return "the server's disk has no room for half-read results"
        self._free_bytes -= size
        self.kept_bytes += size
        self._of_identity[identity] += size
        return None

    def _look_at_disk(self) -> bool:
        """Unless that was a moment ago; whether there is one."""
        now = time.monotonic()
        if now < self._look_at and self._free_bytes >= self._look_below_bytes:
            return True
        try:
            disk = os.statvfs(self._folder)
        except OSError:
            return False
        self._free_bytes = disk.f_bavail * disk.f_frsize
        self._look_at, self._look_below_bytes = now + DISK_LOOK_S, self._free_bytes - DISK_LOOK_BYTES
        return True

    def give(self, identity: str, size: int) -> None:
        """They are kept no longer."""
        self.kept_bytes -= size
        self._of_identity[identity] -= size
        if not self._of_identity[identity]:
            del self._of_identity[identity]

    def open_spool(self) -> Spool:
        return Spool(self._folder, self._threads)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


class Spool:
    """One reader's file. Calls of it may overlap; it is closed once the last of them is over."""

    def __init__(self, folder: str, threads: ThreadPoolExecutor) -> None:
        self._folder, self._threads = folder, threads
        self._fd = -1
        self._opening = threading.Lock()  # writes overlap, and the first of them opens the file
        self._end = 0
        self._under_way = 0
        self._closing = False

    async def write(self, frame: bytes) -> int:
        """Put a frame at the end of the file; returns its place.

        Raises:
            OSError: The disk does not take it.
        """
        offset, self._end = self._end, self._end + len(frame)
        await self._in_thread(self._write, frame, offset)
        return offset

    async def read(self, offset: int, length: int) -> bytes:
        """A frame, which is gone from the file afterwards.

        Raises:
            OSError: The disk does not have it any more.
        """
        return await self._in_thread(self._read, offset, length)

    async def forget(self, offset: int, length: int) -> None:
        """Nobody will read this frame."""
        await self._in_thread(give_back, self._fd, offset, length)

    def close(self) -> None:
        """Give the disk back. Synchronous, because its reader's task may be being cancelled."""
        self._closing = True
        if not self._under_way:
            self._shut()

    async def _in_thread(self, work: Callable[..., T], *arguments: Any) -> T:
        if self._closing:
            raise OSError("the spool is closed")
        self._under_way += 1
        future = asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)
        future.add_done_callback(self._over)  # also when nobody waits for it any more
        return await asyncio.shield(future)

    def _over(self, future: asyncio.Future[Any]) -> None:
        if not future.cancelled():
            future.exception()
        self._under_way -= 1
        if self._closing and not self._under_way:
            self._shut()

    def _shut(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            try:
                self._threads.submit(os.close, fd)  # which frees what is left, and takes a while for a large file
            except RuntimeError:  # the threads have ended: the server does
                os.close(fd)

    def _write(self, frame: bytes, offset: int) -> None:
        with self._opening:
            if self._fd < 0:
                self._fd = _nameless(self._folder)
        written = memoryview(frame)
        while written:
            count = os.pwrite(self._fd, written, offset)
            written, offset = written[count:], offset + count

    def _read(self, offset: int, length: int) -> bytes:
        parts, end = [], offset + length
        place = offset
        while place < end:
            part = os.pread(self._fd, end - place, place)
            if not part:
                raise OSError("the spool is cut off")
            parts.append(part)
            place += len(part)
        give_back(self._fd, offset, length)
        return parts[0] if len(parts) == 1 else b"".join(parts)


def _nameless(folder: str) -> int:
    """A file that is gone with its descriptor."""
    try:
        return os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError:  # not every file system can
        fd, path = tempfile.mkstemp(prefix="spool-", dir=folder)
        os.unlink(path)
        return fd
