"""An object that is on its way into a local file: digested and written in threads, while the loop reads what comes next.

A digest takes a millisecond for each megabyte, and writing it as long. On the loop, which has the requests of everybody, all
other transfers would wait for that; in threads both have a processor of their own.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from pathlib import Path
from typing import Final

from lakehouse.storage.cache_folder import cache_errors

WRITTEN_AT_ONCE_BYTES: Final = 1 << 20  # of each transfer twice as much is in memory: what is written, and what comes
PARTS_MAX: Final = 1_000  # that the system writes with one call; a store may send few bytes at a time


class Arrival:
    """One try of a transfer into a file that is there already. To be closed in any case."""

    def __init__(self, path: Path) -> None:
        self.size = 0  # bytes that came
        self._file = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        self._digest = hashlib.sha256()
        self._parts: list[bytes] = []
        self._waiting = 0
        self._writing: asyncio.Future[None] | None = None

    async def take(self, part: bytes) -> None:
        """The next bytes. Returns at once, unless those before are not written yet."""
        self.size += len(part)
        self._parts.append(part)
        self._waiting += len(part)
        if self._waiting >= WRITTEN_AT_ONCE_BYTES or len(self._parts) >= PARTS_MAX:
            await self._written()
            self._writing = self._begin()

    async def finish(self) -> str:
        """SHA-256 over all of it, once it is written.

        Raises:
            BackendUnavailableError: The file cannot be written.
        """
        await self._written()
        if self._parts:
            self._writing = self._begin()
            await self._written()
        return self._digest.hexdigest()

    async def aclose(self) -> None:
        if self._writing is None:
            os.close(self._file)
        else:  # a thread is not stopped by whoever waits for it
            self._writing.add_done_callback(self._leave)

    async def _written(self) -> None:
        if self._writing is not None:
            await asyncio.shield(self._writing)
            self._writing = None

    def _leave(self, writing: asyncio.Future[None]) -> None:
        os.close(self._file)
        if not writing.cancelled():
            writing.exception()  # somebody has seen it, or nobody waits any more

    def _begin(self) -> asyncio.Future[None]:
        parts, self._parts, self._waiting = self._parts, [], 0
        return asyncio.get_running_loop().run_in_executor(None, self._write, parts)

    def _write(self, parts: list[bytes]) -> None:
        for part in parts:
            self._digest.update(part)
        with cache_errors():
            left = [memoryview(part) for part in parts]
            while left:
                count = os.writev(self._file, left)
                while left and count >= len(left[0]):
                    count -= len(left.pop(0))
                if count:
                    left[0] = left[0][count:]
